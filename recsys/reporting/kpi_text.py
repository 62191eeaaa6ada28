"""A report as a table for the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from recsys.evaluation.kpis.definition import Basis, Dimension, KpiDefinition
from recsys.evaluation.kpis.values import Change, KpiReport
from recsys.reporting.kpi_wording import BASIS_WORDS, DASH, shown, shown_difference


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
    for definition, basis in figures_of(report):
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


def figures_of(report: KpiReport) -> Iterator[tuple[KpiDefinition, Basis]]:
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
        for definition, basis in figures_of(report)
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
    for definition, basis in figures_of(report):
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
