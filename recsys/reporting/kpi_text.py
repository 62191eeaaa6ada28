"""KPIs in words: a report as tables for the terminal, and the definitions as text, page or JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from recsys.evaluation.kpis.definition import (
    ATTRIBUTED_MEANS,
    CHANGE_MEANS,
    CUSTOMERS_MEANS,
    ORGANIC_MEANS,
    Basis,
    Dimension,
    KpiDefinition,
    standard_attributes,
)
from recsys.evaluation.kpis.definitions.benchmarks import Benchmark, read_benchmarks
from recsys.evaluation.kpis.registry import REGISTRY
from recsys.evaluation.kpis.results import KpiReport, definition_document
from recsys.evaluation.kpis.values import Change
from recsys.reporting.formatting import BASIS_WORDS, DASH, page_template, shown, shown_difference, shown_limits


def report_table(report: KpiReport) -> RenderableType:
    """Return the figures as tables, what moved and what to ask about it, and what a reader should know."""
    parts: list[RenderableType] = [_head(report), _overall(report), _how_to_read(report)]
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


def _how_to_read(report: KpiReport) -> Text:
    if report.last_period is None:
        return Text(f"No {report.period} was over at the figures' date: there is no last period and no change.")
    return Text(
        f"{report.last_period} is the last {report.period} that was over. A change is from the {report.period} before "
        "that has a value, with its 95 % interval over accounts: better or worse only where that excludes no change "
        f"and it is at least {100 * report.moved_share:g} % of the earlier value. A target is compared with "
        f"{report.last_period}."
    )


def _overall(report: KpiReport) -> Table:
    grid = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    last = report.last_period or f"last {report.period}"
    numbers = (last, "change (95 % interval)", "whole range", "target")
    for head in ("KPI", "read off", *numbers, "formula"):
        grid.add_column(head, justify="right" if head in numbers else "left", no_wrap=head != "formula")
    for definition, basis in kpi_figures(report):
        overall = report.get(definition.name, basis).value
        grid.add_row(
            definition.title,
            BASIS_WORDS[basis],
            last_text(report, definition, basis),
            f"{change_text(report, definition, basis)} {reading_text(report.change(definition.name, basis))}".rstrip(),
            shown(overall, definition.unit, report.currency),
            target_text(report, definition, judged_value(report, definition, basis)),
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


def last_text(report: KpiReport, definition: KpiDefinition, basis: Basis) -> str:
    """Return the value of the last complete period; where it has none, a dash and the latest one that there was."""
    complete = [item for item in report.series(definition.name, basis) if item.complete]
    if not complete:
        return DASH
    if complete[-1].value is not None:
        return shown(complete[-1].value, definition.unit, report.currency)
    earlier = [item for item in complete if item.value is not None]
    if not earlier:
        return DASH
    return f"{DASH} ({shown(earlier[-1].value, definition.unit, report.currency)} in {earlier[-1].period})"


def change_text(report: KpiReport, definition: KpiDefinition, basis: Basis) -> str:
    """Return the change to the last complete period with its 95 % interval, and from when where not the one before."""
    change = report.change(definition.name, basis)
    if change is None:
        last = report.last(definition.name, basis)
        return DASH if last is None or last.value is None else "first value"
    text = shown_difference(change.difference, definition.unit, report.currency)
    if change.low is not None and change.high is not None:
        text += f" {shown_limits(change.low, change.high, definition.unit)}"
    return text if change.adjacent else f"{text} since {change.before}"


def reading_text(change: Change | None) -> str:
    """Return what a change says, in a word or two."""
    return "" if change is None else change.reading


def judged_value(report: KpiReport, definition: KpiDefinition, basis: Basis) -> float | None:
    """Return what a target is compared with: the last complete period's value, else that of the whole range."""
    last = report.last(definition.name, basis)
    return report.get(definition.name, basis).value if last is None or last.value is None else last.value


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
        limits = (item.anytime_low, item.anytime_high, item.low, item.high)
        always_low, always_high, low, high = (shown_difference(limit, "money", report.currency) for limit in limits)
        yield (
            f"Randomised effect on AOV, {item.experiment}, {item.arm} against {item.control}: "
            f"{shown_difference(item.effect, 'money', report.currency)} ({always_low} to {always_high}, "
            f"95 % anytime-valid; {low} to {high} fixed-horizon, for one look at the planned end), "
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
        if change is not None and change.is_told:
            moved = f"{shown_difference(change.difference, definition.unit, report.currency)} ({change.reading})"
            head = f"Ask: {definition.title} ({BASIS_WORDS[basis]}) moved by {moved}"
            yield f"{head} from {change.before} to {change.now}. {definition.diagnostics}"


def missing_lines(report: KpiReport) -> Iterator[str]:
    """Yield what can not be computed, one line a reason."""
    by_reason: dict[str, list[str]] = {}
    titles = {definition.name: definition.title for definition in report.definitions}
    for item in report.missing:
        by_reason.setdefault(item.why, []).append(f"{titles[item.kpi]} ({BASIS_WORDS[item.basis]})")
    for why, names in by_reason.items():
        yield f"Not computable: {', '.join(names)}: {why}"


MEANING = (ORGANIC_MEANS, ATTRIBUTED_MEANS, CUSTOMERS_MEANS, CHANGE_MEANS)
_WRAP: Final = textwrap.TextWrapper(100, break_on_hyphens=False)
_WRAP_ATTRIBUTE: Final = textwrap.TextWrapper(
    100, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False
)


def explain_text(targets: Mapping[str, float] | None = None) -> str:
    """Return all definitions as plain text."""
    parts = [_WRAP.fill(paragraph) for paragraph in MEANING]
    for definition in REGISTRY.values():
        lines = [f"{definition.title} ({definition.name})"]
        for head, text in attributes_of(definition, targets or {}):
            lines.append(_WRAP_ATTRIBUTE.fill(f"{head}: {text}"))
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
        "definitions": [definition_document(item, said.get(item.name)) for item in REGISTRY.values()],
    }


def attributes_of(definition: KpiDefinition, targets: Mapping[str, float]) -> list[tuple[str, str]]:
    """Return a definition's attributes as heads and texts: the twelve in reading order, then what the formula needs."""
    target = targets.get(definition.name)
    no_target = f"none set (targets, as {definition.name}=...)"
    named = standard_attributes(definition)
    return [
        *((name.replace("_", " ").capitalize(), text) for name, text in named.items()),
        ("Numerator", definition.numerator),
        ("Denominator", definition.denominator),
        ("Unit", definition.unit),
        ("Better", {"higher": "higher", "lower": "lower", "neither": "neither way"}[definition.direction]),
        ("Read off", ", ".join(BASIS_WORDS[basis] for basis in definition.bases)),
        ("By", ", ".join(name.replace("_", " ") for name in definition.dimensions)),
        ("Attribution window", definition.window),
        ("Can a treatment move its denominator?", definition.moves_denominator or "no"),
        ("Target", no_target if target is None else shown(target, definition.unit)),
        ("Benchmark", _benchmark(definition)),
    ]


def _benchmark(definition: KpiDefinition) -> str:
    found = read_benchmarks().kpi.get(definition.name, Benchmark())
    if found.target is None:
        return "none that names its source; the place for one's own is in `offers kpis --explain --format toml`"
    return f"{shown(found.target, definition.unit)}. {found.said}"
