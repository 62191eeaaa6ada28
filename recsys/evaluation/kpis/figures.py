"""All figures of a report: cells by segment and period, and the registry's formulas worked out on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import ibis

from recsys.data.times import naive_utc
from recsys.errors import DataError, EmptyDataError
from recsys.evaluation.kpis.attribution import Attribution
from recsys.evaluation.kpis.config import KpiConfig, label_of, number_of
from recsys.evaluation.kpis.definition import LOG_DIMENSIONS, PRODUCT_DIMENSIONS, Basis, Dimension, KpiDefinition
from recsys.evaluation.kpis.formulas import FORMULAS, Additional, KpiSums
from recsys.evaluation.kpis.lifetime import LifetimeSums, lifetime_figures
from recsys.evaluation.kpis.registry import REGISTRY
from recsys.evaluation.kpis.sales import Sales
from recsys.evaluation.kpis.sums import (
    GROUP,
    Row,
    Scope,
    attributed_sums,
    bases_of,
    by_scope,
    cell_of,
    grouped_rows,
    offer_sums,
    order_rows,
    product_rows,
    sum_rows,
)
from recsys.evaluation.kpis.tables import TempTables
from recsys.evaluation.kpis.values import KpiValue, Missing

_HOLDING: tuple[Dimension, ...] = ("product", "category", "segment", "region", "owner")
_CHANGING: tuple[Dimension, ...] = ("channel", "key_account")
"""An account can stand in several of their groups: its pairs with products are counted anew in each."""


@dataclass(frozen=True)
class KpiAggregates:
    """The cells.

    Attributes:
        cells: by dimension (None: overall) and scope.
        periods: numbers of the periods of the range, without gaps.
        start: the first order in the range, UTC without a zone mark.
        left_out: dimension and how many of its groups are not among the cells.
        judged_share: share of the new sales to existing customers whose product has a family.
        rows: one row an order, of the range and before it, that the overall cells sum.
    """

    cells: dict[Dimension | None, dict[Scope, KpiSums]]
    periods: tuple[int, ...]
    start: datetime
    left_out: tuple[tuple[Dimension, int], ...]
    judged_share: float
    rows: ibis.Table

    @property
    def overall(self) -> KpiSums:
        """Everything in the range."""
        return self.cells[None][Scope(None, None)]


def aggregate(
    scratch: TempTables,
    sales: Sales,
    log: Attribution | None,
    *,
    since: datetime | None,
    as_of: datetime,
    config: KpiConfig,
) -> KpiAggregates:
    """Return the cells of everything that the configuration asks for.

    Raises:
        EmptyDataError: no order lies in the range.
    """
    work = _Work(scratch, sales, log, since, as_of, config)
    cells: dict[Dimension | None, dict[Scope, KpiSums]] = {None: work.overall()}
    left_out: list[tuple[Dimension, int]] = []
    for dimension in config.by:
        if dimension in LOG_DIMENSIONS:
            cells[dimension] = work.by_log(dimension, cells[None])
            continue
        cells[dimension], n_cut = work.by_segment(dimension, config.max_groups)
        if n_cut:
            left_out.append((dimension, n_cut))
    return KpiAggregates(cells, work.periods, work.start, tuple(left_out), work.judged_share(), work.rows)


class _Work:
    """The rows of one computation and what is asked of them."""

    def __init__(
        self,
        scratch: TempTables,
        sales: Sales,
        log: Attribution | None,
        since: datetime | None,
        as_of: datetime,
        config: KpiConfig,
    ) -> None:
        self._scratch, self._sales, self._log, self._since = scratch, sales, log, since
        self._bases: tuple[Basis, ...] = bases_of(log)
        self.rows = scratch.keep(order_rows(sales, log), "rows")
        self._recent = self._in_range(self.rows)
        found = self._recent.agg(period=self._recent["period"].min(), start=self._recent["ordered_at"].min())
        first = found.to_pyarrow().to_pylist()[0]
        if first["start"] is None:
            raise EmptyDataError(f"no order since {since:%Y-%m-%d}; give an earlier since")
        self.start: datetime = first["start"]
        last = number_of(as_of - timedelta(microseconds=1), config.period)
        self.periods = _checked_periods(first["period"], last, first["start"], config)

    def overall(self) -> dict[Scope, KpiSums]:
        """Return the cells of all segments together."""
        sums = self._sum(self._recent, [], self.rows) | self._sum(self._recent, ["period"], self.rows)
        self._add_held(sums, self.rows, None)
        self._add_offers(sums, None)
        return self._cells(sums)

    def by_segment(self, dimension: Dimension, max_groups: int) -> tuple[dict[Scope, KpiSums], int]:
        """Return the cells of the groups of highest revenue, and how many groups are left out."""
        if dimension in PRODUCT_DIMENSIONS:
            rows = self._scratch.keep(product_rows(self._sales, self._log, dimension), dimension)
        else:
            rows = grouped_rows(self.rows, self._sales, dimension)
        recent = self._in_range(rows)
        money = recent.group_by(GROUP).agg(revenue=recent["revenue"].sum())
        ranked = money.order_by([money["revenue"].desc(), money[GROUP]]).to_pyarrow()[GROUP].to_pylist()
        names = ranked[:max_groups]
        if len(ranked) > len(names):
            rows = rows.filter(rows[GROUP].isin(names))
            recent = self._in_range(rows)
        sums: dict[Scope, Row] = {Scope(name, None): {} for name in names}
        for keys in ([GROUP], [GROUP, "period"]):
            for scope, row in self._sum(recent, keys, rows).items():
                sums.setdefault(scope, {}).update(row)
        if dimension in _HOLDING:
            self._add_held(sums, rows, dimension)
        if dimension in _CHANGING:
            self._count_pairs(sums, rows)
        self._add_offers(sums, dimension)
        return self._cells(sums), len(ranked) - len(names)

    def by_log(self, dimension: Dimension, overall: dict[Scope, KpiSums]) -> dict[Scope, KpiSums]:
        """Return the cells of a dimension of the log: offers, attributed sales, and the money of all segments."""
        if self._log is None:
            return {}
        sums: dict[Scope, Row] = {}
        self._add_offers(sums, dimension)
        for keys in ([GROUP], [GROUP, "period"]):
            for scope, row in attributed_sums(self._log, self._sales, dimension, keys, self._since):
                sums.setdefault(scope, {}).update(row)
        for scope, row in sums.items():
            row["revenue"] = overall.get(Scope(None, scope.period), KpiSums()).revenue
        return self._cells(sums)

    def judged_share(self) -> float:
        """Return the share of new sales to existing customers whose product has a family."""
        sales = self._sales.sales
        new = sales.filter(sales["is_new"] & (sales["place"] > 1)).join(
            self._sales.products.select("product", "family"), "product"
        )
        share = new["family"].notnull().mean().to_pyarrow().as_py()
        return float(share) if share is not None else 1.0

    def _sum(self, recent: ibis.Table, keys: list[str], rows: ibis.Table) -> dict[Scope, Row]:
        return sum_rows(recent, keys, self._bases, rows, self.periods)

    def _in_range(self, rows: ibis.Table) -> ibis.Table:
        if self._since is None:
            return rows
        return rows.filter(rows["ordered_at"] >= naive_utc(self._since))

    def _cells(self, sums: dict[Scope, Row]) -> dict[Scope, KpiSums]:
        return {scope: cell_of(row, self._bases) for scope, row in sums.items()}

    def _add_offers(self, sums: dict[Scope, Row], dimension: Dimension | None) -> None:
        if self._log is None or dimension == "key_account":
            return
        groups = {scope.group for scope in sums}
        first = [] if dimension is None else [GROUP]
        for keys in (first, [*first, "period"]):
            for scope, row in offer_sums(self._log, self._sales, dimension, keys, self._since):
                if dimension in {None, *LOG_DIMENSIONS} or scope.group in groups:
                    sums.setdefault(scope, {}).update(row)

    def _add_held(self, sums: dict[Scope, Row], rows: ibis.Table, dimension: Dimension | None) -> None:
        """Products held and their holders, summed up from the beginning of the history to each period's end."""
        keys = ["period"] if dimension is None else [GROUP, "period"]
        columns = {"held": rows["n_new"].sum(), "holders": (rows["place"] == 1).sum()}
        new: dict[str | None, dict[int, Row]] = {}
        for scope, row in by_scope(rows.group_by(keys).agg(**columns).to_pyarrow().to_pylist()):
            new.setdefault(scope.group, {})[scope.period or 0] = row
        for group, found in new.items():
            total = {"held": 0, "holders": 0}
            for period in range(min(found), self.periods[-1] + 1):
                total = {name: total[name] + (found.get(period, {}).get(name) or 0) for name in total}
                if period >= self.periods[0]:
                    sums.setdefault(Scope(group, period), {}).update(total)
            sums.setdefault(Scope(group, None), {}).update(total)

    def _count_pairs(self, sums: dict[Scope, Row], rows: ibis.Table) -> None:
        """Distinct pairs of account and product within each group."""
        recent = self._in_range(rows)
        placed = recent.filter(recent["account"].notnull()).select("order", "account", "period", GROUP)
        bought = self._sales.sales.select("order", "product").join(placed, "order")
        for keys in ([GROUP], [GROUP, "period"]):
            pairs = bought.select(*keys, "account", "product").distinct()
            for scope, row in by_scope(pairs.group_by(keys).agg(pairs=pairs.count()).to_pyarrow().to_pylist()):
                sums[scope].update(row)


def _checked_periods(first: int, last: int, start: datetime, config: KpiConfig) -> tuple[int, ...]:
    count = last - first + 1
    if count > config.max_periods:
        raise DataError(
            f"orders since {start:%Y-%m-%d} make {count:,} periods by {config.period}, must be at most "
            f"{config.max_periods:,}; take a longer period or a later start, or mend the order's time"
        )
    return tuple(range(first, last + 1))


def figures(
    gathered: KpiAggregates,
    complete: frozenset[int],
    missing: tuple[Missing, ...],
    config: KpiConfig,
    forecast: LifetimeSums | None = None,
) -> tuple[KpiValue, ...]:
    """Return the figures in the order of the registry: overall, by period, then by segment.

    Args:
        gathered: the cells.
        complete: numbers of the periods that are over.
        missing: what can't be computed; it has no figures.
        config: the periods' length.
        forecast: what a model expects of the accounts; None without a model.
    """
    pooled = _with_pooled_attrition(gathered, complete)
    gone = {(item.kpi, item.basis) for item in missing}
    values: list[KpiValue] = []
    for definition in REGISTRY.values():
        for basis in definition.bases:
            if (definition.name, basis) in gone:
                continue
            if basis == "forecast":
                values += lifetime_figures(forecast or {})
                continue
            for dimension in (None, *config.by):
                values += _figures(definition, basis, dimension, pooled, complete, config)
    return tuple(values)


def _figures(
    definition: KpiDefinition,
    basis: Basis,
    dimension: Dimension | None,
    gathered: KpiAggregates,
    complete: frozenset[int],
    config: KpiConfig,
) -> Iterator[KpiValue]:
    available = dimension is None or dimension in definition.dimensions
    if not available or (dimension in LOG_DIMENSIONS and basis == "organic"):
        return
    cells = gathered.cells[dimension]
    formula, everybody = FORMULAS[definition.name], gathered.cells[None]
    groups = list(dict.fromkeys(scope.group for scope in cells)) if dimension is not None else [None]
    for group in groups:
        for number in (None, *gathered.periods):
            cell = cells.get(Scope(group, number), KpiSums())
            everyone = everybody.get(Scope(None, number), KpiSums()) if dimension in PRODUCT_DIMENSIONS else cell
            extra = cell.additional.get((basis, definition.kind), Additional()) if definition.kind else Additional()
            yield KpiValue(
                kpi=definition.name,
                basis=basis,
                dimension=dimension,
                group=group,
                period=label_of(number, config.period) if number is not None else None,
                complete=number is None or number in complete,
                figure=formula(cell, everyone, extra),
            )


def _with_pooled_attrition(gathered: KpiAggregates, complete: frozenset[int]) -> KpiAggregates:
    """Over the whole range: customers lost over customers there, summed over the periods that are over."""
    cells: dict[Dimension | None, dict[Scope, KpiSums]] = {}
    for dimension, own in gathered.cells.items():
        active: dict[str | None, float] = {}
        lost: dict[str | None, float] = {}
        for scope, cell in own.items():
            if scope.period in complete and cell.active_last is not None:
                active[scope.group] = active.get(scope.group, 0.0) + cell.active_last
                lost[scope.group] = lost.get(scope.group, 0.0) + cell.lost
        cells[dimension] = {
            scope: cell
            if scope.period is not None or scope.group not in active
            else replace(cell, active_last=active[scope.group], lost=lost[scope.group])
            for scope, cell in own.items()
        }
    return replace(gathered, cells=cells)
