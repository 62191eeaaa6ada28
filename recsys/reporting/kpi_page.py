"""A report as one HTML page: self-contained, readable on a phone and on paper, each figure with its formula."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from recsys.evaluation.kpis.definition import Basis, Dimension, KpiDefinition, standard_attributes
from recsys.evaluation.kpis.results import KpiReport
from recsys.evaluation.kpis.values import Change, Figure, Reading
from recsys.reporting.formatting import BASIS_WORDS, counted, page_template, shown, shown_difference
from recsys.reporting.kpi_text import (
    MEANING,
    change_text,
    effect_lines,
    judged_value,
    kpi_figures,
    last_text,
    missing_lines,
    reading_text,
    target_text,
)
from recsys.reporting.svg import PALETTE, Drawing, Scale, x_labels, y_axis

_ASKS: Final = 5
"""Moves at the head of the page."""


@dataclass(frozen=True, slots=True)
class _Row:
    title: str
    basis: str
    last: str
    change: str
    reading: str
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
    basis: str
    last: str
    last_sum: str
    change: str
    reading: str
    tone: str
    overall: str
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
    chart: Drawing | None
    asks: tuple[str, ...]
    attributes: tuple[tuple[str, str], ...]
    moves: str | None
    target: str
    segments: tuple[_Segment, ...]
    further: tuple[str, ...]


def report_page(report: KpiReport) -> str:
    """Return a report as an HTML page without external requests."""
    rows = tuple(_row(report, definition, basis) for definition, basis in kpi_figures(report))
    asks = tuple(
        ask for definition, basis in _biggest_moves(report) if (ask := _ask(report, definition, basis)) is not None
    )
    cards = tuple(_card(report, definition) for definition in report.definitions if _bases(report, definition))
    return page_template("kpis").render(
        until=f"{report.as_of:%Y-%m-%d}",
        head=(
            f"{report.n_orders:,} orders of {report.n_customers:,} customers, from {report.start:%Y-%m-%d} "
            f"until {report.as_of:%Y-%m-%d}, by {report.period}."
        ),
        rules=(
            f"Attribution window {report.window_days} days; {report.ladder}; families are the column "
            f"{report.families_by}; key accounts: {report.key_rule}."
        ),
        last=report.last_period or f"last {report.period}",
        none_over=report.last_period is None,
        period=report.period,
        moved=f"{100 * report.moved_share:g} %",
        rows=rows,
        asks=asks,
        cards=cards,
        missing=tuple(missing_lines(report)),
        notes=report.notes,
        meaning=MEANING,
    )


def _biggest_moves(report: KpiReport) -> list[tuple[KpiDefinition, Basis]]:
    """The KPIs that moved by the largest share of their last value; the others are asked about in their cards."""

    def size(figure: tuple[KpiDefinition, Basis]) -> float:
        change = report.change(figure[0].name, figure[1])
        if change is None or not change.is_told:
            return 0.0
        return math.inf if change.relative is None else abs(change.relative)

    return sorted(kpi_figures(report), key=size, reverse=True)[:_ASKS]


def _row(report: KpiReport, definition: KpiDefinition, basis: Basis) -> _Row:
    change = report.change(definition.name, basis)
    return _Row(
        title=definition.title,
        basis=BASIS_WORDS[basis],
        last=last_text(report, definition, basis),
        change=change_text(report, definition, basis),
        reading=reading_text(change),
        tone=_tone(change),
        overall=shown(report.get(definition.name, basis).value, definition.unit, report.currency),
        target=target_text(report, definition, judged_value(report, definition, basis)),
    )


def _tone(change: Change | None) -> str:
    tones: dict[Reading, str] = {"better": "good", "worse": "bad"}
    return "" if change is None else tones.get(change.reading, "")


def _ask(report: KpiReport, definition: KpiDefinition, basis: Basis) -> _Ask | None:
    change = report.change(definition.name, basis)
    if change is None or not change.is_told:
        return None
    text = f"{shown_difference(change.difference, definition.unit, report.currency)} {change.reading}"
    return _Ask(
        f"{definition.title} ({BASIS_WORDS[basis]})",
        f"{text}, {change.before} to {change.now}.",
        definition.diagnostics,
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
        attributes=tuple(
            (name.replace("_", " ").capitalize(), text)
            for name, text in standard_attributes(definition).items()
            if name != "formula"
        ),
        moves=definition.moves_denominator,
        target=_target(report, definition),
        further=tuple(effect_lines(report)) if definition.name == "aov_increase" else (),
        segments=tuple(
            segment
            for dimension in definition.dimensions
            if (segment := _segment(report, definition, bases, dimension)) is not None
        ),
    )


def _target(report: KpiReport, definition: KpiDefinition) -> str:
    target = report.targets.get(definition.name)
    if target is None:
        return ""
    source = report.target_sources.get(definition.name)
    text = shown(target, definition.unit, report.currency)
    return text if source is None else f"{text}. {source}"


def _figure(report: KpiReport, definition: KpiDefinition, basis: Basis) -> _FigureShown:
    figure, last = report.get(definition.name, basis).figure, report.last(definition.name, basis)
    change = report.change(definition.name, basis)
    text = partial(shown, unit=definition.unit, currency=report.currency)
    return _FigureShown(
        basis=BASIS_WORDS[basis],
        last=last_text(report, definition, basis),
        last_sum="" if last is None or last.value is None else _worked(definition, last.figure),
        change=change_text(report, definition, basis),
        reading=reading_text(change),
        tone=_tone(change),
        overall=text(figure.value),
        sum=_worked(definition, figure),
        beside=tuple(f"{text(other.value)} {other.label}" for other in figure.beside),
    )


def _worked(definition: KpiDefinition, figure: Figure) -> str:
    sign = "-" if definition.name == "aov_increase" else "/"
    return f"{counted(figure.numerator)} {sign} {counted(figure.denominator)}"


def _chart(report: KpiReport, definition: KpiDefinition, bases: tuple[Basis, ...]) -> Drawing | None:
    series = {BASIS_WORDS[basis]: report.series(definition.name, basis) for basis in bases}
    if len(report.periods) < 2 or not series:
        return None
    still_open = [at for at, item in enumerate(next(iter(series.values()))) if not item.complete]
    return trend_chart(
        {name: [item.value for item in values] for name, values in series.items()},
        report.periods,
        text=partial(shown, unit=definition.unit),
        target=report.targets.get(definition.name),
        open_from=still_open[0] if still_open else len(report.periods),
        bars=definition.chart == "bar" and len(series) == 1,
    )


def trend_chart(
    lines: Mapping[str, Sequence[float | None]],
    labels: Sequence[str],
    *,
    text: Callable[[float], str],
    target: float | None,
    open_from: int,
    bars: bool,
) -> Drawing | None:
    """Return lines (or bars of one) over periods.

    Args:
        lines: by name, one value a period; None leaves a gap.
        labels: the periods.
        text: how a value is written.
        target: drawn as a dashed line.
        open_from: the first period that is not over: from here on dots and bars are pale.
        bars: bars instead of lines.
    """
    known = [value for values in lines.values() for value in values if value is not None]
    if not known:
        return None
    limits = [*known, 0.0] if target is None else [*known, 0.0, target]
    low, high = min(limits), max(limits) if max(limits) > min(limits) else min(limits) + 1.0
    drawing = Drawing(154, "; ".join(f"{name} {_spoken(labels, values, text)}" for name, values in lines.items()), 360)
    left, right = 64.0, drawing.width - 10
    x = Scale(-0.5, len(labels) - 0.5, left, right)
    y = Scale(low, high, 132, 10)
    y_axis(drawing, y, left, right, text, (low, (low + high) / 2, high))
    x_labels(drawing, x, 149, labels)
    if target is not None:
        drawing.line(left, y(target), right, y(target), dash="6 4")
    for values, colour in zip(lines.values(), PALETTE, strict=False):
        if not bars:
            for run in _runs(values):
                drawing.path([(x(i), y(value)) for i, value in run], colour=colour)
        for i, value in (point for run in _runs(values) for point in run):
            opacity = 0.35 if i >= open_from else 1
            if bars:
                width = 0.7 * (x(1) - x(0))
                top, height = min(y(value), y(0.0)), abs(y(value) - y(0.0))
                drawing.rect(x(i) - width / 2, top, width, height, colour=colour, opacity=opacity)
            else:
                drawing.dot(x(i), y(value), colour=colour, opacity=opacity)
    return drawing


def _runs(values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """The stretches between gaps, as positions and values."""
    runs: list[list[tuple[int, float]]] = [[]]
    for i, value in enumerate(values):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((i, value))
    return [run for run in runs if run]


def _spoken(labels: Sequence[str], values: Sequence[float | None], text: Callable[[float], str]) -> str:
    said = [f"{label} {text(value)}" for label, value in zip(labels, values, strict=True) if value is not None]
    return ", ".join(said[-4:])


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
