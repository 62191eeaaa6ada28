"""Customer lifetime value: what a model expects of the accounts that stand in the orders, overall and by segment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeAlias

import ibis

from recsys.contracts import columns as c
from recsys.errors import MissingColumnError
from recsys.evaluation.kpis.config import KpiConfig
from recsys.evaluation.kpis.definition import ACCOUNT_DIMENSIONS, Dimension
from recsys.evaluation.kpis.sales import Sales
from recsys.evaluation.kpis.sums import NOT_STATED
from recsys.evaluation.kpis.tables import Table, TempTables
from recsys.evaluation.kpis.values import Figure, KpiValue

LIFETIME_VALUE: Final = "lifetime_value"

LifetimeSums: TypeAlias = dict[tuple[Dimension | None, str | None], tuple[float, int]]
"""Expected revenue and how many accounts it is of, by dimension and group; `(None, None)`: overall."""


def lifetime_sums(scratch: TempTables, sales: Sales, given: Table, config: KpiConfig) -> LifetimeSums:
    """Return the sums over accounts that ordered and whose value the model knows, the highest group first.

    Raises:
        MissingColumnError: a column is not there.
    """
    table = scratch.load(given, "lifetime_values")
    absent = [name for name in (c.ACCOUNT_ID, LIFETIME_VALUE) if name not in table.columns]
    if absent:
        raise MissingColumnError(
            f"lifetime_values: no column {', '.join(absent)}; found {', '.join(table.columns)}; give one row an account"
        )
    value = table[LIFETIME_VALUE].cast("float64")
    known = table.filter(value.notnull() & ~value.isnan()).select(c.ACCOUNT_ID, **{LIFETIME_VALUE: value})
    rows = scratch.keep(sales.accounts.join(known, c.ACCOUNT_ID), "lifetime")
    sums = {"total": rows[LIFETIME_VALUE].sum(), "n": rows.count()}
    overall = rows.agg(**sums).to_pyarrow().to_pylist()[0]
    found: LifetimeSums = {(None, None): (float(overall["total"] or 0.0), int(overall["n"]))}
    for dimension in config.by:
        if dimension not in ACCOUNT_DIMENSIONS:
            continue
        grouped = rows.group_by(rows[dimension].fill_null(NOT_STATED).name("stated")).agg(**sums)
        ranked = grouped.order_by([ibis.desc("total"), "stated"]).limit(config.max_groups)
        for row in ranked.to_pyarrow().to_pylist():
            found[dimension, row["stated"]] = (float(row["total"]), int(row["n"]))
    return found


def lifetime_figures(sums: LifetimeSums) -> Iterator[KpiValue]:
    """Yield the figure of each group; a forecast has no periods."""
    for (dimension, group), (total, n_accounts) in sums.items():
        figure = Figure(total, float(n_accounts), total / n_accounts if n_accounts else None, ())
        yield KpiValue("customer_lifetime_value", "forecast", dimension, group, None, complete=True, figure=figure)
