"""The decision of an experiment: worked out once, as of a moment that its plan fixed beforehand, signed and stored."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple

from recsys.contracts.events import ExperimentDecision
from recsys.data.sources import DataSource
from recsys.errors import ReadoutError
from recsys.evaluation.readout.arm_effects import Effect
from recsys.evaluation.readout.from_event_store import ExperimentLog, read_log, readout_from_log
from recsys.evaluation.readout.results import Readout
from recsys.evaluation.readout.verdict import VerdictOverride
from recsys.events.store import EventStore
from recsys.experiments.lifecycle import decisions_of
from recsys.experiments.plan import ExperimentPlan


class Decided(NamedTuple):
    """A stored decision.

    Attributes:
        decision: as it is stored.
        is_new: whether it was stored now; else it stood there already.
    """

    decision: ExperimentDecision
    is_new: bool


def decide_experiment(
    store: EventStore,
    experiment_id: str,
    now: datetime,
    *,
    signed_by: str,
    override: VerdictOverride | None = None,
    accounts: DataSource | None = None,
    currency: str | None = None,
) -> Decided:
    """Return the decision of the latest version of an experiment, worked out and stored where there is none yet.

    It is worked out as of the plan's `decision_due`: all windows are over and late rows are in. What was stopped early
    is decided once late rows are in, by the anytime-valid interval.

    Args:
        store: the event store that serving writes.
        experiment_id: its plan's id.
        now: UTC.
        signed_by: who decides.
        override: what that person decides against the rules, with the reason.
        accounts: where the accounts' attributes lie, `account_id` and the plan's segments; the store has none.
        currency: of the figures, where orders have several.

    Raises:
        CurrencyError: the orders are in several currencies and none was chosen.
        ReadoutError: it is too early, nobody signs, an override has no reason, is no decision or names no arm of the
            plan, something else was decided already, or there is nothing to read out.
    """
    if not signed_by.strip():
        raise ReadoutError("nobody signs the decision, somebody must; give a name (by)")
    log = read_log(store, experiment_id, now, currency=currency)
    override = override and _checked(override, log.plan.plan)
    if log.decision is not None:
        _refuse_another(log.decision, override)
        return Decided(log.decision, is_new=False)
    _refuse_early(log, now)
    readout = readout_from_log(log, log.plan.decision_due, override=override, accounts=accounts)
    mine = decision_of(readout, signed_by.strip(), now)
    store.append([mine])
    kept = decisions_of(store, experiment_id)[mine.experiment_id, mine.version]
    if kept != mine:  # somebody was faster
        _refuse_another(kept, override)
    return Decided(kept, is_new=kept == mine)


def _checked(override: VerdictOverride, plan: ExperimentPlan) -> VerdictOverride:
    """An override that says what is decided, why, and on which arm."""
    said = f"override {override.verdict!r}"
    if override.verdict == "KEEP RUNNING":
        raise ReadoutError(f"{said}, must be a decision: the run is over; give SHIP, FLAT or ROLL BACK")
    if not override.reason.strip():
        raise ReadoutError(f"{said} without a reason, must have one; give it as reason")
    if override.verdict == "INVALID":
        if override.arm is not None:
            raise ReadoutError(f"{said} of arm {override.arm!r}, must be of none: invalid data decide no arm")
        return override
    treatments = [arm.name for arm in plan.arms if not arm.is_control]
    if override.arm is None and len(treatments) > 1:
        raise ReadoutError(f"{said} without an arm, must name one of {', '.join(treatments)}; give it as arm")
    arm = override.arm or treatments[0]
    if arm not in treatments:
        raise ReadoutError(f"{said} of arm {arm!r}, must be one of {', '.join(treatments)}")
    return replace(override, arm=arm)


def _refuse_another(made: ExperimentDecision, override: VerdictOverride | None) -> None:
    """The first decision stays: who wants another one must learn of it."""
    if override is None or (override.verdict, override.arm) == (made.decided, made.arm):
        return
    arm = f", {made.arm}" if made.arm else ""
    wanted = f"{override.verdict}, {override.arm}" if override.arm else override.verdict
    raise ReadoutError(
        f"{made.experiment_id} version {made.version} was decided already: {made.decided}{arm}, signed by "
        f"{made.signed_by} on {made.decided_at:%Y-%m-%d %H:%M} UTC; it stays, and {wanted} was not stored: raise "
        "`version` in the plan to test again"
    )


def _refuse_early(log: ExperimentLog, now: datetime) -> None:
    locked, due = log.plan, log.plan.decision_due
    plan = locked.plan
    if now < due:
        how = (
            f"it was stopped on {locked.stopped_at:%Y-%m-%d}"
            if locked.is_stopped_early
            else f"planned end {plan.planned_end:%Y-%m-%d}, {plan.attribution_window_days} days until the last window "
            "is over"
        )
        raise ReadoutError(
            f"{plan.id} is decided as of {due:%Y-%m-%d %H:%M} UTC ({how}, {plan.lateness_days} days for late rows), "
            f"now it is {now:%Y-%m-%d %H:%M}; decide then"
        )
    if log.counted_until(now) < due:
        reached = "nothing" if log.last_event is None else f"{log.last_event:%Y-%m-%d %H:%M} UTC"
        raise ReadoutError(
            f"{plan.id} is decided as of {due:%Y-%m-%d %H:%M} UTC, the log reaches {reached}, must reach until then; "
            "are decisions and orders still recorded?"
        )


def decision_of(readout: Readout, signed_by: str, now: datetime) -> ExperimentDecision:
    """Return what is stored of a readout.

    Raises:
        ReadoutError: it has no locked plan.
    """
    plan, timing, verdict = readout.plan, readout.timing, readout.verdict
    if plan is None or timing.as_of is None or timing.planned_size is None:
        raise ReadoutError("no locked plan, a decision must have one; start the experiment from a plan")
    arm = verdict.arm if verdict.override is None else verdict.override.arm
    measured = arm or (verdict.arms[0].arm if len(verdict.arms) == 1 else None)
    primary = next((effect for effect in readout.effects if effect.role == "primary" and effect.arm == measured), None)
    return ExperimentDecision(
        experiment_id=plan.id,
        version=plan.version,
        verdict=verdict.verdict,
        rule=verdict.rule,
        reason=verdict.reason,
        arm=arm,
        **_figures(primary),
        n_units=sum(readout.counts.values()),
        planned_size=timing.planned_size,
        plan_hash=plan.plan_hash,
        as_of=timing.as_of,
        decided_at=now,
        signed_by=signed_by,
        override=verdict.override.verdict if verdict.override else None,
        override_reason=verdict.override.reason if verdict.override else None,
    )


def _figures(primary: Effect | None) -> dict[str, Any]:
    """What a decision says of the arm's effect on the primary; the interval is the one that decided."""
    if primary is None:
        return {}
    same = ("metric", "direction", "effect", "standard_error", "decided_by", "control_mean", "arm_mean")
    values = {name: getattr(primary, name) for name in (*same, "n_control", "n_arm")}
    return values | {"effect_low": primary.decision_low, "effect_high": primary.decision_high}
