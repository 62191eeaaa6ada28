"""A report as one HTML page: self-contained, readable on a phone and on paper, each figure with its formula."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Final

from recsys.evaluation.kpis.definition import Basis, Dimension, KpiDefinition
from recsys.evaluation.kpis.results import Change, Figure, KpiReport
from recsys.reporting.formatting import BASIS_WORDS, counted, render_template, shown
from recsys.reporting.kpi_charts import ChartLine, trend_chart
from recsys.reporting.kpi_text import MEANING, change_text, effect_lines, kpi_figures, missing_lines, target_text

_ASKS: Final = 5
"""Moves at the head of the page."""


@dataclass(frozen=True, slots=True)
class _Row:
    title: str
    basis: str
    last: str
    change: str
    tone: str
    overall: str
    target: str


@dataclass(frozen=True, slots=True)
class _Ask:
    title: str
    moved: str
    question: str


@dataclass(frozen=True, slots=True)
class _FigureShown:
    value: str
    basis: str
    sum: str
    beside: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _GroupRow:
    group: str
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Segment:
    dimension: str
    heads: tuple[str, ...]
    rows: tuple[_GroupRow, ...]


@dataclass(frozen=True, slots=True)
class _Card:
    title: str
    formula: str
    figures: tuple[_FigureShown, ...]
    chart: str
    asks: tuple[str, ...]
    tells: str
    misleads: str
    moves: str | None
    segments: tuple[_Segment, ...]
    further: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Page:
    until: str
    head: str
    rules: str
    last: str
    rows: tuple[_Row, ...]
    asks: tuple[_Ask, ...]
    cards: tuple[_Card, ...]
    missing: tuple[str, ...]
    notes: tuple[str, ...]
    meaning: tuple[str, ...]


def report_page(report: KpiReport) -> str:
    """Return a report as an HTML page without external requests."""
    rows = tuple(_row(report, definition, basis) for definition, basis in kpi_figures(report))
    asks = tuple(
        ask for definition, basis in _biggest_moves(report) if (ask := _ask(report, definition, basis)) is not None
    )
    cards = tuple(_card(report, definition) for definition in report.definitions if _bases(report, definition))
    last = _last_complete(report)
    page = _Page(
        until=f"{report.as_of:%Y-%m-%d}",
        head=(
            f"{report.n_orders:,} orders of {report.n_customers:,} customers, from {report.start:%Y-%m-%d} "
            f"until {report.as_of:%Y-%m-%d}, by {report.period}."
        ),
        rules=(
            f"Attribution window {report.window_days} days; {report.ladder}; families are the column "
            f"{report.families_by}; key accounts: {report.key_rule}."
        ),
        last=last or f"last {report.period}",
        rows=rows,
        asks=asks,
        cards=cards,
        missing=tuple(missing_lines(report)),
        notes=report.notes,
        meaning=MEANING,
    )
    return render_template("report.html.j2", page=page)


def _last_complete(report: KpiReport) -> str | None:
    complete = [item.period for item in report.series("aov", "history") if item.complete]
    return complete[-1] if complete else None


def _biggest_moves(report: KpiReport) -> list[tuple[KpiDefinition, Basis]]:
    """The KPIs that moved by the largest share of their last value; the others are asked about in their cards."""

    def size(figure: tuple[KpiDefinition, Basis]) -> float:
        change = report.change(figure[0].name, figure[1])
        return 0.0 if change is None else math.inf if change.relative is None else abs(change.relative)

    return sorted(kpi_figures(report), key=size, reverse=True)[:_ASKS]


def _row(report: KpiReport, definition: KpiDefinition, basis: Basis) -> _Row:
    change = report.change(definition.name, basis)
    overall = report.get(definition.name, basis).value
    return _Row(
        title=definition.title,
        basis=BASIS_WORDS[basis],
        last=shown(change.value if change else None, definition.unit, report.currency),
        change=change_text(change, definition, report.currency),
        tone=_tone(change),
        overall=shown(overall, definition.unit, report.currency),
        target=target_text(report, definition, change.value if change else overall),
    )


def _tone(change: Change | None) -> str:
    if change is None or not change.moved or change.better is None:
        return ""
    return "good" if change.better else "bad"


def _ask(report: KpiReport, definition: KpiDefinition, basis: Basis) -> _Ask | None:
    change = report.change(definition.name, basis)
    if change is None or not change.moved:
        return None
    text = change_text(change, definition, report.currency)
    return _Ask(
        f"{definition.title} ({BASIS_WORDS[basis]})", f"{text}, {change.before} to {change.now}.", definition.ask
    )


def _bases(report: KpiReport, definition: KpiDefinition) -> tuple[Basis, ...]:
    return tuple(basis for found, basis in kpi_figures(report) if found.name == definition.name)


def _card(report: KpiReport, definition: KpiDefinition) -> _Card:
    bases = _bases(report, definition)
    asks = [_ask(report, definition, basis) for basis in bases]
    return _Card(
        title=definition.title,
        formula=definition.formula,
        figures=tuple(_figure(report, definition, basis) for basis in bases),
        chart=_chart(report, definition, bases),
        asks=tuple(f"{ask.title} {ask.moved} {ask.question}" for ask in asks if ask is not None),
        tells=definition.tells,
        misleads=definition.misleads,
        moves=definition.moves_denominator,
        further=tuple(effect_lines(report)) if definition.name == "aov_increase" else (),
        segments=tuple(
            segment
            for dimension in definition.dimensions
            if (segment := _segment(report, definition, bases, dimension)) is not None
        ),
    )


def _figure(report: KpiReport, definition: KpiDefinition, basis: Basis) -> _FigureShown:
    figure = report.get(definition.name, basis).figure
    beside = tuple(f"{shown(other.value, definition.unit, report.currency)} {other.label}" for other in figure.beside)
    value = shown(figure.value, definition.unit, report.currency)
    return _FigureShown(value, BASIS_WORDS[basis], _worked(definition, figure), beside)


def _worked(definition: KpiDefinition, figure: Figure) -> str:
    sign = "-" if definition.name == "aov_increase" else "/"
    return f"{counted(figure.numerator)} {sign} {counted(figure.denominator)}"


def _chart(report: KpiReport, definition: KpiDefinition, bases: tuple[Basis, ...]) -> str:
    series = [report.series(definition.name, basis) for basis in bases]
    if len(report.periods) < 2 or not series:
        return ""
    still_open = [at for at, item in enumerate(series[0]) if not item.complete]
    lines = [
        ChartLine(BASIS_WORDS[basis], tuple(item.value for item in values))
        for basis, values in zip(bases, series, strict=True)
    ]
    return trend_chart(
        lines,
        report.periods,
        text=partial(shown, unit=definition.unit),
        target=report.targets.get(definition.name),
        open_from=still_open[0] if still_open else None,
        bars=definition.chart == "bar" and len(lines) == 1,
    )


def _segment(
    report: KpiReport, definition: KpiDefinition, bases: tuple[Basis, ...], dimension: Dimension
) -> _Segment | None:
    found = {basis: report.groups(definition.name, basis, dimension) for basis in bases}
    with_groups = [basis for basis in bases if found[basis]]
    if not with_groups:
        return None
    names = [str(item.group) for item in found[with_groups[0]]]
    values = {
        (basis, str(item.group)): shown(item.value, definition.unit, report.currency)
        for basis in with_groups
        for item in found[basis]
    }
    rows = tuple(_GroupRow(name, tuple(values.get((basis, name), "") for basis in with_groups)) for name in names)
    return _Segment(dimension.replace("_", " "), tuple(BASIS_WORDS[basis] for basis in with_groups), rows)
