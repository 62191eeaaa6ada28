"""The plan of an experiment: what was decided before the first account was assigned, and the hash that proves it."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, ValidationError, field_serializer, model_validator

from recsys.contracts.config import Config, validation_sentences
from recsys.contracts.offers import Objective
from recsys.errors import PlanError

ExperimentUnit = Literal["account", "visitor"]
MetricDirection = Literal["higher_is_better", "lower_is_better"]
UNSTATED_DIRECTION: Final[MetricDirection] = "higher_is_better"
"""How a running plan's guardrail is judged that says nothing: as it was when it was locked."""


def _utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


UtcTime = Annotated[datetime, AfterValidator(_utc)]
"""A point in time; one without a zone is UTC."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$")]
"""Letters, digits, blank, dot, dash, underscore; 64 at the most: it stands in URLs, logs and headings."""


class Policy(Config):
    """What an arm answers with."""

    kind: Literal["model", "popular", "none"] = "model"
    """`model` asks the bundle, `popular` offers what sells to everybody, `none` shows nothing (a holdout)."""
    alias: str = "champion"
    """Which registered model answers, where kind is `model`."""
    objective: Objective | None = None
    """What the model maximises; None leaves the server's default."""


class Arm(Config):
    """One arm of an experiment."""

    name: Name
    """Stands in the log and in the readout."""
    weight: float = Field(gt=0, allow_inf_nan=False)
    """Its share of the units, relative to the other arms' weights."""
    policy: Policy = Policy()
    """What its units are answered with."""
    is_control: bool = False
    """The arm that every other arm is compared with; exactly one."""

    @property
    def is_holdout(self) -> bool:
        """Whether its units see no offers."""
        return self.policy.kind == "none"


class Guardrail(Config):
    """A metric that the treatment may not make worse by more than a margin."""

    metric: Name
    """The metric's name."""
    margin: float = Field(ge=0, allow_inf_nan=False)
    """How much worse is still tolerable: in the metric's unit, or as a share of the control's mean."""
    direction: MetricDirection | None = None
    """Which way is good: must be stated but for metrics that are known by name (attrition is `lower_is_better`)."""
    is_relative: bool = False
    """Whether `margin` is a share of the control's mean."""

    @field_serializer("direction", when_used="json")
    def _as_it_was_hashed(self, direction: MetricDirection | None) -> MetricDirection:
        """A plan that was locked before directions had to be stated keeps its hash."""
        return direction or UNSTATED_DIRECTION


class ExperimentPlan(Config):
    """What an experiment tests, on whom, for how long, and what will decide.

    Every field counts in the hash, so that none can change unseen after the start; those of `FIELDS_ADDED_LATER` where
    they have another value than their default.
    """

    id: Name
    """The experiment's name."""
    version: int = Field(default=1, ge=1)
    """Raised at every restart: a new version is a new salt and so a new assignment."""
    hypothesis: str = ""
    """What is expected and why, in one sentence."""
    unit: ExperimentUnit = "account"
    """What is assigned and analysed."""
    arms: tuple[Arm, ...] = Field(min_length=2)
    """In the order in which they share the hash space."""
    primary: Name = "revenue_per_account"
    """The decision metric, per assigned account: AOV or a conversion of offers would move with its denominator."""
    primary_direction: MetricDirection = "higher_is_better"
    """Which way is good for the primary metric."""
    secondary: tuple[Name, ...] = ()
    """Metrics that explain; corrected as one family."""
    guardrails: tuple[Guardrail, ...] = ()
    """What must not get worse."""
    segments: tuple[Name, ...] = ()
    """Account columns by which the primary metric is split; corrected as one family."""
    practical_margin: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """The smallest effect worth having, as a share of the control's mean; 0 switches the verdict FLAT off."""
    exposure: Literal["assigned", "returned", "presented"] = "presented"
    """From when on a unit counts as exposed: its assignment, its first answer, or its first presented offer."""
    attribution_window_days: int = Field(default=14, ge=1)
    """Days after an exposure within which a purchase is credited to it; also the days until an account is mature."""
    planned_start: UtcTime
    """When the first unit shall be assigned."""
    planned_end: UtcTime
    """From when on no new unit enters; those that are in keep their arm until their windows are over."""
    min_run_days: int = Field(default=14, ge=1)
    """No SHIP and no FLAT before: two weeks hold every weekday twice."""
    planned_size: int = Field(ge=1)
    """Units in the smallest arm at the planned end, from `offers experiment power`; no SHIP and no FLAT with fewer."""
    min_mature_share: float = Field(default=0.9, ge=0, le=1)
    """Share of assigned accounts whose window must be complete for SHIP and FLAT."""
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    """Two-sided error of the primary metric, shared by the arms that are compared with control."""
    cap_percentile: float | None = Field(default=None, gt=0.5, lt=1)
    """Values of revenue above this quantile of all units are set to it; None leaves them."""
    lateness_days: int = Field(default=2, ge=0)
    """Days after the last window's end until which rows that are recorded late count; the decision is worked out then.
    Two days hold a nightly delivery that failed once."""

    cluster: Name | None = None
    """Account column by which arms are assigned and errors are worked out, as a company; sizes then count clusters.
    Servers know no attributes of accounts: such a plan is assigned elsewhere and read out from a table."""
    layer: Name | None = None
    """Experiments of one layer exclude each other: a unit is in one of them at the most. Layers are independent."""
    layer_share: tuple[float, float] = (0.0, 1.0)
    """From where to where this experiment has its layer's units, as `[0.0, 0.5]`: the first half of them."""

    @property
    def windows_end(self) -> datetime:
        """When the last unit's window is over, so that no order counts any more."""
        return self.planned_end + timedelta(days=self.attribution_window_days)

    @property
    def decision_due(self) -> datetime:
        """As of when the fixed-horizon interval decides, once: all windows are over and late rows are in."""
        return self.windows_end + timedelta(days=self.lateness_days)

    @property
    def salt(self) -> str:
        """What makes this experiment's assignment its own."""
        return f"{self.id}:{self.version}"

    @property
    def layer_salt(self) -> str:
        """What orders the units within the layer; no `salt` ends like it, so that both are independent."""
        return f"{self.layer}:layer"

    @property
    def control(self) -> Arm:
        """The arm that the others are compared with."""
        return next(arm for arm in self.arms if arm.is_control)

    @property
    def shares(self) -> tuple[float, ...]:
        """The probability of each arm, in the order of `arms`."""
        total = sum(arm.weight for arm in self.arms)
        return tuple(arm.weight / total for arm in self.arms)

    @property
    def shares_from_control(self) -> tuple[float, ...]:
        """The probability of each arm, control first."""
        by_arm = sorted(zip(self.arms, self.shares, strict=True), key=lambda pair: not pair[0].is_control)
        return tuple(share for _, share in by_arm)

    @model_validator(mode="after")
    def _is_consistent(self) -> ExperimentPlan:
        names = [arm.name for arm in self.arms]
        _refuse_twice("arms", names)
        _refuse_twice("metrics", [self.primary, *self.secondary])
        _refuse_twice("guardrails", [guardrail.metric for guardrail in self.guardrails])
        controls = [arm.name for arm in self.arms if arm.is_control]
        if len(controls) != 1:
            raise ValueError(f"control arms == {controls}, must be exactly one; set is_control = true on one arm")
        if self.planned_end <= self.planned_start:
            raise ValueError(f"planned_end == {self.planned_end:%Y-%m-%d}, must lie after planned_start")
        self._check_days()
        self._check_layer()
        return self

    def _check_layer(self) -> None:
        begin, end = self.layer_share
        if not 0 <= begin < end <= 1:
            raise ValueError(f"layer_share == [{begin:g}, {end:g}], must rise and lie between 0 and 1, as [0.0, 0.5]")
        if self.layer is None and self.layer_share != (0.0, 1.0):
            raise ValueError(f"layer_share == [{begin:g}, {end:g}] without a layer, must have one; name it as layer")

    def _check_days(self) -> None:
        run = self.planned_end - self.planned_start
        for name, days in (
            ("attribution_window_days", self.attribution_window_days),
            ("min_run_days", self.min_run_days),
        ):
            if timedelta(days=days) > run:
                raise ValueError(
                    f"{name} == {days}, must not be longer than the planned run of {run.days} days; "
                    "move planned_end or shorten it"
                )


@dataclass(frozen=True, slots=True)
class LockedPlan:
    """A plan that has started and may not change any more.

    Attributes:
        plan: what was decided.
        plan_hash: of the plan as it started; a later `plan_hash(plan)` that differs shows a change.
        started_at: when it was locked, UTC.
        stopped_at: when it was stopped, UTC; None while it runs.
    """

    plan: ExperimentPlan
    plan_hash: str
    started_at: datetime
    stopped_at: datetime | None = None

    @property
    def is_stopped_early(self) -> bool:
        """Whether it was stopped before its planned end: whoever chose that moment had seen figures."""
        return self.stopped_at is not None and self.stopped_at < self.plan.planned_end

    @property
    def decision_due(self) -> datetime:
        """As of when it is decided: what was stopped early as soon as late rows are in, by anytime-valid intervals."""
        if self.stopped_at is not None and self.is_stopped_early:
            return self.stopped_at + timedelta(days=self.plan.lateness_days)
        return self.plan.decision_due

    @property
    def is_unchanged(self) -> bool:
        """Whether the plan is still the one that was locked."""
        return plan_hash(self.plan) == self.plan_hash


def read_plan(path: Path) -> ExperimentPlan:
    """Return the plan that stands in a TOML file.

    Raises:
        PlanError: the file is missing, is not TOML, or the plan breaks a rule.
    """
    try:
        return ExperimentPlan.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise PlanError(f"{path}: no such file; name the TOML file of an experiment plan") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PlanError(f"{path}: not valid TOML: {error}") from None
    except ValidationError as error:
        raise PlanError(f"{path}: {validation_sentences(error)}") from None


FIELDS_ADDED_LATER: Final[frozenset[str]] = frozenset({"lateness_days", "cluster", "layer", "layer_share"})
"""Fields of `ExperimentPlan` that plans of earlier releases lack. At their default they are left out of the JSON, so
that a plan that was locked before keeps its hash, and servers of the release before can read a plan of this one. A
default here must never change."""


def canonical_json(plan: ExperimentPlan) -> str:
    """Return the plan as JSON that is the same for equal plans: sorted keys, no blanks, times in UTC."""
    values = plan.model_dump(mode="json")
    for name in FIELDS_ADDED_LATER:
        if getattr(plan, name) == type(plan).model_fields[name].default:
            del values[name]
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def parse_plan(text: str) -> ExperimentPlan:
    """Return the plan from the JSON of `canonical_json`, as it stands in a store.

    Raises:
        PlanError: the text is no plan.
    """
    try:
        return ExperimentPlan.model_validate_json(text)
    except ValidationError as error:
        raise PlanError(f"stored plan: {validation_sentences(error)}; start the experiment again") from None


def plan_hash(plan: ExperimentPlan) -> str:
    """Return the SHA-256 of the canonical JSON, 64 hex digits."""
    return hashlib.sha256(canonical_json(plan).encode()).hexdigest()


def lock_plan(plan: ExperimentPlan, now: datetime) -> LockedPlan:
    """Return the plan as locked at `now`.

    Raises:
        PlanError: the planned end has passed.
    """
    now = _utc(now)
    if now >= plan.planned_end:
        raise PlanError(f"planned_end == {plan.planned_end:%Y-%m-%d %H:%M}, must lie after the start; move it")
    return LockedPlan(plan, plan_hash(plan), now)


def _refuse_twice(what: str, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{what} {twice} stand twice, each name must be its own")
