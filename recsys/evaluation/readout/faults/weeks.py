"""Arms that change over time, and units whose arm depends on the one that they have in another experiment."""

from __future__ import annotations

import numpy as np
from scipy import stats

from recsys.evaluation.readout.design import Design, ReadoutConfig
from recsys.evaluation.readout.health import CheckStatus, HealthCheck, LogFacts
from recsys.evaluation.readout.wording.p_values import p_words
from recsys.evaluation.statistics.significance_tests import MIN_EXPECTED, adjusted_p_values

_DAYS = 7
_MOST_DEPENDENCE = 0.02
"""By how much the share of another experiment's arm may differ between two arms here, where a dependence is found: an
effect of 10 % there then moves the effect here by 0.2 % of the mean, a tenth of what is looked for."""


def shares_over_time(log: LogFacts, design: Design, config: ReadoutConfig) -> HealthCheck:
    """Return whether every week assigned units to the arms in the same shares.

    A ramp gives an arm more of the late weeks: pooled arms then compare unlike weeks (Simpson's paradox), whatever the
    shares are in all. Test: chi-square of weeks by arms, short weeks joined to the next.
    """
    name = "shares_over_time"
    if log.cumulative_counts is None:
        return HealthCheck(name, "not_checked", "needs the time of each assignment")
    weeks = _weeks(log.cumulative_counts)
    if len(weeks) < 2:
        return HealthCheck(name, "passed", "all units were assigned within one week")
    p_value = float(stats.chi2_contingency(weeks, correction=False).pvalue)
    shares = weeks / weeks.sum(axis=1, keepdims=True)
    arms = sorted(design.shares)
    at = max((i for i, arm in enumerate(arms) if arm != design.control), key=lambda i: float(np.ptp(shares[:, i])))
    low, high = shares[:, at].min(), shares[:, at].max()
    told = f"{arms[at]} got {low:.1%} to {high:.1%} of the units of a week, {len(weeks)} weeks; {p_words(p_value)}"
    if p_value < config.health_alpha:
        why = "arms compare unlike weeks; analyse each week apart, or from where the shares stand still"
        return HealthCheck(name, "failed", f"{told}: {why}", p_value)
    return HealthCheck(name, _amber(p_value, config), told, p_value)


def _weeks(cumulative: np.ndarray) -> np.ndarray:
    """Units by week and arm, weeks joined until the chi-square holds."""
    daily = np.diff(cumulative, axis=0, prepend=np.zeros((1, cumulative.shape[1]), dtype=cumulative.dtype))
    total = daily.sum(axis=0)
    needed = MIN_EXPECTED * total.sum() / total.min()
    found: list[np.ndarray] = []
    open_week = np.zeros(len(total))
    for start in range(0, len(daily), _DAYS):
        open_week = open_week + daily[start : start + _DAYS].sum(axis=0)
        if open_week.sum() >= needed:
            found.append(open_week)
            open_week = np.zeros(len(total))
    if found:
        found[-1] = found[-1] + open_week
    return np.array(found)


def other_experiments(log: LogFacts, config: ReadoutConfig) -> HealthCheck:
    """Return whether units' arms are independent of those they have in other experiments and versions.

    With a salt of its own they are; a salt that was used again, or arms that somebody tied together, carry the other
    treatment into one arm here. Test: chi-square of arms there by arms here, by Holm over the others. A dependence that
    is found fails where an arm there has shares that differ by more than two points between two arms here.
    """
    name = "other_experiments"
    if log.others is None:
        needs = "needs the event store; in a table give the arm of an earlier or concurrent experiment as a segment"
        return HealthCheck(name, "not_checked", needs)
    if not log.others:
        return HealthCheck(name, "passed", "no other experiment or version of the store had these units")
    testable = {other: counts for other, counts in log.others.items() if _is_testable(counts)}
    if not testable:
        return HealthCheck(name, "passed", f"too few units were in {', '.join(log.others)} to matter")
    p_values = [float(stats.chi2_contingency(_used(counts), correction=False).pvalue) for counts in testable.values()]
    adjusted = adjusted_p_values(p_values, "holm")
    worst = int(np.argmin(adjusted))
    other = list(testable)[worst]
    counts, p_value = testable[other], adjusted[worst]
    apart = dependence(counts)
    told = (
        f"{int(counts.sum()):,} units are in {other} too; the share of an arm there differs by up to {apart:.1%} "
        f"between arms here, Holm-adjusted {p_words(p_value)}"
    )
    if p_value >= config.health_alpha:
        return HealthCheck(name, _amber(p_value, config), told, p_value)
    bound = f"at most {_MOST_DEPENDENCE:.0%} may be"
    if apart > _MOST_DEPENDENCE:
        why = "the arms carry another treatment; start a new version, which draws anew"
        return HealthCheck(name, "failed", f"{told}, {bound}: {why}", p_value)
    return HealthCheck(
        name, "warning", f"{told}, {bound}: the assignments depend on each other, too little to matter", p_value
    )


def dependence(counts: np.ndarray) -> float:
    """Return by how much the share of an arm there differs at most between two arms here, between 0 and 1.

    Args:
        counts: units by arm there and arm here, shape `(n_arms_there, n_arms)`.

    Example:
        >>> dependence(np.array([[60, 50], [40, 50]]))
        0.1
    """
    used = _used(counts)
    return round(float(np.ptp(used / used.sum(axis=0), axis=1).max()), 12)


def _used(counts: np.ndarray) -> np.ndarray:
    used: np.ndarray = counts[counts.sum(axis=1) > 0][:, counts.sum(axis=0) > 0]
    return used


def _is_testable(counts: np.ndarray) -> bool:
    used = _used(counts)
    if min(used.shape) < 2:
        return False
    return bool(stats.contingency.expected_freq(used).min() >= MIN_EXPECTED)


def _amber(p_value: float, config: ReadoutConfig) -> CheckStatus:
    return "warning" if p_value < config.warning_alpha else "passed"
