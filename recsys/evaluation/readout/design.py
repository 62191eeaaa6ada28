"""What a readout judges by: metrics, margins, planned shares, and whether the data hold the columns for it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import ibis
from pydantic import Field

from recsys.contracts.columns import SOURCE_ROW
from recsys.contracts.config import Config
from recsys.errors import MissingColumnError, ReadoutError
from recsys.evaluation.statistics.metric import Margin, Metric, Ratio
from recsys.evaluation.statistics.significance_tests import Correction
from recsys.experiments.known_metrics import KNOWN_METRICS, MetricUnit
from recsys.experiments.plan import UNSTATED_DIRECTION, LockedPlan, MetricDirection


class ReadoutConfig(Config):
    """The options of a readout that are not about one experiment's columns."""

    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    """Two-sided error of the primary metric, shared by the arms that are compared with control."""
    health_alpha: float = Field(default=0.001, gt=0, lt=0.5)
    """Error of each health check: false alarms stop experiments, so they are rare."""
    warning_alpha: float = Field(default=0.01, gt=0, lt=0.5)
    """Below it a health check that does not fail warns."""
    most_mixed_share: float = Field(default=0.01, ge=0, lt=1)
    """Share of units in several arms above which the readout is INVALID: one in a hundred; fewer are left out."""
    correction: Correction = "holm"
    """How the secondary family and the family of segments are corrected."""
    practical_margin: float = Field(default=0.0, ge=0)
    """The smallest effect worth having, as a share of the control's mean; 0 switches the verdict FLAT off."""
    cap_percentile: float | None = Field(default=None, gt=0.5, lt=1)
    """The primary's values above this quantile of its positive values are set to it; None leaves them."""
    grid_percentile: float = Field(default=0.99, gt=0.5, lt=1)
    """The cap that the sensitivity grid tries where no other is set."""
    planned_units: float = Field(default=20_000, gt=1)
    """Units of two arms for which the anytime-valid interval is tightest; set beforehand, never from the data."""
    tail_tolerance: float = Field(default=0.1, ge=0)
    """How much more often than stated, as a share, a side of the fixed interval may err before another decides."""


@dataclass(frozen=True, slots=True)
class Stage:
    """How far the run has come.

    Attributes:
        is_final: the decision is due and not stored yet: the fixed-horizon interval decides, once.
        has_min_run: the minimum run is over.
        is_mature: enough units have a complete window.
        is_stated: all this was said by the caller, not read from a plan and a log.
        days_left: until the planned end; None where it is not known.
        has_planned_size: the smallest arm has as many units as were planned.
        is_over: waiting brings no more units and no more orders, so that nothing is left to wait for.
        is_decided: the decision is stored; what is looked at later is anytime-valid only.
    """

    is_final: bool
    has_min_run: bool
    is_mature: bool
    is_stated: bool = False
    days_left: float | None = None
    has_planned_size: bool = True
    is_over: bool = False
    is_decided: bool = False


@dataclass(frozen=True, slots=True)
class Timing:
    """As of when a readout judges, and how much of the plan is there by then.

    Attributes:
        as_of: what was asked for, UTC; None where rows have no times and no plan asks for one.
        last_event: of the log, UTC; None where rows have no times.
        counted_until: the moment that counts, the earlier of both: nothing later is finished or mature.
        decision_due: as of when the plan is decided.
        planned_size: units of the smallest arm that the plan asks for.
        smallest_arm: units that it has.
    """

    as_of: datetime | None
    last_event: datetime | None
    counted_until: datetime | None
    decision_due: datetime | None
    planned_size: int | None
    smallest_arm: int


FINISHED = Stage(is_final=True, has_min_run=True, is_mature=True, is_stated=True)
INTERIM = Stage(is_final=False, has_min_run=False, is_mature=False, is_stated=True)


@dataclass(frozen=True)
class Design:
    """One experiment as it is to be judged.

    Attributes:
        name: stands in the title.
        control: the arm that the others are compared with.
        shares: planned probability by arm.
        metrics: with their roles; at most one is primary.
        stage: how far the run has come.
        segments: columns by which the primary metric is split.
        chain: columns of the decomposition, the total last; empty for none.
        chain_labels: names of its factors.
        attributed: column with the revenue that is credited to offers; None where it is not known.
        capped: quantile by column that is capped.
        plan: the plan as it was locked; None for a table from elsewhere.
        has_plan_hash: whether the plan's hash was kept at its start.
        shares_are_stated: whether anybody said the shares; else they are taken as equal.
        as_of: the moment that was asked for; None where none was.
        last_event: of the log; None where rows have no times.
        quality: what no treatment can move, by name: a difference of the arms shows that data were lost.
    """

    name: str
    control: str
    shares: Mapping[str, float]
    metrics: tuple[Metric, ...]
    stage: Stage = FINISHED
    segments: tuple[str, ...] = ()
    chain: tuple[str, ...] = ()
    chain_labels: tuple[str, ...] = ()
    attributed: str | None = None
    capped: Mapping[str, float] = field(default_factory=dict)
    plan: LockedPlan | None = None
    has_plan_hash: bool = True
    shares_are_stated: bool = False
    as_of: datetime | None = None
    last_event: datetime | None = None
    quality: Mapping[str, Ratio] = field(default_factory=dict)

    @property
    def counted_until(self) -> datetime | None:
        """The moment that counts: the earlier of what was asked for and the log's last event."""
        known = [moment for moment in (self.as_of, self.last_event) if moment is not None]
        return min(known, default=None)

    @property
    def treatments(self) -> tuple[str, ...]:
        """The arms that are compared with control."""
        return tuple(arm for arm in self.shares if arm != self.control)

    @property
    def primary(self) -> Metric | None:
        """The metric that decides; None where every metric is a ratio."""
        return next((metric for metric in self.metrics if metric.role == "primary"), None)

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column of values that is needed, once."""
        found = [column for metric in self.metrics for column in metric.columns]
        found += [column for ratio in self.quality.values() for column in ratio.columns]
        found += [*self.chain, *([self.attributed] if self.attributed else [])]
        return tuple(dict.fromkeys(found))


def metrics_of(
    values: Mapping[str, Ratio],
    *,
    before: Mapping[str, Ratio],
    guardrails: Mapping[str, Margin],
    primary: str | None = None,
    primary_direction: MetricDirection = "higher_is_better",
    money: Sequence[str] = (),
    currency: str | None = None,
) -> tuple[Metric, ...]:
    """Return the metrics with their roles, and one more for each denominator that is not a metric itself.

    The primary is the one named, else the first mean per unit: a ratio's denominator moves with the treatment. `money`
    names metrics whose values are money, beside those that are known to be; `currency` is theirs.

    Raises:
        ReadoutError: a name is unknown, the primary is a ratio or a guardrail, a guardrail has no direction, or a
            covariate has another form.
    """
    if not values:
        raise ReadoutError("0 metrics, must be 1 or more; give at least one, a name and its column")
    _refuse_unknown("covariate", before, values)
    _refuse_unknown("guardrail", guardrails, values)
    _refuse_unknown("money", dict.fromkeys(money), values)
    refuse_quantiles("covariate", before)
    _refuse_quantile_roles(values, {"covariate": before, "guardrail": guardrails})
    chosen = _primary(values, guardrails, primary)
    found = [
        _metric(name, value, before.get(name), guardrails.get(name), is_primary=name == chosen)
        for name, value in values.items()
    ]
    found = [_with_unit(metric, money, currency) for metric in found]
    if primary_direction == "lower_is_better":
        found = [
            replace(metric, direction=primary_direction) if metric.role == "primary" else metric for metric in found
        ]
    return _with_denominators(found)


def _primary(values: Mapping[str, Ratio], guardrails: Mapping[str, Margin], named: str | None) -> str | None:
    if named is None:
        means = (name for name, value in values.items() if value.is_mean and name not in guardrails)
        return next(means, None)
    if named not in values:
        raise ReadoutError(f"primary {named!r} is no metric, must be one of {', '.join(values)}")
    if values[named].denominator is not None:
        raise ReadoutError(
            f"primary {named!r} is a ratio, must be a mean per assigned unit: the treatment moves the denominator; "
            "decide on revenue or margin per unit and read the ratio as a diagnostic"
        )
    if values[named].quantile is not None:
        raise ReadoutError(
            f"primary {named!r} is a quantile, must be a mean per assigned unit: what a quantile gains is no sum of "
            "money; decide on the mean and read the quantile beside it"
        )
    if named in guardrails:
        raise ReadoutError(f"primary {named!r} is a guardrail too, must be one of both")
    return named


def _refuse_quantile_roles(values: Mapping[str, Ratio], given: Mapping[str, Mapping[str, object]]) -> None:
    for option, named in given.items():
        for name in named:
            if values[name].quantile is not None:
                raise ReadoutError(
                    f"{option} of {name!r}, must be of a mean or a ratio: a quantile of units is a secondary metric "
                    f"without margin or covariate; leave out the {option}"
                )


def refuse_quantiles(option: str, given: Mapping[str, Ratio]) -> None:
    """Check that what is no metric is a mean or a ratio.

    Raises:
        ReadoutError: one is a quantile.
    """
    for name, value in given.items():
        if value.quantile is not None:
            raise ReadoutError(
                f"{option} {name!r} = {value.formula}, must be a column or a ratio: only a metric can be a quantile"
            )


def _refuse_unknown(option: str, given: Mapping[str, object], known: Mapping[str, Ratio]) -> None:
    for name in given:
        if name not in known:
            raise ReadoutError(f"{option} {name!r} is no metric, must be one of {', '.join(known)}")


def _metric(name: str, value: Ratio, before: Ratio | None, margin: Margin | None, *, is_primary: bool) -> Metric:
    known = KNOWN_METRICS[name].direction if name in KNOWN_METRICS else None
    found = Metric(name, value, before, known or "higher_is_better", role="primary" if is_primary else "secondary")
    if margin is None:
        return found
    # A rise of attrition is bad whatever a guardrail says; of the others the guardrail's word goes first.
    direction = known if known == "lower_is_better" else (margin.direction or known)
    if direction is None and not margin.was_locked:
        raise ReadoutError(
            f"guardrail {name!r} has no direction, must say which way is good: with the wrong one any harm passes; put "
            ':lower or :higher behind its margin, or direction = "lower_is_better" into the plan'
        )
    return replace(
        found,
        role="guardrail",
        direction=direction or UNSTATED_DIRECTION,
        margin=margin.amount,
        margin_is_relative=margin.is_relative,
        direction_is_assumed=direction is None,
    )


def _with_unit(metric: Metric, money: Sequence[str], currency: str | None) -> Metric:
    known: MetricUnit = KNOWN_METRICS[metric.name].unit if metric.name in KNOWN_METRICS else "number"
    unit: MetricUnit = "money" if metric.name in money else known
    return replace(metric, unit=unit, currency=currency if unit == "money" else None)


def _with_denominators(metrics: Sequence[Metric]) -> tuple[Metric, ...]:
    """Name for each ratio the metric that shows whether its denominator moved; add it where there is none.

    A denominator from before the start can't have moved.
    """
    past = {column for metric in metrics if metric.before for column in metric.before.columns}
    means = {metric.value.numerator: metric.name for metric in metrics if metric.value.is_mean}
    found: list[Metric] = []
    added: list[Metric] = []
    for metric in metrics:
        column = metric.value.denominator
        if column is None or column in past:
            found.append(metric)
            continue
        if column not in means:
            means[column] = f"{column} per unit"
            before = Ratio(metric.before.denominator) if metric.before and metric.before.denominator else None
            added.append(Metric(means[column], Ratio(column), before, role="diagnostic"))
        found.append(replace(metric, denominator_metric=means[column]))
    return (*found, *added)


def refuse_missing(source: ibis.Table, needed: Sequence[str]) -> None:
    """Check that a table has the columns that are needed.

    Raises:
        MissingColumnError: one is not there; names the nearest.
    """
    for name in needed:
        if name not in source.columns:
            near = difflib.get_close_matches(name, source.columns, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            have = ", ".join(column for column in source.columns if column != SOURCE_ROW)
            pair = "a ratio is named by a pair of columns; " if "/" in name else ""
            raise MissingColumnError(f"column {name!r} is not in the data; {pair}{hint}it has {have}")


def refuse_blanks(n_blank: int | None, name: str) -> None:
    """Check that every row has its unit, or its arm.

    Raises:
        ReadoutError: `n_blank` rows have none.
    """
    if n_blank:
        raise ReadoutError(f"{n_blank:,} rows have no {name!r}, all must have one; leave out who was in no arm")


def refuse_unread_times(n_unread: int, name: str) -> None:
    """Check that every row has the time of its assignment.

    Raises:
        ReadoutError: `n_unread` rows have none.
    """
    if n_unread:
        raise ReadoutError(
            f"{n_unread:,} rows have no time in {name!r}, all must have one, as 2026-01-05 or 2026-01-05T13:45:00"
        )


def refuse_unknown_values(metrics: Sequence[Metric], known: Sequence[str]) -> None:
    """Check that metrics over orders use only what is read off orders.

    Raises:
        ReadoutError: one uses something else.
    """
    for metric in metrics:
        unknown = [name for name in metric.columns if name not in known]
        if unknown:
            raise ReadoutError(
                f"metric {metric.name!r} uses {unknown[0]!r}, must use what is read off orders: {', '.join(known)}"
            )


def refuse_values_as_segments(values: Sequence[str], segments: Sequence[str]) -> None:
    """Check that no segment is a value: a split by an outcome compares unlike units.

    Raises:
        ReadoutError: one is.
    """
    for name in segments:
        if name in values:
            raise ReadoutError(
                f"segment {name!r} is a value of a metric too, must be another column: a split by an outcome compares "
                "unlike units; copy what was known before the start under a name of its own"
            )


def refuse_before_start(as_of: datetime, started: datetime) -> None:
    """Check that a readout is as of a moment at which the experiment runs.

    Raises:
        ReadoutError: nothing had started by then.
    """
    if as_of <= started:
        raise ReadoutError(
            f"as_of == {as_of:%Y-%m-%d %H:%M} UTC, must lie after the start on {started:%Y-%m-%d %H:%M} UTC; give a "
            "later moment"
        )


def smallest_arm(shares: Mapping[str, float], counts: Mapping[str, int]) -> int:
    """Return the units of the arm that has the fewest."""
    return min(counts.get(arm, 0) for arm in shares)


def is_constant_within(table: ibis.Table, by: str, column: str) -> bool:
    """Return whether all rows of each group have the same value."""
    ranges = table.group_by(by).agg(low=table[column].min(), high=table[column].max()).to_pyarrow().to_pylist()
    return all(row["low"] == row["high"] for row in ranges)
