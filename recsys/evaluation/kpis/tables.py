"""What KPIs are computed from: order lines net of returns and the event log, as tables on the caller's connection."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import ibis
import pandas as pd
import pyarrow as pa
from ibis.backends.duckdb import Backend

from recsys.contracts import columns as c
from recsys.contracts.events import EventQuery, TableName
from recsys.contracts.tables import COMPLETED, ORDERS
from recsys.data.checks import REMAINING, net_reversals
from recsys.data.cleaning import figure_currency
from recsys.data.sources import arrow_table
from recsys.data.times import as_time, naive_utc
from recsys.errors import EmptyDataError, MissingColumnError

if TYPE_CHECKING:
    from recsys.events.store import EventStore


@dataclass(frozen=True)
class TempTables:
    """Keeps expressions as temporary tables.

    Attributes:
        connection: where they lie.
        until: leaving this stack drops them, the last one first.
    """

    connection: Backend
    until: ExitStack

    def keep(self, table: ibis.Table, name: str) -> ibis.Table:
        """Return an expression computed once."""
        unique = ibis.util.gen_name(f"kpi_{name}")
        kept = self.connection.create_table(unique, table, temp=True)
        self.until.callback(self.connection.drop_table, unique, force=True)
        return kept

    def load(self, table: ibis.Table | pa.Table | pd.DataFrame, name: str) -> ibis.Table:
        """Return a frame, an Arrow table or an expression as a table here; times become UTC without a zone mark."""
        given = table if isinstance(table, ibis.Table) else ibis.memtable(arrow_table(table))
        here = given if isinstance(table, ibis.Table) else self.keep(given, name)
        times = {item: as_time(here[item]) for item, kind in here.schema().items() if kind.is_timestamp()}
        return here.mutate(**times) if times else here


Table: TypeAlias = ibis.Table | pa.Table | pd.DataFrame

_OFFER_COLUMNS = ("decision_id", "account_id", "shown", "rank", "product_id", "kind", "presented_at")
_DECISION_COLUMNS = (
    "decision_id", "decided_at", "account_id", "channel", "surface", "experiment_id", "arm", "shown",
)  # fmt: skip
_OUTCOME_COLUMNS = ("decision_id", "product_id", "kind", "occurred_at", "actor_id")
_LINE_COLUMNS = (
    "order_id", "line_id", "account_id", "product_id", "ordered_at", "quantity", "unit_price", "discount", "currency",
    "channel", "status",
)  # fmt: skip


@dataclass(frozen=True)
class EventTables:
    """The event log as tables.

    Attributes:
        decisions: one row a decision: at least `decision_id channel surface`; with `account_id decided_at shown
            experiment_id arm` the randomised effect on AOV stands beside the AOV increase.
        decision_offers: one row a returned offer: at least `decision_id account_id shown rank product_id kind
            presented_at`; `presented_at` is null where the offer was never presented.
        outcomes: one row an outcome: at least `decision_id product_id kind occurred_at actor_id`.
        order_lines: orders that were posted to the server, in contract columns; None without any.
    """

    decisions: Table
    decision_offers: Table
    outcomes: Table
    order_lines: Table | None = None


def read_events(store: EventStore) -> EventTables:
    """Return what KPIs need of an event store."""

    def read(table: TableName, columns: tuple[str, ...]) -> pa.Table:
        return store.read(EventQuery(table, columns=columns))

    return EventTables(
        decisions=read("decisions", _DECISION_COLUMNS),
        decision_offers=read("decision_offers", _OFFER_COLUMNS),
        outcomes=read("outcomes", _OUTCOME_COLUMNS),
        order_lines=read("order_lines", _LINE_COLUMNS),
    )


class SettledLines(NamedTuple):
    """Sale lines that nobody took back.

    Attributes:
        lines: order, account, product, time, units, money.
        currency: of the money; None where neither the lines nor the caller say.
        left_out: a sentence about the lines that are in another currency; None without any.
    """

    lines: ibis.Table
    currency: str | None
    left_out: str | None


def net_order_lines(
    scratch: TempTables, orders: Table, posted: Table | None, as_of: datetime, currency: str | None = None
) -> SettledLines:
    """Return the sale lines before `as_of` that nobody took back, in one currency.

    Lines of `posted` whose order and line stand in `orders` too count once. `orders` may be net of reversals already;
    a posted reversal counts if it is later than the last of `orders`, or stands alone.

    Raises:
        CurrencyError: the lines are in several currencies and none was chosen, or none is in the one chosen.
    """
    lines = _contract(scratch.load(orders, "orders"))
    if posted is not None:
        lines = _merged(lines, _contract(scratch.load(posted, "posted")))
    before, currency, left_out = _in_one_currency(lines.filter(lines[c.ORDERED_AT] < naive_utc(as_of)), currency)
    asked = before.agg(
        rows=before.count(),
        least=before[c.QUANTITY].min(),
        withdrawn=(before[c.STATUS].fill_null(COMPLETED) != COMPLETED).sum(),
    )
    found = asked.to_pyarrow().to_pylist()[0]
    if not found["rows"]:
        raise EmptyDataError(f"no order line before as_of == {as_of:%Y-%m-%d %H:%M}; give orders or a later as_of")
    if found["least"] > 0 and not found["withdrawn"]:
        return SettledLines(_money(before), currency, left_out)
    return SettledLines(_money(_net(scratch, before)), currency, left_out)


def _in_one_currency(lines: ibis.Table, chosen: str | None) -> SettledLines:
    counts = lines.group_by(c.CURRENCY).agg(n=lines.count()).to_pyarrow().to_pylist()
    currency, left_out = figure_currency({row[c.CURRENCY]: row["n"] for row in counts}, chosen, "order lines")
    kept = lines if left_out is None else lines.filter(lines[c.CURRENCY] == currency)
    return SettledLines(kept, currency, left_out)


def _contract(table: ibis.Table) -> ibis.Table:
    """The columns that are needed, with the contract's defaults for those that are not there."""
    missing = [name for name in ORDERS.required if name not in table.columns]
    if missing:
        raise MissingColumnError(
            f"orders: no column {', '.join(missing)}; found {', '.join(table.columns)}; map them to the contract first"
        )
    absent = {
        c.LINE_ID: ibis.null("string"),
        c.CURRENCY: ibis.null("string"),
        c.CHANNEL: ibis.null("string"),
        c.DISCOUNT: ibis.literal(0.0),
        c.STATUS: ibis.literal(COMPLETED),
    }
    have = {name: table[name] if name in table.columns else absent[name] for name in _LINE_COLUMNS}
    have |= {name: have[name].cast("float64") for name in (c.QUANTITY, c.UNIT_PRICE, c.DISCOUNT)}
    return table.select(**have)


def _merged(lines: ibis.Table, posted: ibis.Table) -> ibis.Table:
    key = [c.ORDER_ID, c.LINE_ID]
    known = lines.filter(lines[c.LINE_ID].notnull())
    last = lines.agg(last=lines[c.ORDERED_AT].max()).as_scalar()
    fresh = posted.anti_join(known, key)
    # A reversal that the export knows was taken off its sale there, and its own line is gone.
    fresh = fresh.filter((fresh[c.QUANTITY] > 0) | (fresh[c.ORDERED_AT] > last) | last.isnull())
    return lines.union(fresh.select(lines.columns))


def _net(scratch: TempTables, lines: ibis.Table) -> ibis.Table:
    """Without what was withdrawn, and with reversals taken off the sales they reverse."""
    withdrawn = (lines[c.STATUS].fill_null(COMPLETED) != COMPLETED) & (lines[c.QUANTITY] > 0)
    kept = lines.filter(~withdrawn)
    numbered = scratch.keep(kept.mutate(ibis.row_number().name(c.SOURCE_ROW)), "numbered")
    netted = scratch.keep(net_reversals(numbered), "netted")
    joined = numbered.left_join(netted.select(c.SOURCE_ROW, REMAINING), c.SOURCE_ROW)
    units = joined[REMAINING].fill_null(joined[c.QUANTITY])
    shares = {c.DISCOUNT: joined[c.DISCOUNT].fill_null(0.0) * (units / joined[c.QUANTITY]), c.QUANTITY: units}
    sales = joined.mutate(**shares)
    return sales.filter(sales[c.QUANTITY] > 0)


def _money(lines: ibis.Table) -> ibis.Table:
    revenue = lines[c.QUANTITY] * lines[c.UNIT_PRICE].fill_null(0.0) - lines[c.DISCOUNT].fill_null(0.0)
    return lines.select(
        c.ORDER_ID, c.ACCOUNT_ID, c.PRODUCT_ID, c.ORDERED_AT, c.CHANNEL, units=lines[c.QUANTITY], revenue=revenue
    )
