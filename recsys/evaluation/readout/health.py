"""Are the data fit to be read? Each check passes, fails, warns, or is named as not checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy import stats

from recsys.evaluation.readout.design import Design, ReadoutConfig
from recsys.evaluation.readout.units import CountedUnits
from recsys.evaluation.readout.wording.p_values import p_words
from recsys.evaluation.statistics.effects import quadratic, ratio_and_gradient
from recsys.evaluation.statistics.metric import Ratio
from recsys.evaluation.statistics.moments import Moments
from recsys.evaluation.statistics.randomisation import Tails
from recsys.evaluation.statistics.significance_tests import (
    adjusted_p_values,
    sample_ratio_p_value,
    sequential_sample_ratio_p_value,
)

CheckStatus = Literal["passed", "failed", "warning", "not_checked"]


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """One check of the data.

    Attributes:
        name: stands in JSON and in the report.
        status: `failed` makes the verdict INVALID; `not_checked` is not passed.
        detail: one sentence with the figures.
        p_value: of a test; None where the check is exact.
    """

    name: str
    status: CheckStatus
    detail: str
    p_value: float | None = None


@dataclass(frozen=True)
class LogFacts:
    """What only a log of events can tell; None means that the log does not tell.

    Attributes:
        cumulative_counts: assigned units by the end of each day and arm, shape `(n_days, n_arms)`, arms sorted.
        n_exposed_unassigned: units with an exposure in the experiment and no assignment.
        n_exposed_in_other_arm: units whose exposure was logged under another arm than their assignment.
        n_outcomes: outcomes of offers in the log.
        n_outcomes_before_exposure: of these, earlier than the exposure they belong to.
        n_reassigned: units whose logged arm is not the one that the plan's hash gives.
        mature_share: assigned units whose attribution window is complete.
        min_mature_share: that the plan asks for.
        mixed_by_arm: units in several arms, by the arm that is theirs; empty where that is not known.
        others: units by arm there and arm here, shape `(n_arms_there, n_arms)`, by the name of another experiment;
            empty where no other had these units.
    """

    cumulative_counts: np.ndarray | None = None
    n_exposed_unassigned: int | None = None
    n_exposed_in_other_arm: int | None = None
    n_outcomes: int | None = None
    n_outcomes_before_exposure: int | None = None
    n_reassigned: int | None = None
    mature_share: float | None = None
    min_mature_share: float = 0.9
    mixed_by_arm: Mapping[str, int] = field(default_factory=dict)
    others: Mapping[str, np.ndarray] | None = None


NO_LOG = LogFacts()


def health_checks(
    units: CountedUnits,
    moments: Moments,
    design: Design,
    config: ReadoutConfig,
    log: LogFacts,
    tails: Mapping[tuple[str, str], Tails],
) -> tuple[HealthCheck, ...]:
    """Return every check, in the order in which a reviewer reads them."""
    return (
        _plan_hash(design),
        _assigned(units, design, config),
        _exposed(units, design, config),
        _segments(units, design, config),
        _sequential(units, design, config, log),
        _mixed(units, log, design, config),
        _count_check(
            "assignment_hash",
            log.n_reassigned,
            "units are not in the arm that the plan's hash gives",
            "needs the plan that assigned the units",
        ),
        _count_check(
            "exposure_without_assignment",
            log.n_exposed_unassigned,
            "units met the experiment without an assignment",
            "needs a log of exposures",
        ),
        _count_check(
            "outcome_before_exposure",
            log.n_outcomes_before_exposure,
            f"of {log.n_outcomes or 0:,} outcomes lie before the exposure they belong to",
            "needs a log of exposures and outcomes with times",
        ),
        _maturity(design, log),
        _balance(units, moments, design, config),
        _size(design, tails),
    )


def _plan_hash(design: Design) -> HealthCheck:
    name = "plan_hash"
    if design.plan is None:
        return HealthCheck(
            name, "not_checked", "no locked plan: metrics, margins and the end may have been chosen late"
        )
    if not design.has_plan_hash:
        return HealthCheck(name, "not_checked", "no hash was kept when the plan started; give it as plan_hash")
    if design.plan.is_unchanged:
        return HealthCheck(name, "passed", f"the plan is the one that was locked, {design.plan.plan_hash[:12]}")
    return HealthCheck(name, "failed", f"the plan was altered after its start: it was {design.plan.plan_hash[:12]}")


def _assigned(units: CountedUnits, design: Design, config: ReadoutConfig) -> HealthCheck:
    hint = "" if design.shares_are_stated else " (equal shares are assumed; state others as shares)"
    return _ratio_check("sample_ratio_assigned", units.counts(), design, config, "assigned units", hint)


def _exposed(units: CountedUnits, design: Design, config: ReadoutConfig) -> HealthCheck:
    if not units.has_exposed:
        return HealthCheck("sample_ratio_exposed", "not_checked", "which units were exposed is not known")
    return _ratio_check("sample_ratio_exposed", units.exposed_counts(), design, config, "exposed units", "")


def _ratio_check(
    name: str, counts: Mapping[str, int], design: Design, config: ReadoutConfig, what: str, hint: str
) -> HealthCheck:
    arms = list(design.shares)
    observed = [counts.get(arm, 0) for arm in arms]
    shares = [design.shares[arm] for arm in arms]
    if sum(observed) == 0:
        return HealthCheck(name, "failed", f"0 {what}, must be some in every arm: is the log of exposures lost?")
    p_value = float(sample_ratio_p_value(observed, shares))
    found = ", ".join(
        f"{arm} {count:,} (planned {share:.1%}, found {count / sum(observed):.1%})"
        for arm, count, share in zip(arms, observed, shares, strict=True)
    )
    status = _tested(p_value, config)
    return HealthCheck(name, status, f"{what}: {found}; {p_words(p_value)}{hint}", p_value)


def _tested(p_value: float, config: ReadoutConfig) -> CheckStatus:
    if p_value < config.health_alpha:
        return "failed"
    return "warning" if p_value < config.warning_alpha else "passed"


def _segments(units: CountedUnits, design: Design, config: ReadoutConfig) -> HealthCheck:
    name = "sample_ratio_segments"
    if not design.segments:
        declared = ", ".join(design.plan.plan.segments) if design.plan else ""
        why = f"the values of {declared} are not in the data" if declared else "no segments were declared"
        return HealthCheck(name, "not_checked", why)
    shares = np.array(list(design.shares.values()))
    labels: list[str] = []
    p_values: list[float] = []
    for segment in design.segments:
        for level, counts in units.segment_counts(segment).items():
            labels.append(f"{segment} {level}")
            p_values.append(float(sample_ratio_p_value([counts.get(arm, 0) for arm in design.shares], shares)))
    adjusted = adjusted_p_values(p_values, "holm")
    worst = int(np.argmin(adjusted))
    status = _tested(adjusted[worst], config)
    detail = f"{len(labels)} levels, the least likely is {labels[worst]}: Holm-adjusted {p_words(adjusted[worst])}"
    return HealthCheck(name, status, detail, adjusted[worst])


def _sequential(units: CountedUnits, design: Design, config: ReadoutConfig, log: LogFacts) -> HealthCheck:
    shares = [design.shares[arm] for arm in sorted(design.shares)]
    if log.cumulative_counts is None:
        counts = np.array([[units.counts().get(arm, 0) for arm in sorted(design.shares)]])
        looks = "one look, as days are not known"
    else:
        counts = log.cumulative_counts
        looks = f"{len(counts)} daily looks"
    p_value = float(sequential_sample_ratio_p_value(counts, shares)[-1])
    status = _tested(p_value, config)
    return HealthCheck("sample_ratio_sequential", status, f"anytime-valid over {looks}: {p_words(p_value)}", p_value)


def _mixed(units: CountedUnits, log: LogFacts, design: Design, config: ReadoutConfig) -> HealthCheck:
    """What stands in several arms is left out: few are a nuisance, many or more of one arm's are another sample."""
    name = "mixed_assignment"
    if not units.has_ids:
        return HealthCheck(name, "not_checked", "units have no ids")
    other, n_units, n_clusters = log.n_exposed_in_other_arm or 0, len(units.mixed.units), len(units.mixed.clusters)
    if n_units + n_clusters + other == 0:
        return HealthCheck(name, "passed", "every unit stands in one arm")
    parts = []
    if n_units:
        parts.append(f"{n_units:,} units stand in several arms; they are left out of the effects")
    if n_clusters:
        parts.append(f"{n_clusters:,} clusters stand in several arms; they are left out of the effects")
    if other:
        parts.append(f"{other:,} units were answered by another arm than their assignment's")
    of_units = (n_units + other) / (sum(units.unit_counts().values()) + n_units)
    share = max(of_units, n_clusters / (sum(units.counts().values()) + n_clusters))
    parts.append(f"{share:.2%} of all, at most {config.most_mixed_share:.2%} may be")
    is_failed = share > config.most_mixed_share
    p_value = None
    if log.mixed_by_arm:
        observed = [log.mixed_by_arm.get(arm, 0) for arm in design.shares]
        p_value = float(sample_ratio_p_value(observed, list(design.shares.values())))
        by_arm = ", ".join(f"{arm} {count:,}" for arm, count in zip(design.shares, observed, strict=True))
        parts.append(f"by the arm that is theirs {by_arm}, {p_words(p_value)}")
        is_failed |= p_value < config.health_alpha
    return HealthCheck(name, "failed" if is_failed else "warning", "; ".join(parts), p_value)


def _count_check(name: str, count: int | None, what: str, needs: str) -> HealthCheck:
    if count is None:
        return HealthCheck(name, "not_checked", needs)
    return HealthCheck(name, "failed" if count else "passed", f"{count:,} {what}")


def _maturity(design: Design, log: LogFacts) -> HealthCheck:
    name = "maturity"
    if log.mature_share is None:
        said = "taken as complete, as no times are known" if design.stage.is_mature else "not known"
        return HealthCheck(name, "not_checked", f"whether each unit's window is complete: {said}")
    detail = f"{log.mature_share:.1%} of the units have a complete window, {log.min_mature_share:.0%} are needed"
    return HealthCheck(name, "passed" if log.mature_share >= log.min_mature_share else "warning", detail)


def _balance(units: CountedUnits, moments: Moments, design: Design, config: ReadoutConfig) -> HealthCheck:
    name = "balance_before"
    before = {metric.name: metric.before for metric in design.metrics if metric.before is not None}
    if not before:
        return HealthCheck(name, "not_checked", "no pre-period values; give them as covariates")
    ratios = list(dict.fromkeys(before.values()))
    used = moments[[units.arms.index(arm) for arm in design.shares]]
    adjusted = adjusted_p_values([balance_p_value(used, ratio) for ratio in ratios], "holm")
    worst = int(np.argmin(adjusted))
    status = _tested(adjusted[worst], config)
    shown = "/".join(ratios[worst].columns)
    detail = f"{len(ratios)} pre-period values, the least balanced is {shown}: Holm-adjusted {p_words(adjusted[worst])}"
    return HealthCheck(name, status, detail, adjusted[worst])


def balance_p_value(moments: Moments, ratio: Ratio) -> float:
    """Return the p-value of equal ratios in all arms.

    Formula: `sum_a w_a (r_a - r)^2` with `w_a = 1 / var(r_a)` and `r` their weighted mean, chi-square with one degree
    of freedom less than arms; no equal variances are assumed.
    """
    value, gradient = ratio_and_gradient(moments, ratio)
    variance = quadratic(gradient, moments.cov, gradient) / moments.n
    if (variance <= 0).any():
        return 1.0 if np.allclose(value, value[0]) else 0.0
    weight = 1 / variance
    centre = (weight * value).sum() / weight.sum()
    return float(stats.chi2.sf((weight * (value - centre) ** 2).sum(), len(value) - 1))


def _size_of_sums(metric: str, arm: str, tails: Tails) -> HealthCheck:
    sizes = f"{metric} of {arm}: {tails.n_smaller:,} units against {tails.n_larger:,}"
    if tails.is_fit:
        return HealthCheck(
            "enough_units", "passed", f"{sizes}: arms of like size err as stated, {tails.stated_error:.1%}"
        )
    return HealthCheck(
        "enough_units",
        "warning",
        f"{sizes}; buyers and skewness need rows, without them a side of the fixed interval may err more often than in "
        f"{tails.stated_error:.1%}, so that the wider of Welch's and the pooled interval decides",
    )


def _size(design: Design, tails: Mapping[tuple[str, str], Tails]) -> HealthCheck:
    """Buyers, skewness and imbalance together say whether the fixed interval errs as stated."""
    name = "enough_units"
    if not tails:
        return HealthCheck(name, "not_checked", "no metric decides")
    (metric, arm), worst = max(tails.items(), key=lambda item: item[1].error_of_a_side / item[1].stated_error)
    if worst.skewness is None:
        return _size_of_sums(metric, arm, worst)
    found = (
        f"{metric} of {arm}: the smaller of the two arms has {worst.n_smaller:,} units, {worst.n_nonzero:,} of them "
        f"not zero, the other {worst.n_larger / worst.n_smaller:.3g} times as many; skewness {worst.skewness:.3g}"
    )
    if worst.is_fit:
        return HealthCheck(
            name, "passed", f"{found}; a side of the fixed interval errs as stated, {worst.stated_error:.1%}"
        )
    instead = "the randomisation interval decides in its place" if design.stage.is_final else "it would not decide"
    error = f"a side of the fixed interval errs about {worst.error_of_a_side:.1%} instead of {worst.stated_error:.1%}"
    return HealthCheck(name, "warning", f"{found}; {error}, so that {instead}")
