"""The readout as Markdown, for a pull request or a ticket, and as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from recsys.evaluation.readout.results import Readout
from recsys.reporting.formatting import interval, number, p_text, percent, relative_interval, timing_parts


def markdown_page(readout: Readout) -> str:
    """Return the page; equal readouts give equal bytes."""
    return "\n".join(_lines(readout)) + "\n"


def _lines(readout: Readout) -> Iterator[str]:
    yield f"# {readout.experiment}: {readout.verdict.verdict}"
    yield ""
    plan = f"plan `{readout.plan.plan_hash[:16]}`" if readout.plan else "no locked plan"
    counts = ", ".join(f"{arm} {count:,}" for arm, count in readout.counts.items())
    yield f"{plan}; unit {readout.unit}; control {readout.control}; {counts}; alpha {readout.alpha}"
    yield ""
    yield "; ".join(timing_parts(readout.timing))
    yield ""
    for verdict in readout.verdict.arms:
        yield f"- **{verdict.arm}: {verdict.verdict}**, because {verdict.rule}. {verdict.reason}"
    if readout.verdict.override:
        yield f"- **Overridden: {readout.verdict.override.verdict}.** {readout.verdict.override.reason}"
    yield from _health(readout)
    yield from _effects(readout)
    yield from _worth(readout)
    yield from _segments(readout)
    yield from _sensitivity(readout)
    if readout.notes:
        yield from ("", "## Notes", "", *(f"- {note}" for note in readout.notes))


def _health(readout: Readout) -> Iterator[str]:
    yield from ("", "## Health", "")
    yield from _table(
        ("check", "status", "detail"),
        [(check.name.replace("_", " "), check.status.replace("_", " "), check.detail) for check in readout.health],
    )


def _effects(readout: Readout) -> Iterator[str]:
    yield from ("", "## Effects", "")
    yield from _table(
        ("metric", "arm", "control", "mean", "effect", "interval", "anytime-valid", "relative", "p", "adjusted p"),
        [
            (
                f"{effect.metric} ({effect.role})",
                effect.arm,
                number(effect.control_mean),
                number(effect.arm_mean),
                number(effect.effect, signed=True),
                interval(effect.effect_low, effect.effect_high),
                interval(effect.anytime_low, effect.anytime_high),
                relative_interval(effect),
                p_text(effect.p_value),
                p_text(effect.p_adjusted),
            )
            for effect in readout.effects
        ],
    )


def _worth(readout: Readout) -> Iterator[str]:
    if readout.money:
        yield from ("", "## Money", "")
    for money in readout.money:
        yield (
            f"- {money.arm}: {number(money.total, signed=True)} in {money.metric} over {money.n_units:,} units, "
            f"{percent(money.coverage, signed=False)} interval {interval(money.low, money.high)}"
        )
    for share in readout.incremental:
        told = percent(share.share, signed=False) if share.share is not None else "too little attributed for a share"
        yield (
            f"- {share.arm}: incremental {number(share.incremental, signed=True)} of attributed "
            f"{number(share.attributed)} per unit: {told}"
        )
    for found in readout.decompositions:
        parts = ", ".join(f"{factor.name} {number(factor.log_effect, signed=True)}" for factor in found.factors)
        yield f"- {found.arm}, in logs: {parts}; together {number(found.total.log_effect, signed=True)}"


def _segments(readout: Readout) -> Iterator[str]:
    if not readout.segments:
        return
    yield from ("", "## Segments", "")
    yield from _table(
        ("segment", "level", "arm", "effect", "interval", "adjusted p"),
        [
            (
                found.segment,
                found.level,
                found.arm,
                number(found.effect, signed=True),
                interval(found.effect_low, found.effect_high),
                p_text(found.p_adjusted),
            )
            for found in readout.segments
        ],
    )


def _sensitivity(readout: Readout) -> Iterator[str]:
    if not readout.sensitivity:
        return
    yield from ("", "## Sensitivity", "")
    yield from _table(
        ("arm", "CUPED", "cap", "window", "units", "effect", "interval", "verdict"),
        [
            (
                cell.arm,
                "yes" if cell.cuped else "no",
                percent(cell.cap, signed=False) if cell.cap else "none",
                cell.window,
                "exposed" if cell.triggered else "assigned",
                number(cell.effect, signed=True),
                interval(cell.low, cell.high),
                f"**{cell.verdict}**, flips" if cell.flips else cell.verdict,
            )
            for cell in readout.sensitivity
        ],
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for row in rows:
        cells = [cell.replace("|", r"\|") for cell in row]
        yield f"| {' | '.join(cells)} |"


def readout_tables(readout: Readout) -> Iterator[RenderableType]:
    """Yield the verdicts, what is wrong with the data, and the effects."""
    for verdict in readout.verdict.arms:
        yield Text(f"{verdict.verdict}: {verdict.arm}, because {verdict.rule}", style="bold")
        yield Text(f"  {verdict.reason}")
    if readout.plan or readout.timing.last_event:
        yield Text("; ".join(timing_parts(readout.timing)))
    if readout.verdict.override:
        yield Text(f"Overridden: {readout.verdict.override.verdict}, {readout.verdict.override.reason}")
    for check in readout.health:
        if check.status in {"failed", "warning"}:
            yield Text(f"{check.status} {check.name}: {check.detail}")
    grid = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for head in ("metric", "arm", "control", "mean", "effect", "interval", "relative", "adj. p"):
        grid.add_column(head, justify="left" if head in {"metric", "arm"} else "right")
    for effect in readout.effects:
        grid.add_row(
            Text(effect.metric),
            Text(effect.arm),
            number(effect.control_mean),
            number(effect.arm_mean),
            number(effect.effect, signed=True),
            Text(interval(effect.effect_low, effect.effect_high)),
            percent(effect.relative),
            p_text(effect.p_adjusted),
        )
    yield grid
    for note in readout.notes:
        yield Text(f"Note: {note}")
