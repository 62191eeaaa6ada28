"""The readout as Markdown, for a pull request or a ticket, and as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from recsys.evaluation.readout.arm_effects import Effect, MonetaryImpact
from recsys.evaluation.readout.results import Readout
from recsys.evaluation.readout.wording.p_values import p_text
from recsys.evaluation.readout.wording.sentences import INTERVAL_WORDS, amount, difference_words
from recsys.reporting.formatting import (
    decision_text,
    interval,
    number,
    percent,
    relative_interval,
    timing_parts,
)
from recsys.reporting.readout_summary import intervals_in_order, is_interim, summary_of


def markdown_page(readout: Readout) -> str:
    """Return the page; equal readouts give equal bytes."""
    return "\n".join(_lines(readout)) + "\n"


def _lines(readout: Readout) -> Iterator[str]:
    summary = summary_of(readout)
    yield f"# {readout.experiment}: {readout.verdict.verdict}"
    yield ""
    if readout.decision:
        yield from (f"**{decision_text(readout.decision)}** This look does not change it.", "")
    yield f"This is {summary.stage}."
    yield ""
    for found in summary.arms:
        yield f"- **{found.arm}: {found.verdict}**, because {found.rule}. {found.why}"
        yield f"  How sure: {found.sure} Worth: {found.worth}{' Next: ' + found.then if found.then else ''}"
    if readout.verdict.override:
        yield f"- **Overridden: {readout.verdict.override.verdict}.** {readout.verdict.override.reason}"
    for doubt in summary.doubts:
        yield f"- {doubt}"
    if summary.not_checked:
        yield f"- Not checked: {', '.join(summary.not_checked)}"
    yield from ("", "## For the statistician", "")
    for verdict in readout.verdict.arms:
        yield f"- {verdict.arm}: {verdict.reason}"
    for words in summary.power:
        yield f"- {words}"
    yield ""
    plan = f"plan `{readout.plan.plan_hash[:16]}`" if readout.plan else "no locked plan"
    counts = ", ".join(f"{arm} {count:,}" for arm, count in readout.counts.items())
    yield f"{plan}; unit {readout.unit}; control {readout.control}; {counts}; alpha {readout.alpha}"
    yield ""
    yield "; ".join(timing_parts(readout.timing))
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
    heads = ("anytime-valid", "fixed-horizon") if is_interim(readout) else ("fixed-horizon", "anytime-valid")
    yield from _table(
        ("metric", "arm", "control", "mean", "effect", *heads, "relative", "p", "adjusted p"),
        [
            (
                f"{effect.metric} ({effect.role})",
                effect.arm,
                amount(effect.control_mean, effect),
                amount(effect.arm_mean, effect),
                difference_words(effect.effect, effect, signed=True),
                *intervals_in_order(effect, readout),
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
            f"- {money.arm}: {_with_currency(money)} in {money.metric} over {money.n_units:,} units, "
            f"{percent(money.coverage, signed=False)} {INTERVAL_WORDS[money.decided_by]} interval "
            f"{interval(money.low, money.high)}"
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


def _with_currency(money: MonetaryImpact) -> str:
    total = number(money.total, signed=True)
    return f"{money.currency} {total}" if money.currency else total


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
    for sentence in heterogeneity_sentences(readout):
        yield from ("", sentence)


def heterogeneity_sentences(readout: Readout) -> Iterator[str]:
    """Yield, for each segment and arm, whether the effect differs between the levels."""
    for found in readout.heterogeneity:
        said = "differs" if found.p_adjusted < readout.alpha else "is not shown to differ"
        yield (
            f"The effect of {found.arm} {said} between the {found.n_levels} levels of {found.segment}: Cochran's Q "
            f"{number(found.q)}, adjusted p {p_text(found.p_adjusted)}."
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
    """Yield the verdicts, what is wrong with the data, and the effects; before the end the anytime-valid figures."""
    yield from _verdict_lines(readout)
    for check in readout.health:
        if check.status in {"failed", "warning"}:
            yield Text(f"{check.status} {check.name}: {check.detail}")
    yield _effects_grid(readout)
    for sentence in heterogeneity_sentences(readout):
        yield Text(sentence)
    for note in readout.notes:
        yield Text(f"Note: {note}")


def _verdict_lines(readout: Readout) -> Iterator[Text]:
    """What was decided first, then what this look says."""
    summary = summary_of(readout)
    if readout.decision:
        yield Text(decision_text(readout.decision), style="bold")
    if is_interim(readout):
        yield Text(f"This is {summary.stage}.")
    for verdict, found in zip(readout.verdict.arms, summary.arms, strict=True):
        yield Text(f"{verdict.verdict}: {verdict.arm}, because {verdict.rule}", style="bold")
        yield Text(f"  {verdict.reason[:1].upper()}{verdict.reason[1:]}")
        if any(money.arm == found.arm for money in readout.money):
            yield Text(f"  Worth {found.worth}")
    if readout.plan or readout.timing.last_event:
        yield Text("; ".join(timing_parts(readout.timing)))
    if readout.verdict.override:
        yield Text(f"Overridden: {readout.verdict.override.verdict}, {readout.verdict.override.reason}")


def _effects_grid(readout: Readout) -> Table:
    grid = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    level = f"{100 * (1 - readout.alpha):g} % interval"
    ends = ("anytime-valid", "fixed-horizon") if is_interim(readout) else (level, "relative", "adj. p")
    for head in ("metric", "arm", "control", "mean", "effect", *ends):
        is_name = head in {"metric", "arm"}
        grid.add_column(head, justify="left" if is_name else "right", overflow="fold")
    for effect in readout.effects:
        intervals = tuple(_narrow(words, effect) for words in intervals_in_order(effect, readout))
        early = is_interim(readout)
        last = intervals if early else (intervals[0], percent(effect.relative), p_text(effect.p_adjusted))
        grid.add_row(
            Text(effect.metric),
            Text(effect.arm),
            _narrow(amount(effect.control_mean, effect), effect),
            _narrow(amount(effect.arm_mean, effect), effect),
            difference_words(effect.effect, effect, signed=True).removeprefix(f"{effect.currency} "),
            *(Text(words) for words in last),
        )
    return grid


def _narrow(words: str, effect: Effect) -> str:
    """A column of a terminal has no room for a unit that the sentences above have told."""
    return words.removeprefix(f"{effect.currency} ").removesuffix(" points")
