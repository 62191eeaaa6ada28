"""What happened: decisions that were made, what came of them, and orders that arrived since the model was trained.

An offer is *returned* by a decision and *presented* once `shown` or `pitched` is reported for it, or at once where the
surface declares that returned is presented (`Decision.presented`). Every event has an id of its own, so that the same
event sent twice counts once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple, TypeAlias

from recsys.contracts.offers import Objective, OfferKind, OfferRequest, ProbabilityOf, Tier

OutcomeKind = Literal["shown", "pitched", "clicked", "accepted", "declined", "deferred", "referred", "dismissed"]
LineStatus = Literal["completed", "cancelled", "returned"]

PRESENTING: tuple[OutcomeKind, ...] = ("shown", "pitched")
"""The outcomes that turn a returned offer into a presented one."""


class DecisionOffer(NamedTuple):
    """One offer that a decision returned, as it is kept. Stores keep it by position: new fields go to the end.

    Attributes:
        rank: 1 is best.
        price: money a unit in `currency`; None when it is not known.
        probability: of `probability_of`, within the decision's horizon, in [0, 1].
        expected_quantity: units, if the offer succeeds.
        expected_value: money under the decision's objective.
        score: what the order was made by; comparable within one decision only.
        propensity: the probability with which the policy returned this offer at this rank; 1 without exploration.
        from_product_id: what an upsell displaces, or a cross-sell goes with.
    """

    rank: int
    product_id: str
    kind: OfferKind
    price: float | None
    currency: str | None
    probability: float
    probability_of: ProbabilityOf
    expected_quantity: float
    expected_value: float
    score: float
    tier: Tier
    propensity: float
    from_product_id: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """One answer of the engine, with all that is needed to judge it later.

    Attributes:
        decision_id: UUIDv7, so that ids sort by time.
        decided_at: UTC.
        request: what was asked; the account stands in it.
        model_version: the bundle that answered.
        tier: the best source of evidence that answered.
        horizon_days: the window of every probability.
        n_considered: candidates that were looked at.
        offers: what was returned, in order of rank.
        shortfall: why fewer came than were asked for; None when all came.
        unknown_products: product ids of the request that the model does not know.
        visitor_id: someone without an account, or not logged in yet.
        channel: where the request comes from (web, app, e-mail, phone).
        surface: the place of the offers (cart page, sales view).
        request_id: the caller's id of the request.
        experiment_id: None outside experiments.
        arm: of the experiment.
        assignment_probability: with which the unit fell into its arm.
        shown: False where the answer was held back (holdout): what would have been shown.
        presented: True where the surface declares that returned is presented.
    """

    decision_id: str
    decided_at: datetime
    request: OfferRequest
    model_version: str
    objective: Objective
    tier: Tier
    horizon_days: int
    n_considered: int
    offers: tuple[DecisionOffer, ...] = ()
    shortfall: str | None = None
    unknown_products: tuple[str, ...] = ()
    visitor_id: str | None = None
    channel: str | None = None
    surface: str | None = None
    request_id: str | None = None
    experiment_id: str | None = None
    arm: str | None = None
    assignment_probability: float | None = None
    shown: bool = True
    presented: bool = False

    @property
    def account_id(self) -> str | None:
        """The account that was answered, or None for a visitor."""
        return self.request.account_id


@dataclass(frozen=True, slots=True)
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
    kind: OutcomeKind
    occurred_at: datetime
    recorded_at: datetime
    product_id: str | None = None
    reason: str | None = None
    actor_id: str | None = None


@dataclass(frozen=True, slots=True)
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
    product_id: str
    quantity: float
    ordered_at: datetime
    recorded_at: datetime
    account_id: str | None = None
    visitor_id: str | None = None
    unit_price: float | None = None
    currency: str | None = None
    discount: float = 0.0
    channel: str | None = None
    status: LineStatus = "completed"


Event: TypeAlias = Decision | Outcome | PostedLine
"""Anything that the event store keeps."""

TableName = Literal["decisions", "decision_offers", "outcomes", "order_lines"]


@dataclass(frozen=True, slots=True)
class EventQuery:
    """Which rows of the event store are wanted; filters that are None let everything through.

    Attributes:
        table: `decision_offers` has one row a returned offer, the others one row an event.
        since: events at or after this time (decided, occurred, ordered), UTC.
        until: events before this time, UTC.
        account_id: of decisions, their offers and order lines; outcomes have none and refuse this filter.
        decision_ids: of decisions, their offers and outcomes; empty means all.
        recorded_since: outcomes and order lines that reached the store at or after this time, UTC.
        columns: which columns are wanted, in this order; empty means all.
    """

    table: TableName
    since: datetime | None = None
    until: datetime | None = None
    account_id: str | None = None
    decision_ids: tuple[str, ...] = ()
    recorded_since: datetime | None = None
    columns: tuple[str, ...] = ()
