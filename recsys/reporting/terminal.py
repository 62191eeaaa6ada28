"""The readout as a few tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from recsys.evaluation.readout.results import Readout
from recsys.reporting.formatting import interval, number, p_text, percent


def readout_tables(readout: Readout) -> Iterator[RenderableType]:
    """Yield the verdicts, what is wrong with the data, and the effects."""
    for verdict in readout.verdict.arms:
        yield Text(f"{verdict.verdict}: {verdict.arm}, because {verdict.rule}", style="bold")
        yield Text(f"  {verdict.reason}")
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
