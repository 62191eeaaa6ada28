"""KPIs in words: a report as tables for the terminal, and the definitions as text, page or JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from recsys.evaluation.kpis.definition import (
    ATTRIBUTED_MEANS,
    CUSTOMERS_MEANS,
    ORGANIC_MEANS,
    Basis,
    Dimension,
    KpiDefinition,
)
from recsys.evaluation.kpis.registry import REGISTRY
from recsys.evaluation.kpis.results import Change, KpiReport
from recsys.reporting.formatting import BASIS_WORDS, DASH, page_template, shown, shown_difference


def report_table(report: KpiReport) -> RenderableType:
    """Return the figures as tables, what moved and what to ask about it, and what a reader should know."""
    parts: list[RenderableType] = [_head(report), _overall(report)]
    dimensions = dict.fromkeys(item.dimension for item in report.values if item.dimension is not None)
    parts += [_by_group(report, dimension) for dimension in dimensions]
    parts += [Text(line) for line in effect_lines(report)]
    parts += [
        Text(line) for line in (*_asked(report), *missing_lines(report), *(f"Note: {note}" for note in report.notes))
    ]
    return Group(*parts)


def _head(report: KpiReport) -> Text:
    return Text(
        f"{report.n_orders:,} orders of {report.n_customers:,} customers from {report.start:%Y-%m-%d} "
        f"until {report.as_of:%Y-%m-%d}; attribution window {report.window_days} days; {report.ladder}; "
        f"key accounts: {report.key_rule}"
    )


def _overall(report: KpiReport) -> Table:
    grid = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for head, right in (("KPI", False), ("read off", False), (f"last {report.period}", True), ("change", True),
                        ("whole range", True), ("target", True), ("formula", False)):  # fmt: skip
        grid.add_column(head, justify="right" if right else "left", no_wrap=head != "formula")
    for definition, basis in kpi_figures(report):
        change = report.change(definition.name, basis)
        overall = report.get(definition.name, basis).value
        grid.add_row(
            definition.title,
            BASIS_WORDS[basis],
            shown(change.value if change else None, definition.unit, report.currency),
            change_text(change, definition, report.currency),
            shown(overall, definition.unit, report.currency),
            target_text(report, definition, change.value if change else overall),
            definition.formula,
        )
    return grid


def kpi_figures(report: KpiReport) -> Iterator[tuple[KpiDefinition, Basis]]:
    """Yield each KPI and basis that has figures."""
    gone = {(item.kpi, item.basis) for item in report.missing}
    for definition in report.definitions:
        for basis in definition.bases:
            if (definition.name, basis) not in gone:
                yield definition, basis


def change_text(change: Change | None, definition: KpiDefinition, currency: str | None) -> str:
    """Return a change with its direction in words where one is better."""
    if change is None:
        return DASH
    text = shown_difference(change.difference, definition.unit, currency)
    if not change.moved or change.better is None:
        return text
    return f"{text} {'better' if change.better else 'worse'}"


def target_text(report: KpiReport, definition: KpiDefinition, value: float | None) -> str:
    """Return the target and whether it is met."""
    target = report.targets.get(definition.name)
    if target is None:
        return ""
    text = shown(target, definition.unit, report.currency)
    if value is None or definition.direction == "neither":
        return text
    met = value >= target if definition.direction == "higher" else value <= target
    return f"{text} {'met' if met else 'missed'}"


def effect_lines(report: KpiReport) -> Iterator[str]:
    """Yield the randomised effects on AOV, or that there are none where the AOV increase is shown."""
    for item in report.aov_effects:
        low, high = (shown_difference(limit, "money", report.currency) for limit in (item.low, item.high))
        yield (
            f"Randomised effect on AOV, {item.experiment}, {item.arm} against {item.control}: "
            f"{shown_difference(item.effect, 'money', report.currency)} ({low} to {high}, 95 %), "
            f"{item.n_accounts:,} accounts"
        )
    described = any(item.kpi == "aov_increase" for item in report.values)
    if described and not report.aov_effects:
        yield "Randomised effect on AOV: none, the log has no experiment; the AOV increase only describes"


def _by_group(report: KpiReport, dimension: Dimension) -> Table:
    grid = Table(title=f"By {dimension.replace('_', ' ')}, whole range", title_justify="left", box=None,
                 header_style="bold", padding=(0, 2, 0, 0))  # fmt: skip
    columns = [
        (definition, basis)
        for definition, basis in kpi_figures(report)
        if dimension in definition.dimensions and any(report.groups(definition.name, basis, dimension))
    ]
    groups = dict.fromkeys(item.group for item in report.values if item.dimension == dimension)
    grid.add_column("KPI")
    grid.add_column("read off")
    for group in list(groups)[:8]:
        grid.add_column(Text(str(group)), justify="right")
    for definition, basis in columns:
        found = {item.group: item.value for item in report.groups(definition.name, basis, dimension)}
        cells = [shown(found.get(group), definition.unit, report.currency) for group in list(groups)[:8]]
        grid.add_row(definition.title, BASIS_WORDS[basis], *cells)
    return grid


def _asked(report: KpiReport) -> Iterator[str]:
    for definition, basis in kpi_figures(report):
        change = report.change(definition.name, basis)
        if change is not None and change.moved:
            moved = change_text(change, definition, report.currency)
            head = f"Ask: {definition.title} ({BASIS_WORDS[basis]}) moved by {moved}"
            yield f"{head} from {change.before} to {change.now}. {definition.ask}"


def missing_lines(report: KpiReport) -> Iterator[str]:
    """Yield what can not be computed, one line a reason."""
    by_reason: dict[str, list[str]] = {}
    titles = {definition.name: definition.title for definition in report.definitions}
    for item in report.missing:
        by_reason.setdefault(item.why, []).append(f"{titles[item.kpi]} ({BASIS_WORDS[item.basis]})")
    for why, names in by_reason.items():
        yield f"Not computable: {', '.join(names)}: {why}"


MEANING = (ORGANIC_MEANS, ATTRIBUTED_MEANS, CUSTOMERS_MEANS)
_WIDTH = 100


def explain_text(targets: Mapping[str, float] | None = None) -> str:
    """Return all definitions as plain text."""
    parts = [textwrap.fill(paragraph, _WIDTH) for paragraph in MEANING]
    for definition in REGISTRY.values():
        lines = [f"{definition.title} ({definition.name})", f"  {definition.formula}"]
        for head, text in attributes_of(definition, targets or {}):
            lines.append(textwrap.fill(f"{head}: {text}", _WIDTH, initial_indent="  ", subsequent_indent="    "))
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def explain_page(targets: Mapping[str, float] | None = None) -> str:
    """Return all definitions as one HTML page without external requests."""
    definitions = [
        {"name": item.name, "title": item.title, "formula": item.formula, "lines": attributes_of(item, targets or {})}
        for item in REGISTRY.values()
    ]
    return page_template("kpi_definitions").render(meaning=MEANING, definitions=definitions)


def explain_document(targets: Mapping[str, float] | None = None) -> dict[str, Any]:
    """Return all definitions as JSON values."""
    said = targets or {}
    return {
        "meaning": list(MEANING),
        "definitions": [asdict(item) | {"target": said.get(item.name)} for item in REGISTRY.values()],
    }


def attributes_of(definition: KpiDefinition, targets: Mapping[str, float]) -> list[tuple[str, str]]:
    """Return a definition's attributes as heads and texts, in reading order."""
    target = targets.get(definition.name)
    no_target = f"none set (targets, as {definition.name}=...)"
    return [
        ("Tells", definition.tells),
        ("Numerator", definition.numerator),
        ("Denominator", definition.denominator),
        ("Unit", definition.unit),
        ("Better", {"higher": "higher", "lower": "lower", "neither": "neither way"}[definition.direction]),
        ("Read off", ", ".join(BASIS_WORDS[basis] for basis in definition.bases)),
        ("By", ", ".join(name.replace("_", " ") for name in definition.dimensions)),
        ("Attribution window", definition.window),
        ("Estimator", definition.estimator),
        ("Can a treatment move its denominator?", definition.moves_denominator or "no"),
        ("When it moves, ask", definition.ask),
        ("May mislead", definition.misleads),
        ("Chart", definition.chart),
        (
            "Target",
            no_target if target is None else shown(target, definition.unit),
        ),
    ]
