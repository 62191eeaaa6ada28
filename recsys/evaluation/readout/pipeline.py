"""Units and a design in, a readout out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from recsys.errors import ReadoutError
from recsys.evaluation.readout.arm_effects import effects_of, incremental_shares, money_of
from recsys.evaluation.readout.breakdowns import heterogeneity_of, histogram_of, segment_effects, sensitivity_grid
from recsys.evaluation.readout.design import Design, ReadoutConfig, Timing, is_constant_within, smallest_arm
from recsys.evaluation.readout.faults.checks import fault_checks
from recsys.evaluation.readout.faults.largest_unit import largest_unit
from recsys.evaluation.readout.health import NO_LOG, HealthCheck, LogFacts, health_checks
from recsys.evaluation.readout.over_time import Look, Novelty
from recsys.evaluation.readout.results import PlanFacts, Readout
from recsys.evaluation.readout.tails import tails_of
from recsys.evaluation.readout.units import ARM, UnitTable
from recsys.evaluation.readout.verdict import VerdictOverride, decide_verdict, evidence_of
from recsys.evaluation.statistics.column_facts import ColumnFacts
from recsys.evaluation.statistics.decomposition import Decomposition, decompose
from recsys.evaluation.statistics.moments import Moments, Sums
from recsys.evaluation.statistics.quantiles import Quantiles, quantile_difference
from recsys.evaluation.statistics.randomisation import Tails


@dataclass(frozen=True)
class TimeViews:
    """What is known only where outcomes have times.

    Attributes:
        looks: the primary effect by day.
        novelty: the effect by days since exposure.
        sums: moments by day.
        windows: the units under other attribution windows, for the sensitivity grid.
        window: name of the window of the main analysis.
    """

    looks: tuple[Look, ...] = ()
    novelty: tuple[Novelty, ...] = ()
    sums: tuple[Sums, ...] = ()
    windows: Mapping[str, UnitTable] = field(default_factory=dict)
    window: str = "as given"


NO_TIMES = TimeViews()


@dataclass(frozen=True)
class Measured:
    """What effects and verdict are worked out from, by rows or by sums.

    Attributes:
        unit: what was assigned.
        arms: in the order of the moments' leading axis.
        moments: of the columns of the design.
        counts: of what was assigned, by arm.
        unit_counts: of units, by arm.
        facts: of the columns.
        tails: by metric and arm.
        health: checks in order.
        levels: moments by segment and level.
        notes: sentences about the data.
        caps: by column.
        quantiles: the difference of each metric that is a quantile, by metric and arm.
    """

    unit: str
    arms: tuple[str, ...]
    moments: Moments
    counts: Mapping[str, int]
    unit_counts: Mapping[str, int]
    facts: Mapping[str, ColumnFacts]
    tails: Mapping[tuple[str, str], Tails]
    health: tuple[HealthCheck, ...]
    levels: Mapping[str, Mapping[str, Moments]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    caps: Mapping[str, float] = field(default_factory=dict)
    quantiles: Quantiles = field(default_factory=dict)


DEFAULT_READOUT = ReadoutConfig()


def analyse_units(
    units: UnitTable,
    design: Design,
    config: ReadoutConfig = DEFAULT_READOUT,
    *,
    log: LogFacts = NO_LOG,
    times: TimeViews = NO_TIMES,
    override: VerdictOverride | None = None,
) -> Readout:
    """Return the readout of an experiment: health first, then effects, then the verdict.

    Raises:
        ReadoutError: an arm is missing or empty, a metric does not vary, a denominator is zero, or an override has no
            reason.
    """
    refuse_unfit(units.counts(), units.facts, design)
    raw = units.moments(design.columns)
    analysed, caps = units.capped(design.capped)
    moments = analysed.moments(design.columns) if caps else raw
    by_arm = {arm: moments[units.arms.index(arm)] for arm in design.shares}
    refuse_zero_denominators(by_arm, design)
    _refuse_constant_arms(units, raw, design)
    tails = tails_of(analysed, by_arm, design, config)
    effects = effects_of(by_arm, design, config, units.facts, tails)
    health = health_checks(units, raw, design, config, log, tails)
    health += fault_checks(units, by_arm, design, config, log, effects)
    primary = design.primary
    measured = Measured(
        unit=units.cluster or (design.plan.plan.unit if design.plan else "account"),
        arms=units.arms,
        moments=moments,
        counts=units.counts(),
        unit_counts=units.unit_counts(),
        facts=units.facts,
        tails=tails,
        health=health,
        levels={name: analysed.moments_by(name, primary.columns) for name in design.segments} if primary else {},
        notes=units.notes,
        caps=caps,
        quantiles=_quantiles_of(units, design, config),
    )
    found = judge(measured, design, config, times=times, override=override)
    grid = sensitivity_grid(units, design, config, found.verdict, health, times.windows, times.window)
    histogram = histogram_of(units, primary.value.numerator, caps) if primary else None
    largest = largest_unit(analysed, by_arm, design, config, found.effects, found.verdict.arms)
    return replace(found, health=(*found.health, largest), sensitivity=grid, histogram=histogram)


def judge(
    measured: Measured,
    design: Design,
    config: ReadoutConfig,
    *,
    times: TimeViews = NO_TIMES,
    override: VerdictOverride | None = None,
) -> Readout:
    """Return the readout of what was measured, without what needs rows: sensitivity and the distribution of values.

    Raises:
        ReadoutError: an override has no reason.
    """
    if override is not None and not override.reason.strip():
        raise ReadoutError(f"override {override.verdict!r} without a reason, must have one; give it as reason")
    by_arm = {arm: measured.moments[measured.arms.index(arm)] for arm in design.shares}
    effects = effects_of(by_arm, design, config, measured.facts, measured.tails, quantiles=measured.quantiles)
    verdict = decide_verdict(evidence_of(effects, design, config), measured.health, design.stage, override)
    segments, segment_sums = segment_effects(measured.levels, measured.arms, design, config)
    return Readout(
        experiment=design.name,
        control=design.control,
        unit=measured.unit,
        alpha=config.alpha,
        correction=config.correction,
        practical_margin=config.practical_margin,
        plan=_plan_facts(design),
        shares=design.shares,
        counts=measured.counts,
        health=measured.health,
        verdict=verdict,
        effects=effects,
        decompositions=_decompositions(by_arm, design, config),
        money=money_of(effects, measured.unit_counts, config),
        incremental=incremental_shares(by_arm, design, config),
        segments=segments,
        sensitivity=(),
        looks=times.looks,
        novelty=times.novelty,
        histogram=None,
        notes=measured.notes + _notes(design, measured.health),
        metric_columns={metric.name: metric.value.formula for metric in design.metrics},
        covariates={metric.name: metric.before.formula for metric in design.metrics if metric.before},
        caps=measured.caps,
        planned_units=config.planned_units,
        sums=(Sums("all", measured.arms, measured.moments), *segment_sums, *times.sums),
        timing=_timing(design, measured.unit_counts),
        heterogeneity=heterogeneity_of(segments, config),
    )


def refuse_unfit(counts: Mapping[str, int], facts: Mapping[str, ColumnFacts], design: Design) -> None:
    """Check that the arms are those of the design, with units to compare, and that metrics vary.

    Raises:
        ReadoutError: they are not.
    """
    arms = ", ".join(counts)
    if design.control not in counts:
        raise ReadoutError(f"control {design.control!r} is not among the arms of the data: {arms}; name one of them")
    empty = [arm for arm in design.shares if arm not in counts]
    unknown = [arm for arm in counts if arm not in design.shares]
    if unknown:
        raise ReadoutError(
            f"arms {', '.join(unknown)} are in the data and not in the plan ({', '.join(design.shares)}), must be the "
            "same; is this the right experiment and version?"
        )
    if empty:
        raise ReadoutError(f"arm {empty[0]!r} has no unit, must have some; the data have {arms}")
    if not design.treatments:
        raise ReadoutError(f"one arm only, {arms}, must be control and another; give the rows of every arm")
    for arm, count in counts.items():
        if count < 2:
            raise ReadoutError(f"arm {arm!r} has {count} unit, must have 2 or more to show how units differ")
    _refuse_constants(facts, design)


def _refuse_constants(facts: Mapping[str, ColumnFacts], design: Design) -> None:
    """A numerator that does not vary can't differ by chance; a denominator may be the same for all."""
    for metric in design.metrics:
        if metric.role == "diagnostic":
            continue
        for column in (ratio.numerator for ratio in (metric.value, metric.before) if ratio is not None):
            if facts[column].is_constant:
                raise ReadoutError(
                    f"column {column!r} of {metric.name!r} is {facts[column].low:g} for every unit, must vary; "
                    "is it the right column?"
                )


def _refuse_constant_arms(units: UnitTable, moments: Moments, design: Design) -> None:
    """Units that are all alike within each arm have no spread to judge a difference of the arms by."""
    for metric in design.metrics:
        name = metric.value.numerator
        mean, variance = moments.mean[:, moments.at(name)], moments.cov[:, moments.at(name), moments.at(name)]
        # A sum of many equal numbers is rounded, so that a variance near zero is only a reason to look.
        is_suspect = metric.role != "diagnostic" and (variance <= 1e-12 * mean**2).all()
        if is_suspect and is_constant_within(units.table, ARM, name):
            raise ReadoutError(
                f"column {name!r} of {metric.name!r} is the same for all units of an arm, in every arm, must vary "
                "within one; is it a value of the arm and not of the unit?"
            )


def refuse_zero_denominators(by_arm: Mapping[str, Moments], design: Design) -> None:
    """Check that every denominator has a value.

    Raises:
        ReadoutError: one adds up to 0 in an arm.
    """
    for metric in design.metrics:
        for ratio in (metric.value, metric.before):
            if ratio is None or ratio.denominator is None:
                continue
            for arm, moments in by_arm.items():
                if moments.mean[moments.at(ratio.denominator)] == 0:
                    raise ReadoutError(
                        f"{ratio.denominator!r} adds up to 0 in arm {arm!r}, must be above: {metric.name!r} = "
                        f"{ratio.formula} has no value there; leave it out or wait for the first"
                    )


def _quantiles_of(units: UnitTable, design: Design, config: ReadoutConfig) -> Quantiles:
    """The metrics that are quantiles, of values as they are: an upper quantile needs no cap."""
    found = {}
    for metric in design.metrics:
        column, quantile = metric.value.numerator, metric.value.quantile
        if quantile is None:
            continue
        values = {arm: units.rows(arm, [column])[column] for arm in design.shares}
        for arm, own in values.items():
            lowest = own.min()
            tied = (own == lowest).mean()
            if tied >= quantile:
                raise ReadoutError(
                    f"{metric.name!r} = {metric.value.formula} is {lowest:g} in arm {arm!r}, the value of {tied:.1%} "
                    f"of its units, must lie above that share; give a quantile well above {tied:.3g}"
                )
        for arm in design.treatments:
            found[metric.name, arm] = quantile_difference(values[design.control], values[arm], quantile, config.alpha)
    return found


def _decompositions(by_arm: Mapping[str, Moments], design: Design, config: ReadoutConfig) -> tuple[Decomposition, ...]:
    if not design.chain:
        return ()
    control = by_arm[design.control]
    return tuple(
        decompose(control, by_arm[arm], arm, design.chain, design.chain_labels, config.alpha)
        for arm in design.treatments
    )


def _plan_facts(design: Design) -> PlanFacts | None:
    if design.plan is None:
        return None
    plan = design.plan.plan
    return PlanFacts(plan.id, plan.version, design.plan.plan_hash, design.plan.started_at, plan.planned_end)


def _timing(design: Design, counts: Mapping[str, int]) -> Timing:
    locked = design.plan
    return Timing(
        as_of=design.as_of,
        last_event=design.last_event,
        counted_until=design.counted_until,
        decision_due=locked.decision_due if locked else None,
        planned_size=locked.plan.planned_size if locked else None,
        smallest_arm=smallest_arm(design.shares, counts),
    )


def _notes(design: Design, health: tuple[HealthCheck, ...]) -> tuple[str, ...]:
    notes = []
    if design.stage.is_stated and design.stage.is_final:
        notes.append("taken as a finished run that is judged once: without a plan neither end nor run can be checked")
    unchecked = [check.name for check in health if check.status == "not_checked"]
    if unchecked:
        notes.append(f"not checked is not passed: {', '.join(unchecked)}")
    names = {metric.name for metric in design.metrics}
    missing = [name for name in (design.plan.plan.secondary if design.plan else ()) if name not in names]
    if missing:
        notes.append(f"secondary metrics of the plan that are not measured here: {', '.join(missing)}")
    of_units = [metric.name for metric in design.metrics if metric.value.quantile is not None]
    if of_units and not design.stage.is_final:
        notes.append(
            f"no anytime-valid interval of a quantile is known: {', '.join(of_units)} can be read once, at the end"
        )
    if design.primary is None:
        notes.append("no metric is a mean per unit, so that none can decide")
    return tuple(notes)
