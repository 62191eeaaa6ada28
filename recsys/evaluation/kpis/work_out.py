"""From cells to figures: the registry's formulas for every segment and period."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from recsys.evaluation.kpis.cells import Additional, Cell
from recsys.evaluation.kpis.config import KpiConfig
from recsys.evaluation.kpis.definition import LOG_DIMENSIONS, PRODUCT_DIMENSIONS, Basis, Dimension, KpiDefinition
from recsys.evaluation.kpis.figures import Gathered
from recsys.evaluation.kpis.formulas import FORMULAS
from recsys.evaluation.kpis.periods import label_of
from recsys.evaluation.kpis.registry import REGISTRY
from recsys.evaluation.kpis.results import KpiValue, Missing
from recsys.evaluation.kpis.sums import Scope


def work_out(
    gathered: Gathered, complete: frozenset[int], missing: tuple[Missing, ...], config: KpiConfig
) -> tuple[KpiValue, ...]:
    """Return the figures in the order of the registry: overall, by period, then by segment.

    Args:
        gathered: the cells.
        complete: numbers of the periods that are over.
        missing: what can't be computed; it has no figures.
        config: the periods' length.
    """
    pooled = _with_pooled_attrition(gathered, complete)
    gone = {(item.kpi, item.basis) for item in missing}
    values: list[KpiValue] = []
    for definition in REGISTRY.values():
        for basis in definition.bases:
            if (definition.name, basis) in gone:
                continue
            for dimension in (None, *config.by):
                values += _figures(definition, basis, dimension, pooled, complete, config)
    return tuple(values)


def _figures(
    definition: KpiDefinition,
    basis: Basis,
    dimension: Dimension | None,
    gathered: Gathered,
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
            cell = cells.get(Scope(group, number), Cell())
            everyone = everybody.get(Scope(None, number), Cell()) if dimension in PRODUCT_DIMENSIONS else cell
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


def _with_pooled_attrition(gathered: Gathered, complete: frozenset[int]) -> Gathered:
    """Over the whole range: customers lost over customers there, summed over the periods that are over."""
    cells: dict[Dimension | None, dict[Scope, Cell]] = {}
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
