"""An effect as a sentence: the metric in words, which way it went, how far, from where to where, in its unit.

The number of decimals follows the standard error: digits that chance alone would change are not shown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from recsys.evaluation.readout.arm_effects import Decider, Effect
from recsys.experiments.known_metrics import MetricUnit

_WORDS: Final[Mapping[str, str]] = {"aov": "average order value"}
INTERVAL_WORDS: Final[Mapping[Decider, str]] = {
    "fixed": "fixed-horizon",
    "anytime": "anytime-valid",
    "randomisation": "randomisation",
    "pooled": "wider of Welch's and the pooled",
}
_MOST_DECIMALS = 8


def metric_words(name: str) -> str:
    """Return a metric's name as it is spoken.

    Example:
        >>> metric_words("revenue_per_account"), metric_words("aov")
        ('revenue per account', 'average order value')
    """
    return _WORDS.get(name, name.replace("_", " "))


def decimals_of(standard_error: float, unit: MetricUnit) -> int:
    """Return how many decimals a figure of this standard error is worth; a share is counted in percent.

    Example:
        >>> decimals_of(0.0026, "share"), decimals_of(0.13, "money"), decimals_of(35.0, "number")
        (1, 2, 0)
    """
    scaled = 100 * standard_error if unit == "share" else standard_error
    by_error = 0 if scaled <= 0 or not math.isfinite(scaled) else -math.floor(math.log10(scaled))
    least = {"share": 1, "money": 2 if scaled < 1 else 0, "number": 0}[unit]
    return min(max(by_error, least), _MOST_DECIMALS)


def amount(value: float, effect: Effect, *, signed: bool = False) -> str:
    """Return a value of the effect's metric with its unit, rounded as the effect's standard error allows."""
    places = decimals_of(effect.standard_error, effect.unit)
    if effect.unit == "share":
        return f"{_figure(100 * value, places, signed=signed)} %"
    if effect.unit == "money" and effect.currency:
        return f"{effect.currency} {_figure(value, places, signed=signed)}"
    return _figure(value, places, signed=signed)


def difference_words(value: float, effect: Effect, *, signed: bool = False) -> str:
    """Return a difference with its unit: shares differ by points."""
    if effect.unit != "share":
        return amount(value, effect, signed=signed)
    return f"{_figure(100 * value, decimals_of(effect.standard_error, 'share'), signed=signed)} points"


def limits_words(low: float, high: float, effect: Effect) -> str:
    """Return the limits of an interval of the effect, the unit once; where there is none, that it is missing."""
    if math.isnan(low):
        return "not available"
    places = decimals_of(effect.standard_error, effect.unit)
    factor = 100 if effect.unit == "share" else 1
    first, last = (_figure(factor * limit, places, signed=True) for limit in (low, high))
    if effect.unit == "share":
        return f"{first} to {last} points"
    return (
        f"{effect.currency} {first} to {last}" if effect.unit == "money" and effect.currency else f"{first} to {last}"
    )


def movement(effect: Effect) -> str:
    """Return what the metric did, as `7-day retention fell by 0.8 points, from 19.0 to 18.2 % (-4.2 %)`.

    Where the interval that decides holds zero, no difference was shown, and what was measured is said to be that. A
    difference that rounds to zero has its interval in its place. A guardrail is told as measured.
    """
    size = difference_words(abs(effect.effect), effect)
    way = "rose" if effect.effect > 0 else "fell"
    relative = f" ({100 * effect.relative:+,.1f} %)" if effect.relative is not None else ""
    raw = effect.arm_mean - effect.control_mean
    start, end = amount(effect.control_mean, effect), amount(effect.arm_mean, effect)
    start = start.removesuffix(" %")
    means = f", from {start} to {end}"
    if difference_words(abs(raw), effect) != size or raw * effect.effect < 0:
        means = f" after adjustment for the time before{means} as it happened"
    if _rounds_to_zero(effect):
        return f"no difference in {metric_words(effect.metric)} shown{means}; {_interval(effect)}"
    if effect.role != "guardrail" and effect.decision_low <= 0 <= effect.decision_high:
        measured = difference_words(effect.effect, effect, signed=True)
        return f"no difference in {metric_words(effect.metric)} shown: {measured} measured{means}{relative}"
    return f"{metric_words(effect.metric)} {way} by {size}{means}{relative}"


def sentence(effect: Effect) -> str:
    """Return what the metric did and the interval that decides."""
    return movement(effect) if _rounds_to_zero(effect) else f"{movement(effect)}; {_interval(effect)}"


def _interval(effect: Effect) -> str:
    limits = limits_words(effect.decision_low, effect.decision_high, effect)
    return f"{INTERVAL_WORDS[effect.decided_by]} interval {limits}"


def _rounds_to_zero(effect: Effect) -> bool:
    return not any(letter in "123456789" for letter in difference_words(effect.effect, effect))


def guardrail_sentence(effect: Effect) -> str:
    """Return what a guardrail did, and how that stands to its margin."""
    return f"{sentence(effect)}: {guardrail_words(effect)}"


def guardrail_words(effect: Effect) -> str:
    """Return how a guardrail stands to its margin."""
    margin = "" if effect.margin is None else difference_words(effect.margin, effect)
    if effect.is_harmed:
        return f"worse by more than its margin of {margin}"
    if effect.is_non_inferior:
        return f"{'worse, but ' if effect.is_worse else ''}within its margin of {margin}"
    return f"{'worse, ' if effect.is_worse else ''}not shown to stay within its margin of {margin}"


def _figure(value: float, places: int, *, signed: bool) -> str:
    text = f"{value:{'+' if signed else ''},.{places}f}"
    return text.replace("-", "", 1) if not any(letter in "123456789" for letter in text) else text
