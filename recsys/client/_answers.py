"""What is reported to the server and what it answers, as typed values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from recsys.client._exchange import UNREADABLE, ServiceError
from recsys.contracts.answers import RunningModel, WhiteSpaceItem
from recsys.contracts.decisions import AssignedArm
from recsys.contracts.events import ExperimentDecision, LineStatus, OutcomeKind
from recsys.contracts.offers import ANSWERED, Mix, Objective, Offer, OfferRequest, PriceBreak, Tier, Variants

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Answer:
    """The ranked answer to one request.

    Attributes:
        decision_id: to report outcomes against; None where the server was not reached.
        logged: whether the server keeps the decision.
        model_version: None where the server was not reached.
        as_of: no purchase at or after it was used in training.
        horizon_days: the window of every probability.
        tier: the best source of evidence that answered.
        offers: in order of rank.
        requested: how many were asked for.
        shortfall: why fewer came than were asked for; None when all came.
        unknown_products: products of the cart, and the viewed one, that the model does not know.
        assignments: the experiments that the request fell into, each with its arm.
        unknown_categories: categories of the request that the model does not know.
        unknown_experiment: that the request named and that does not run; None without one.
        language: of the reasons; None where the server was not reached, or is an older one.
        mix: of what no more than a share of the ranks was filled; likewise.
        variants: what became of products that differ in a colour or pattern alone; likewise.
    """

    decision_id: str | None
    logged: bool
    model_version: str | None
    as_of: datetime | None
    horizon_days: int | None
    objective: Objective
    tier: Tier | None
    offers: tuple[Offer, ...]
    requested: int
    shortfall: str | None
    unknown_products: tuple[str, ...] = ()
    assignments: tuple[AssignedArm, ...] = ()
    unknown_categories: tuple[str, ...] = ()
    unknown_experiment: str | None = None
    language: str | None = None
    mix: Mix | None = None
    variants: Variants | None = None

    @property
    def returned(self) -> int:
        """How many offers came."""
        return len(self.offers)

    @property
    def experiment(self) -> str | None:
        """The first experiment that the request fell into, None where it fell into none."""
        return self.assignments[0].experiment_id if self.assignments else None

    @property
    def arm(self) -> str | None:
        """The arm of the first experiment."""
        return self.assignments[0].arm if self.assignments else None


def parse_answer(body: Mapping[str, Any]) -> Answer:
    """Return the answer that stands in the server's JSON; fields that a newer server adds are left out."""
    return Answer(
        decision_id=body["decision_id"],
        logged=body["logged"],
        model_version=body["model_version"],
        as_of=datetime.fromisoformat(body["as_of"]),
        horizon_days=body["horizon_days"],
        objective=body["objective"],
        tier=body["tier"],
        offers=tuple(_offer(item) for item in body["offers"]),
        requested=body["requested"],
        shortfall=body["shortfall"],
        unknown_products=tuple(body["unknown_products"]),
        assignments=_assignments(body),
        unknown_categories=tuple(body.get("unknown_categories", ())),  # which an older server does not name
        unknown_experiment=body.get("unknown_experiment"),
        language=body.get("language"),
        mix=body.get("mix"),
        variants=body.get("variants"),
    )


def _offer(item: Mapping[str, Any]) -> Offer:
    breaks = tuple(PriceBreak(each["quantity"], each["price"]) for each in item.get("price_breaks", ()))
    return Offer(**{name: item[name] for name in ANSWERED if name in item} | {"price_breaks": breaks})


def parse_models(body: Mapping[str, Any]) -> tuple[RunningModel, ...]:
    """Return the models that stand in the server's JSON."""
    return tuple(picked(RunningModel, item | _times(item, "as_of", "loaded_at")) for item in body["models"])


def empty_answer(request: OfferRequest, reason: str) -> Answer:
    """Return the answer without offers that stands for a server that could not be asked in time."""
    return Answer(None, False, None, None, None, request.objective, None, (), request.limit, reason)


def _assignments(body: Mapping[str, Any]) -> tuple[AssignedArm, ...]:
    """The assignments; an older server names the first alone."""
    if "assignments" in body:
        return tuple(AssignedArm(item["experiment_id"], item["arm"]) for item in body["assignments"])
    return () if body["experiment"] is None else (AssignedArm(body["experiment"], body["arm"]),)


@dataclass(frozen=True, slots=True)
class ReportedOutcome:
    """What came of an offer.

    Attributes:
        outcome_id: yours to give; sending it again is safe. The server takes blanks around any id off.
        decision_id: from the answer.
        product_id: the offer; None: every offer of the decision.
        occurred_at: with its zone; None: now.
        reason: why it was declined or deferred.
        actor_id: the person who acted.
    """

    outcome_id: str
    decision_id: str
    kind: OutcomeKind
    product_id: str | None = None
    occurred_at: datetime | None = None
    reason: str | None = None
    actor_id: str | None = None


@dataclass(frozen=True, slots=True)
class OrderLine:
    """One line of an order.

    Attributes:
        quantity: units, above zero; `status` says whether they came back.
        line_id: None: the position within the order.
        unit_price: money a unit.
        discount: money off the line.
    """

    product_id: str
    quantity: float = 1.0
    line_id: str | None = None
    unit_price: float | None = None
    discount: float = 0.0
    status: LineStatus = "completed"


@dataclass(frozen=True, slots=True)
class Order:
    """One order.

    Attributes:
        order_id: yours to give; sending it again is safe. The server takes blanks around any id off.
        ordered_at: with its zone; None: now.
        currency: ISO 4217, the model's; None: that one.
    """

    order_id: str
    lines: tuple[OrderLine, ...]
    account_id: str | None = None
    visitor_id: str | None = None
    ordered_at: datetime | None = None
    channel: str | None = None
    currency: str | None = None


class Reported(NamedTuple):
    """What the server says about a batch of outcomes.

    Attributes:
        received: how many it holds.
        unknown_decisions: decisions that nobody knows; check the ids.
        not_offered: outcomes about a product that their decision did not offer; check the ids.
        conflicts: outcomes whose id is kept with other content: the first one counts.
        before_decision: outcomes dated before their decision; check their dates.
    """

    received: int
    unknown_decisions: tuple[str, ...] = ()
    not_offered: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    before_decision: tuple[str, ...] = ()


class PostedOrders(NamedTuple):
    """What the server says about a batch of orders.

    Attributes:
        received_lines: how many lines it holds.
        conflicts: (order_id, line_id) of lines that are kept with other content: the first one counts.
        unknown_products: products that no model knows; check the ids.
        anonymous_orders: orders with neither account nor visitor; they count for no account.
        before_as_of: lines from before the model's `as_of`; they change no answer.
    """

    received_lines: int
    conflicts: tuple[tuple[str, str], ...] = ()
    unknown_products: tuple[str, ...] = ()
    anonymous_orders: int = 0
    before_as_of: int = 0


def parse_reported(body: Mapping[str, Any]) -> Reported:
    """Return the answer to outcomes; an older server names only some of it."""
    return Reported(body["received"], *(tuple(body.get(name, ())) for name in Reported._fields[1:]))


def parse_posted(body: Mapping[str, Any]) -> PostedOrders:
    """Return the answer to orders; an older server names only some of it."""
    conflicts = tuple((item["order_id"], item["line_id"]) for item in body.get("conflicts", ()))
    counts = (body.get(name, 0) for name in ("anonymous_orders", "before_as_of"))
    return PostedOrders(body["received_lines"], conflicts, tuple(body.get("unknown_products", ())), *counts)


@dataclass(frozen=True, slots=True)
class BoardCell(WhiteSpaceItem):
    """One product of a white-space board and its category, None for a product without one."""

    category: str | None


@dataclass(frozen=True, slots=True)
class RunningExperiment:
    """One version of an experiment.

    Attributes:
        state: running, closing (nobody enters any more), ended or stopped.
        unit: account or visitor.
        started_at: when its plan was locked.
        plan_hash: of the plan as it was locked.
        is_unchanged: whether the stored plan still has that hash.
        n_units: units assigned so far, by arm.
        planned_end: when nobody enters any more.
        decision_due: as of when it is decided; None from an older server.
        decided: what was decided, or what overrode it; None before.
        signed_by: who decided; None before.
    """

    experiment_id: str
    version: int
    state: str
    unit: str
    started_at: datetime
    plan_hash: str
    is_unchanged: bool
    n_units: Mapping[str, int]
    planned_end: datetime | None = None
    decision_due: datetime | None = None
    decided: str | None = None
    signed_by: str | None = None


class PostedDecision(NamedTuple):
    """What the server says about a decision.

    Attributes:
        is_new: whether it was stored now; else it stood there already.
        decision: what was decided, as of when, by whom, and why.
    """

    is_new: bool
    decision: ExperimentDecision


@dataclass(frozen=True, slots=True)
class BatchItem:
    """The answer to one question of a batch.

    Attributes:
        index: position of its question, from 0.
        answer: None where it could not be answered.
        problem: why it could not; None where it was.
    """

    index: int
    answer: Answer | None
    problem: str | None


def parse_board(body: Mapping[str, Any]) -> tuple[BoardCell, ...]:
    """Return the cells of a white-space board, shelf by shelf."""
    return tuple(
        picked(BoardCell, {**cell, "category": shelf["category"]})
        for shelf in body["shelves"]
        for cell in shelf["cells"]
    )


def parse_experiments(body: Mapping[str, Any]) -> tuple[RunningExperiment, ...]:
    """Return the experiments that stand in the server's JSON."""
    return tuple(
        picked(
            RunningExperiment,
            item
            | _times(item, "started_at", "planned_end", "decision_due")
            | {"n_units": {arm["name"]: arm["n_units"] for arm in item["arms"]}},
        )
        for item in body["experiments"]
    )


def parse_decision(body: Mapping[str, Any]) -> PostedDecision:
    """Return the decision that stands in the server's JSON."""
    found = body["decision"]
    return PostedDecision(body["is_new"], picked(ExperimentDecision, found | _times(found, "as_of", "decided_at")))


def parse_line(body: Mapping[str, Any]) -> BatchItem:
    """Return the answer that stands in one line of a batch."""
    problem, answer = body["problem"], body["answer"]
    return BatchItem(
        index=body["index"],
        answer=None if answer is None else parse_answer(answer),
        problem=None if problem is None else str(problem["detail"]),
    )


def read_line(text: bytes) -> BatchItem:
    """Return the answer that stands in one line of text.

    Raises:
        ServiceError: it is no such line.
    """
    try:
        return parse_line(json.loads(text))
    except UNREADABLE as error:
        raise ServiceError(f"a line of the batch is not an offer engine's: {error!r}") from error


def picked(kind: type[_T], body: Mapping[str, Any]) -> _T:
    """Return the dataclass that stands in the server's JSON; fields that a newer server adds are left out.

    What an older server does not name has its default, where it has one.
    """
    needed = [item.name for item in fields(kind) if item.default is MISSING or item.name in body]  # type: ignore[arg-type]
    return kind(**{name: body[name] for name in needed})


def _times(body: Mapping[str, Any], *names: str) -> dict[str, datetime]:
    return {name: datetime.fromisoformat(body[name]) for name in names if name in body}
