"""The readout as one HTML page with its charts, and its files in a folder or an MLflow run."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from recsys.errors import ReadoutError
from recsys.evaluation.readout.arm_effects import Effect
from recsys.evaluation.readout.breakdowns import Histogram, SegmentEffect
from recsys.evaluation.readout.over_time import Look, Novelty
from recsys.evaluation.readout.results import Readout
from recsys.evaluation.readout.wording.p_values import p_text
from recsys.evaluation.readout.wording.sentences import INTERVAL_WORDS, amount, difference_words
from recsys.evaluation.statistics.decomposition import Decomposition
from recsys.reporting.formatting import (
    decision_text,
    interval,
    number,
    page_template,
    percent,
    timing_parts,
)
from recsys.reporting.readout_summary import intervals_in_order, is_interim, summary_of
from recsys.reporting.readout_text import heterogeneity_sentences, markdown_page
from recsys.reporting.svg import (
    CONTROL,
    FAINT,
    INK,
    PALETTE,
    WIDTH,
    Drawing,
    Scale,
    percent_ticks,
    scale_over,
    x_axis,
    x_labels,
    y_axis,
)


def html_page(readout: Readout) -> str:
    """Return the page; equal readouts give equal bytes."""
    template = page_template(
        "readout",
        number=number,
        signed=partial(number, signed=True),
        percent=percent,
        share=partial(percent, signed=False),
        p=p_text,
    )
    arms = [verdict.arm for verdict in readout.verdict.arms]
    looks = {arm: [look for look in readout.looks if look.arm == arm] for arm in arms}
    return template.render(
        r=readout,
        interval=interval,
        timing=timing_parts(readout.timing),
        summary=summary_of(readout),
        interval_words=INTERVAL_WORDS,
        interim=is_interim(readout),
        mean=lambda value, effect: _unbroken(amount(value, effect)),
        change=lambda effect: _unbroken(difference_words(effect.effect, effect, signed=True)),
        margin=lambda effect: _unbroken(difference_words(effect.margin, effect)),
        intervals=lambda effect: [_unbroken(words) for words in intervals_in_order(effect, readout)],
        full_reason={verdict.arm: verdict.reason for verdict in readout.verdict.arms},
        decision=decision_text(readout.decision) if readout.decision else None,
        has_margins=any(effect.margin is not None for effect in readout.effects),
        by_status={
            status: [check for check in readout.health if check.status == status]
            for status in ("failed", "warning", "passed", "not_checked")
        },
        forest=forest(readout.effects, arms),
        waterfalls=[(found.arm, waterfall(found)) for found in readout.decompositions],
        cumulative=[(arm, cumulative(looks[arm])) for arm in arms if len(looks[arm]) > 1],
        novelty=[(found, novelty_chart(found)) for found in readout.novelty],
        histogram=histogram_chart(readout.histogram, arms, readout.control) if readout.histogram else None,
        segments=segments_chart(readout.segments, arms),
        heterogeneity=tuple(heterogeneity_sentences(readout)),
    )


def _unbroken(words: str) -> str:
    """A figure stays on one line with its unit; an interval may break between its limits."""
    return words.replace(" ", "\u00a0").replace("\u00a0to\u00a0", " to\u00a0")


_ROW = 30
_LEFT = 170
_CHARACTERS = 25


def forest(effects: Sequence[Effect], arms: Sequence[str]) -> Drawing | None:
    """Return relative effects of all metrics: thick the fixed interval, thin the anytime-valid one."""
    shown = [effect for effect in effects if effect.relative is not None]
    if not shown:
        return None
    limits = [limit for effect in shown for limit in _relative_limits(effect)]
    drawing = Drawing(len(shown) * _ROW + 34, "Relative effects with intervals")
    scale = scale_over(limits, _LEFT, WIDTH - 12)
    x_axis(drawing, scale, 4, len(shown) * _ROW + 8, _percent_tick)
    for row, effect in enumerate(shown):
        y = row * _ROW + 20
        colour = _colour(arms, effect.arm)
        low, high, any_low, any_high = _relative_limits(effect)
        drawing.text(4, y - 1, _short(effect.metric))
        drawing.text(4, y + 11, _short(effect.arm), colour=colour, size=10)
        drawing.line(scale(any_low), y, scale(any_high), y, colour=colour)
        drawing.line(scale(low), y, scale(high), y, colour=colour, width=5)
        drawing.dot(scale(effect.relative or 0.0), y, colour=INK, radius=4)
    return drawing


def _relative_limits(effect: Effect) -> tuple[float, float, float, float]:
    """Both intervals as shares of the adjusted control mean, which `effect / relative` gives back."""
    assert effect.relative is not None
    base = effect.effect / effect.relative if effect.relative else effect.control_mean
    low, high = sorted((effect.effect_low / base, effect.effect_high / base))
    anytime_low, anytime_high = sorted((effect.anytime_low / base, effect.anytime_high / base))
    return low, high, anytime_low, anytime_high


def waterfall(found: Decomposition) -> Drawing:
    """Return how the factors' logs add up to the total effect."""
    steps = [*found.factors, found.total]
    ends = [0.0]
    for factor in found.factors:
        ends.append(ends[-1] + factor.log_effect)
    starts = [*ends[:-1], 0.0]
    limits = [start + side for start, step in zip(starts, steps, strict=True) for side in (step.log_low, step.log_high)]
    drawing = Drawing(len(steps) * 36 + 34, f"Where the effect of {found.arm} comes from")
    scale = scale_over(limits + ends, _LEFT, WIDTH - 62)
    x_axis(drawing, scale, 4, len(steps) * 36 + 8, _log_tick, percent_ticks(scale, 3))
    for row, (start, step) in enumerate(zip(starts, steps, strict=True)):
        y = row * 36 + 24
        end = start + step.log_effect
        is_total = row == len(steps) - 1
        colour = INK if is_total else (PALETTE[2] if step.log_effect >= 0 else PALETTE[1])
        drawing.text(4, y - 1, _short(step.name))
        drawing.text(4, y + 11, f"{number(step.control)} → {number(step.arm)}", colour=CONTROL, size=10)
        drawing.rect(min(scale(start), scale(end)), y - 9, abs(scale(end) - scale(start)), 18, colour=colour)
        drawing.line(scale(start + step.log_low), y, scale(start + step.log_high), y, colour=FAINT, width=1.5)
        drawing.text(WIDTH - 4, y + 4, percent(math.expm1(step.log_effect)), anchor="end")
        if not is_total:
            drawing.line(scale(end), y + 9, scale(end), y + 27, colour=FAINT, dash="2 2")
    return drawing


def cumulative(looks: Sequence[Look]) -> Drawing:
    """Return the effect by day with both bands: dark the fixed-horizon one, light the anytime-valid one."""
    drawing = Drawing(230, f"Effect of {looks[0].arm} by day")
    x = Scale(0, len(looks) - 1, 62, WIDTH - 10)
    # The first looks are so wide that they would hide the rest: the plane is cut to the later ones.
    later = looks[len(looks) // 4 :]
    y = scale_over([limit for look in later for limit in (look.anytime_low, look.anytime_high)], 200, 8)
    y_axis(drawing, y, 62, WIDTH - 10, _plain_tick)
    for low, high, opacity in (("anytime_low", "anytime_high", 0.18), ("effect_low", "effect_high", 0.35)):
        upper = [(x(i), y(getattr(look, high))) for i, look in enumerate(looks)]
        lower = [(x(i), y(getattr(look, low))) for i, look in enumerate(looks)]
        drawing.area([*upper, *reversed(lower)], colour=PALETTE[0], opacity=opacity)
    drawing.path([(x(i), y(look.effect)) for i, look in enumerate(looks)], colour=PALETTE[0])
    x_labels(drawing, x, 222, [look.day for look in looks])
    return drawing


def novelty_chart(found: Novelty) -> Drawing:
    """Return the effect by day since exposure with intervals and the fitted line."""
    days = found.days
    drawing = Drawing(230, f"Effect of {found.arm} by day since exposure")
    x = Scale(days[0].day, max(days[-1].day, days[0].day + 1), 70, WIDTH - 18)
    y = scale_over([limit for day in days for limit in (day.effect_low, day.effect_high)], 200, 8)
    y_axis(drawing, y, 62, WIDTH - 10, _plain_tick)
    for day in days:
        at = x(day.day)
        drawing.line(at, y(day.effect_low), at, y(day.effect_high), colour=FAINT, width=1.5)
        drawing.dot(at, y(day.effect), colour=PALETTE[0])
        if len(days) <= 15 or day.day % 7 == 0:
            drawing.text(at, 218, str(day.day), anchor="middle", colour=CONTROL, size=11)
    centre = sum(day.day for day in days) / len(days)
    mean = sum(day.effect for day in days) / len(days)
    ends = [(x(day), y(mean + found.slope * (day - centre))) for day in (days[0].day, days[-1].day)]
    drawing.path(ends, colour=PALETTE[1], width=1.5)
    return drawing


def histogram_chart(found: Histogram, arms: Sequence[str], control: str) -> Drawing:
    """Return the distribution above zero by arm on a logarithmic axis, the cap marked."""
    drawing = Drawing(222 + 14 * len(found.shares), f"Distribution of {found.column}")
    x = Scale(math.log(found.edges[0]), math.log(found.edges[-1]), 50, WIDTH - 12)
    y = Scale(0.0, max(max(shares) for shares in found.shares.values()) * 1.08, 196, 8)
    y_axis(drawing, y, 50, WIDTH - 12, lambda value: f"{100 * value:g} %")
    for arm, shares in found.shares.items():
        points = []
        for i, share in enumerate(shares):
            points += [(x(math.log(found.edges[i])), y(share)), (x(math.log(found.edges[i + 1])), y(share))]
        drawing.path(points, colour=CONTROL if arm == control else _colour(arms, arm), width=1.8)
    for i in range(0, len(found.edges), max(1, (len(found.edges) - 1) // 4)):
        anchor = "end" if i == len(found.edges) - 1 else "middle"
        drawing.text(x(math.log(found.edges[i])), 212, _edge(found.edges[i]), anchor=anchor, colour=CONTROL, size=11)
    if found.cap is not None:
        at = x(math.log(found.cap))
        drawing.line(at, 8, at, 196, colour=PALETTE[1], dash="4 3", width=1.5)
        drawing.text(at - 5, 20, f"cap {number(found.cap)}", anchor="end", colour=PALETTE[1])
    for row, (arm, share) in enumerate(found.zero_share.items()):
        colour = CONTROL if arm == control else _colour(arms, arm)
        line = 228 + 14 * row
        drawing.line(50, line - 4, 66, line - 4, colour=colour, width=3)
        drawing.text(71, line, f"{arm}: {percent(share, signed=False)} at zero", colour=CONTROL, size=11)
    return drawing


def segments_chart(effects: Sequence[SegmentEffect], arms: Sequence[str]) -> Drawing | None:
    """Return the primary effect in each level of each segment."""
    if not effects:
        return None
    drawing = Drawing(len(effects) * _ROW + 34, "Effects by segment")
    scale = scale_over(
        [limit for effect in effects for limit in (effect.effect_low, effect.effect_high)], _LEFT, WIDTH - 12
    )
    x_axis(drawing, scale, 4, len(effects) * _ROW + 8, _plain_tick)
    for row, effect in enumerate(effects):
        y = row * _ROW + 20
        colour = _colour(arms, effect.arm)
        drawing.text(4, y - 1, _short(f"{effect.segment} {effect.level}"))
        drawing.text(4, y + 11, _short(effect.arm), colour=colour, size=10)
        drawing.line(scale(effect.effect_low), y, scale(effect.effect_high), y, colour=colour, width=4)
        drawing.dot(scale(effect.effect), y, radius=4)
    return drawing


def _colour(arms: Sequence[str], arm: str) -> str:
    return PALETTE[list(arms).index(arm) % len(PALETTE)]


def _short(name: str) -> str:
    return name if len(name) <= _CHARACTERS else name[: _CHARACTERS - 1] + "…"


def _log_tick(value: float) -> str:
    return f"{100 * math.expm1(value):+.0f} %" if value else "0 %"


def _edge(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _plain_tick(value: float) -> str:
    return f"{value:,g}"


def _percent_tick(value: float) -> str:
    return f"{100 * value:g} %"


ARTIFACTS = "readout"


def write_report(readout: Readout, folder: Path) -> tuple[Path, ...]:
    """Write `readout.json`, `readout.html` and `readout.md` and return their paths; equal readouts give equal bytes.

    Raises:
        ReadoutError: the folder is a file.
    """
    if folder.is_file():
        raise ReadoutError(f"{folder} is a file, must be a folder; name another")
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "readout.json": readout.to_json(),
        "readout.html": html_page(readout),
        "readout.md": markdown_page(readout),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return tuple(folder / name for name in texts)


def log_report(readout: Readout, run_id: str) -> None:
    """Log the three files under `readout/` of an MLflow run, with the verdict as a tag and the effects as metrics.

    Raises:
        ReadoutError: there is no such run.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    client = MlflowClient()
    try:
        client.get_run(run_id)
    except MlflowException as error:
        raise ReadoutError(f"MLflow run {run_id!r}: {error.message}; name a run of the arms' models") from None
    with tempfile.TemporaryDirectory() as folder:
        write_report(readout, Path(folder))
        client.log_artifacts(run_id, folder, ARTIFACTS)
    client.set_tag(run_id, "verdict", readout.verdict.verdict)
    for effect in readout.effects:
        name = "".join(letter if letter.isalnum() or letter in "_-. /" else "_" for letter in effect.metric)
        arm = "".join(letter if letter.isalnum() or letter in "_-. /" else "_" for letter in effect.arm)
        client.log_metric(run_id, f"effect/{arm}/{name}", effect.effect)
