"""A decision: one answer of the engine, as its row in the event store, and as it is read again.

`DecisionRow` declares the columns, `record_decision` makes rows, and `Decision.from_row` reads them. A decision stands
in the columns `experiment_id`, `arm` and `assignment_probability` under its first assignment; where it has several, all
of them stand in its context.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from operator import attrgetter
from typing import Annotated, Any, Final, NamedTuple, Self, TypeAlias

from pydantic import Field

from recsys.contracts.offers import EMPTY_STATE, AccountState, CartLine, Objective, Offer, OfferRequest, Tier, json_text

TimeText: TypeAlias = Annotated[str, datetime]
"""A time as rows have it; the column is one of times."""
JsonText: TypeAlias = Annotated[str, dict]
"""JSON as text; the column is one of JSON."""


class DecisionRow(NamedTuple):
    """A decision as its row in the store, in the order of the columns.

    The server writes an answer's text once; what it keeps is made of the same pieces. `requested` and `returned` count
    offers; what the others mean stands in `Decision`.
    """

    decision_id: str
    decided_at: TimeText
    account_id: str | None
    visitor_id: str | None
    channel: str | None
    surface: str | None
    request_id: str | None
    model_version: str
    experiment_id: str | None
    arm: str | None
    assignment_probability: float | None
    objective: Objective
    tier: Tier
    horizon_days: int
    requested: int
    returned: int
    n_considered: int
    shortfall: str | None
    shown: bool
    presented: bool
    unknown_products: JsonText
    request: JsonText
    offers: JsonText
    context: JsonText | None


class AssignedArm(NamedTuple):
    """The arm of an experiment that a decision was made under."""

    experiment_id: Annotated[str, Field(description="The experiment.")]
    arm: Annotated[str, Field(description="The arm that the unit fell into.")]
    probability: Annotated[
        float | None, Field(description="With which it fell into the arm; None in an answer, which does not tell it.")
    ] = None


@dataclass(frozen=True, slots=True)
class Context:
    """What a decision rested on beyond its request and its model, kept so that it can be computed again.

    Attributes:
        state: what was known of the account beyond the bundle.
        refused: product id -> why a candidate was not offered, for reasons that change: stock, flags, business rules.
        rules_version: of the business rules that were in force; None without any.
        unknown_experiment: that the request named and that did not run; None without one.
    """

    state: AccountState = EMPTY_STATE
    refused: Mapping[str, str] = field(default_factory=dict)
    rules_version: str | None = None
    unknown_experiment: str | None = None


NO_CONTEXT: Final = Context()


class Decision(NamedTuple):
    """One answer of the engine, with all that is needed to judge it later.

    Attributes:
        decision_id: UUIDv7, so that ids sort by time.
        decided_at: UTC.
        request: what was asked; the account stands in it.
        model_version: the bundle that answered (`recsys.bundle.manifest.model_version`).
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
        assignments: the experiments that it was part of, each with its arm; empty outside experiments.
        shown: False where the answer was held back (holdout): what would have been shown.
        presented: True where the surface declares that returned is presented.
        context: what else the answer rested on.
    """

    decision_id: str
    decided_at: datetime
    request: OfferRequest
    model_version: str
    objective: Objective
    tier: Tier
    horizon_days: int
    n_considered: int
    offers: tuple[Offer, ...] = ()
    shortfall: str | None = None
    unknown_products: tuple[str, ...] = ()
    visitor_id: str | None = None
    channel: str | None = None
    surface: str | None = None
    request_id: str | None = None
    assignments: tuple[AssignedArm, ...] = ()
    shown: bool = True
    presented: bool = False
    context: Context = NO_CONTEXT

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Return the decision that stands in `row`, as a store reads it: column -> value, times as times, JSON as text.

        What a newer release has added to the request or the context is left out.
        """
        kept = json.loads(row["context"] or "{}")
        return cls(
            **{name: row[name] for name in _AS_KEPT},
            request=OfferRequest(account_id=row["account_id"], **_known(OfferRequest, json.loads(row["request"]))),
            offers=tuple(Offer.from_logged(values) for values in json.loads(row["offers"])),
            unknown_products=tuple(json.loads(row["unknown_products"])),
            assignments=assignments_of(row),
            context=Context(AccountState(**_known(AccountState, kept)), **_known(Context, kept))
            if kept
            else NO_CONTEXT,
        )

    @property
    def account_id(self) -> str | None:
        """The account that was answered, or None for a visitor."""
        return self.request.account_id


_JSON: Final = frozenset({"unknown_products", "request", "offers", "context"})
_AS_KEPT: Final = tuple(name for name in Decision._fields if name in {*DecisionRow._fields} - _JSON)
ASSIGNMENT_COLUMNS: Final = ("experiment_id", "arm", "assignment_probability", "context")
"""Which columns of a decision say what it was assigned to."""
SEVERAL: Final = '"assignments"'
"""What stands in the context of every decision that has several; few others hold it."""


def record_decision(decision: Decision, offers: str | None = None, returned: int = 0) -> DecisionRow:
    """Return the row of a decision.

    Args:
        decision: what is kept.
        offers: its offers as JSON, each by the positions of `LOGGED`, where they are written already.
        returned: how many those are.
    """
    request, several = decision.request, len(decision.assignments) > 1
    experiment_id, arm, probability = decision.assignments[0] if decision.assignments else (None, None, None)
    if offers is None:
        offers, returned = json_text([offer.logged() for offer in decision.offers]), len(decision.offers)
    return DecisionRow(
        decision.decision_id,
        time_text(decision.decided_at),
        request.account_id,
        decision.visitor_id,
        decision.channel,
        decision.surface,
        decision.request_id,
        decision.model_version,
        experiment_id,
        arm,
        probability,
        decision.objective,
        decision.tier,
        decision.horizon_days,
        request.limit,
        returned,
        decision.n_considered,
        decision.shortfall,
        decision.shown,
        decision.presented,
        json_text(decision.unknown_products) if decision.unknown_products else "[]",
        json_text(_request_values(request)),
        offers,
        json_text(_context_values(decision)) if several or decision.context is not NO_CONTEXT else None,
    )


def assignments_of(row: Mapping[str, Any]) -> tuple[AssignedArm, ...]:
    """Return the arms that a decision was made under.

    Args:
        row: of a decision, with the columns of `ASSIGNMENT_COLUMNS` at least.
    """
    context = row["context"]
    if context is not None and SEVERAL in context and (listed := json.loads(context).get("assignments")):
        return tuple(AssignedArm(*(values[name] for name in AssignedArm._fields)) for values in listed)
    if row["experiment_id"] is None:
        return ()
    return (AssignedArm(row["experiment_id"], row["arm"], row["assignment_probability"]),)


def assignment_mark(experiment_id: str) -> str:
    """Return how the context of a decision in several experiments names one of them, and nothing else."""
    return f'{{"experiment_id":{json_text(experiment_id)},'


def time_text(when: datetime) -> str:
    """Return a time as rows have it: UTC with microseconds, as both databases read it and as SQLite sorts it."""
    if when.tzinfo is not UTC:
        when = when.astimezone(UTC)
    return when.isoformat(" ", "microseconds")[:-6]  # without its +00:00


_ASKED: Final = tuple(item.name for item in fields(OfferRequest) if item.name != "account_id")
_ASKED_OF: Final = attrgetter(*_ASKED)
_USUAL: Final = _ASKED_OF(OfferRequest())
_STATE: Final = tuple(item.name for item in fields(AccountState))
_BESIDE_STATE: Final = tuple(item.name for item in fields(Context) if item.name != "state")
_STORED_NAMES: Final = {"suppressed": "withheld", "opt_out_reason": "silence"}
"""What stores call a field, where it is not its name here: written names never change."""
_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "cart": lambda lines: tuple(CartLine(*line) for line in lines),
    "kinds": tuple,
    "exclude": frozenset,
    "categories": tuple,
    "bought": tuple,
}
"""How a value that JSON has as a list is read."""


def _request_values(request: OfferRequest) -> dict[str, Any]:
    """The request without its account and without what has its default value."""
    values = zip(_ASKED, _ASKED_OF(request), _USUAL)  # noqa: B905 - as many of each
    unusual: dict[str, Any] = {name: value for name, value, usual in values if value is not usual and value != usual}
    if "exclude" in unusual:
        unusual["exclude"] = sorted(request.exclude)
    if "cart" in unusual:  # plain tuples are written five times as fast as named ones
        unusual["cart"] = [tuple(line) for line in request.cart]
    return unusual


def _context_values(decision: Decision) -> dict[str, Any]:
    """The context without what has its default value, and the assignments where the columns do not hold them all."""
    context = decision.context
    kept = _unlike(context.state, EMPTY_STATE, _STATE) | _unlike(context, NO_CONTEXT, _BESIDE_STATE)
    if len(decision.assignments) > 1:
        kept["assignments"] = [assigned._asdict() for assigned in decision.assignments]
    return kept


def _unlike(value: object, usual: object, names: Sequence[str]) -> dict[str, Any]:
    unlike = [name for name in names if getattr(value, name) != getattr(usual, name)]
    return {_STORED_NAMES.get(name, name): getattr(value, name) for name in unlike}


def _known(kind: type[Any], kept: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `kind` that are kept; what a newer release has added is left out."""
    stored = {item.name: _STORED_NAMES.get(item.name, item.name) for item in fields(kind)}
    found = ((name, kept[key]) for name, key in stored.items() if key in kept)
    return {name: _READERS[name](value) if name in _READERS else value for name, value in found}
