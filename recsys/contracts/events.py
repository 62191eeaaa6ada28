"""What happened: decisions that were made, what came of them, and orders that arrived since the model was trained.

An offer is *returned* by a decision and *presented* once `shown` or `pitched` is reported for it, or at once where the
surface declares that returned is presented (`Decision.presented`). Every event has an id of its own, so that the same
event sent twice counts once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Literal, NamedTuple, TypeAlias

from recsys.contracts.decisions import Decision, DecisionRow
from recsys.contracts.offers import AccountChange, ProductChange

OutcomeKind = Literal["shown", "pitched", "clicked", "accepted", "declined", "deferred", "referred", "dismissed"]
LineStatus = Literal["completed", "cancelled", "returned"]

PRESENTING: tuple[OutcomeKind, ...] = ("shown", "pitched")
"""The outcomes that turn a returned offer into a presented one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of an offer, or of a whole decision.

    Attributes:
        outcome_id: given by the sender; the first event with an id counts, later ones are ignored.
        decision_id: the decision that returned the offer.
        product_id: the offer; None means every offer of the decision.
        occurred_at: when it happened, UTC.
        recorded_at: when it reached the store, UTC.
        reason: why it was declined or deferred, in the words of the sender.
        actor_id: the person who acted, where one did.
    """

    outcome_id: str
    decision_id: str
    product_id: str | None = None
    kind: OutcomeKind
    occurred_at: datetime
    recorded_at: datetime
    reason: str | None = None
    actor_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PostedLine:
    """One line of an order that was posted to the server.

    Attributes:
        order_id: with `line_id` the identity of the line; the first one counts.
        quantity: units, negative where they come back; a reversal is a line with an id of its own.
        unit_price: money a unit; None when it is not known.
        discount: money off the line.
        recorded_at: when it reached the store, UTC.
    """

    order_id: str
    line_id: str
    account_id: str | None = None
    visitor_id: str | None = None
    product_id: str
    ordered_at: datetime
    quantity: float
    unit_price: float | None = None
    discount: float = 0.0
    currency: str | None = None
    channel: str | None = None
    status: LineStatus = "completed"
    recorded_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductUpdate(ProductChange):
    """New values of one product; of each value the latest counts.

    Attributes:
        recorded_at: when it reached the store, UTC.
    """

    recorded_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountUpdate(AccountChange):
    """New values of one account; of each value the latest counts.

    Attributes:
        recorded_at: when it reached the store, UTC.
    """

    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class VisitorLink:
    """A visitor who logged in. The first account stays: another person needs another visitor id."""

    visitor_id: str
    account_id: str
    recorded_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedAssignment:
    """The arm that a unit of an experiment fell into; the first time in each arm stays.

    Attributes:
        version: of the experiment's plan.
        unit_id: the account or visitor.
        unit: which of them it is.
        probability: with which a unit falls into this arm.
    """

    experiment_id: str
    version: int
    unit_id: str
    arm: str
    unit: Literal["account", "visitor"]
    probability: float
    assigned_at: datetime


@dataclass(frozen=True, slots=True)
class ExperimentRecord:
    """An experiment that was started, and stopped where `stopped_at` says so; the first plan of a version stays.

    Attributes:
        plan: its canonical JSON.
        plan_hash: SHA-256 of the plan as it was locked.
    """

    experiment_id: str
    version: int
    plan: str
    plan_hash: str
    started_at: datetime
    stopped_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentDecision:
    """What was decided about an experiment, worked out once and signed; the first decision of a version stays.

    Attributes:
        version: of the experiment's plan.
        verdict: by the rules, as INVALID, ROLL BACK, SHIP, FLAT, DISCUSS.
        rule: that gave it, in words.
        reason: with the figures.
        arm: that was decided on; None where the data are invalid: nothing is decided on any arm.
        metric: the primary.
        direction: which way is good for it.
        effect: of the arm, or of the only one there is, on the primary, in its unit; None without a primary.
        standard_error: of the effect.
        effect_low: the interval that decided.
        effect_high: its upper limit.
        decided_by: which kind of interval that is, `fixed`, `anytime` or another that the readout names.
        control_mean: of the primary.
        arm_mean: likewise.
        n_control: units of control.
        n_arm: units of the arm.
        n_units: of all arms.
        planned_size: units that the plan wanted in the smallest arm.
        plan_hash: of the plan as it was locked.
        as_of: the moment that was judged, UTC.
        decided_at: when it was stored, UTC.
        signed_by: who decided.
        override: what that person decided against the rules; None where the verdict stands.
        override_reason: why, in writing.
    """

    experiment_id: str
    version: int
    verdict: str
    rule: str
    reason: str
    arm: str | None = None
    metric: str | None = None
    direction: str | None = None
    effect: float | None = None
    standard_error: float | None = None
    effect_low: float | None = None
    effect_high: float | None = None
    decided_by: str | None = None
    control_mean: float | None = None
    arm_mean: float | None = None
    n_control: int | None = None
    n_arm: int | None = None
    n_units: int
    planned_size: int
    plan_hash: str
    as_of: datetime
    decided_at: datetime
    signed_by: str
    override: str | None = None
    override_reason: str | None = None

    @property
    def decided(self) -> str:
        """What counts: the override where there is one, else the verdict."""
        return self.override or self.verdict


@dataclass(frozen=True, slots=True)
class Erasure:
    """An erasure of an account's data, which is never taken back; the same account may be erased again.

    Attributes:
        account_key: `forget_key` of the account; the id itself is not kept.
        recorded_at: when, UTC; tells one erasure of an account from the next.
    """

    account_key: str
    recorded_at: datetime


Event: TypeAlias = (
    Decision
    | DecisionRow
    | Outcome
    | PostedLine
    | ProductUpdate
    | AccountUpdate
    | VisitorLink
    | RecordedAssignment
    | ExperimentRecord
    | ExperimentDecision
    | Erasure
)
"""Anything that the event store keeps."""

TableName = Literal[
    "decisions",
    "decision_offers",
    "outcomes",
    "order_lines",
    "product_overrides",
    "account_overrides",
    "visitor_links",
    "assignments",
    "experiments",
    "experiment_decisions",
    "forgotten",
]


def forget_key(account_id: str) -> str:
    """Return the 128 bits of BLAKE2b, in hex, under which an erased account is remembered.

    Example:
        >>> forget_key("17850")
        '69d5449209477a38db086238f0db53da'
    """
    return blake2b(account_id.encode("utf-8", "replace"), digest_size=16, person=b"offers.forgotten").hexdigest()


class FeedPosition(NamedTuple):
    """How far the changes of a store have been read, by the store's own count; no clock has a part in it.

    Attributes:
        following: number of the next change; whatever begins later has it or a higher one.
        under_way: lower numbers whose changes were not visible yet.
    """

    following: int
    under_way: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class EventQuery:
    """Which rows of the event store are wanted; filters that are None let everything through.

    Attributes:
        table: `decision_offers` has one row a returned offer, the others one row an event.
        since: events at or after this time (decided, occurred, ordered), UTC.
        until: events before this time, UTC.
        account_id: of decisions, their offers and order lines; outcomes have none and refuse this filter.
        decision_ids: of decisions, their offers and outcomes; empty means all.
        outcome_ids: of outcomes; empty means all.
        order_ids: of order lines; empty means all.
        experiment_id: of decisions, those that were part of the experiment, also beside others; of assignments.
        recorded_since: what reached the store at or after this time, UTC; decisions and assignments refuse it.
        changed_since: rows that were written, or written over, since a position of the feed; decisions only where they
            declare that returned is presented. Tables that have no feed refuse it.
        from_decision_id: decisions, their offers and outcomes from this id on; ids sort by time and have an index.
        presented: decisions that declare that returned is presented (True), or that do not (False).
        columns: which columns are wanted, in this order; empty means all.
        newest: only the latest of these rows.
    """

    table: TableName
    since: datetime | None = None
    until: datetime | None = None
    account_id: str | None = None
    decision_ids: tuple[str, ...] = ()
    outcome_ids: tuple[str, ...] = ()
    order_ids: tuple[str, ...] = ()
    experiment_id: str | None = None
    recorded_since: datetime | None = None
    changed_since: FeedPosition | None = None
    from_decision_id: str | None = None
    presented: bool | None = None
    columns: tuple[str, ...] = ()
    newest: bool = False
