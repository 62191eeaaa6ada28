"""Rows that should not be: copies of others, and units with an impossible number of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from recsys.evaluation.readout.design import Design
from recsys.evaluation.readout.health import HealthCheck
from recsys.evaluation.readout.purchases import ORDER_COUNT
from recsys.evaluation.readout.units import ROWS, UnitTable

_LARGEST_USUAL: Final = 0.95
"""Quantile of the units with any: what is above it may be bots, so that a bound made of it holds up to 5 % of them."""
_TIMES: Final = 10.0
_LEAST: Final = 50.0
"""Below so many rows, orders or exposures nobody is called impossible."""
_COUNTS: Final = (ORDER_COUNT, "presented_offers", "accepted_offers")


def duplicate_rows(units: UnitTable) -> HealthCheck:
    """Return whether rows were added up that only repeat others."""
    name = "duplicate_rows"
    if not units.has_ids:
        return HealthCheck(name, "not_checked", "units have no ids: a row that came twice looks like two units")
    copies = units.copies
    if copies is None or copies.n_copies == 0:
        how = "every unit has one row" if copies is None else "no row equals another in every column"
        return HealthCheck(name, "passed", how)
    found = f"{copies.n_copies:,} of {copies.n_rows:,} rows equal another in every column"
    if copies.are_certain:
        return HealthCheck(name, "failed", f"{found}: an export that was read twice; the sums count them again")
    return HealthCheck(
        name, "not_checked", f"{found}, and nothing tells the rows of a unit apart: give a number or time"
    )


def impossible_counts(units: UnitTable, design: Design) -> HealthCheck:
    """Return whether units have far more rows, orders or exposures than any customer: bots, tests, a loop in a program.

    The bound is ten times the 95th percentile of the units that have any, and at least fifty.
    """
    name = "impossible_counts"
    columns = _counts(units, design)
    if not columns:
        return HealthCheck(name, "not_checked", "no counts of rows, orders or exposures are known")
    told = [words for column in columns if (words := _beyond(units, column))]
    if told:
        return HealthCheck(name, "warning", f"{'; '.join(told)}: bots or test accounts?")
    shown = ", ".join(_words(column) for column in columns)
    return HealthCheck(name, "passed", f"no unit has more than {_TIMES:g} times the usual most of {shown}")


def _counts(units: UnitTable, design: Design) -> Sequence[str]:
    below = [metric.value.denominator for metric in design.metrics if metric.value.denominator]
    known = [name for name in (*_COUNTS, *below) if name in units.values and not units.facts[name].is_binary]
    return tuple(dict.fromkeys([*([ROWS] if ROWS in units.table.columns else []), *known]))


def _beyond(units: UnitTable, column: str) -> str | None:
    value = units.table[column]
    usual = value.quantile(_LARGEST_USUAL, where=value > 0).to_pyarrow().as_py()
    bound = max(_LEAST, _TIMES * (usual or 0.0))
    asked = units.table.aggregate(
        n=(value > bound).sum(), held=value.sum(where=value > bound), total=value.sum(where=value > 0), most=value.max()
    )
    found = asked.to_pyarrow().to_pylist()[0]
    if not found["n"]:
        return None
    share = found["held"] / found["total"]
    words = _words(column)
    return f"{found['n']:,} units have more than {bound:,.0f} {words}, up to {found['most']:,.0f}: {share:.1%} of all"


def _words(column: str) -> str:
    return "rows" if column == ROWS else column.replace("_", " ")
