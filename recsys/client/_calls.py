"""What can be asked of the server: each call as its question and what to make of the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from recsys.client._answers import (
    BoardCell,
    Order,
    PostedOrders,
    Reported,
    ReportedOutcome,
    RunningExperiment,
    parse_board,
    parse_experiments,
    parse_models,
    parse_posted,
    parse_reported,
    picked,
)
from recsys.client._exchange import ApiQuestion, offers_question
from recsys.contracts.answers import CallListEntry, RunningModel, WhyNotResult
from recsys.contracts.offers import AccountChange, OfferRequest, ProductChange

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ApiCall(Generic[_T]):
    """A question and how its answer is read."""

    question: ApiQuestion
    parse: Callable[[dict[str, Any]], _T]


def outcomes_call(outcomes: Iterable[ReportedOutcome]) -> ApiCall[Reported]:
    """Return the call that reports outcomes."""
    return ApiCall(_posted("outcomes", outcomes), parse_reported)


def orders_call(orders: Iterable[Order]) -> ApiCall[PostedOrders]:
    """Return the call that posts orders."""
    return ApiCall(_posted("orders", orders), parse_posted)


def dated_outcomes(outcomes: Iterable[ReportedOutcome], now: datetime) -> list[dict[str, Any]]:
    """Return outcomes that may wait to be sent: what has no time happened `now`, not when they arrive."""
    return _bodies(replace(one, occurred_at=one.occurred_at or now) for one in outcomes)


def dated_orders(orders: Iterable[Order], now: datetime) -> list[dict[str, Any]]:
    """Return orders that may wait to be sent: what has no time was placed `now`, not when they arrive."""
    return _bodies(replace(one, ordered_at=one.ordered_at or now) for one in orders)


def queued_call(kind: str, events: list[Any]) -> ApiCall[Reported | PostedOrders]:
    """Return the call that posts events of one kind from the queue."""
    question = ApiQuestion(f"/v1/{kind}", json={kind: events})
    return ApiCall(question, parse_reported if kind == "outcomes" else parse_posted)


def update_call(name: str, changes: Iterable[ProductChange] | Iterable[AccountChange]) -> ApiCall[int]:
    """Return the call that posts new values of products or accounts; it answers with their number."""
    return ApiCall(_posted(name, changes), lambda found: int(found["received"]))


def link_visitor(visitor_id: str, account_id: str) -> ApiCall[str]:
    """Return the call that lets a visitor become an account; it answers with the account."""
    question = ApiQuestion(f"/v1/visitors/{quote(visitor_id, safe='')}:link", json={"account_id": account_id})
    return ApiCall(question, lambda found: str(found["account_id"]))


def why_not_call(decision_id: str, product_id: str) -> ApiCall[WhyNotResult]:
    """Return the call that asks why a product was not offered."""
    question = ApiQuestion(f"/v1/decisions/{quote(decision_id, safe='')}/why-not", json={"product_id": product_id})
    return ApiCall(question, partial(picked, WhyNotResult))


def product_question(product_id: str, page: str, limit: int) -> ApiQuestion:
    """Return the question for the complements or the upgrades of a product."""
    return ApiQuestion(_product(product_id, page), params={"limit": limit})


def call_list_call(product_id: str, capacity: int) -> ApiCall[tuple[CallListEntry, ...]]:
    """Return the call that asks whom to call about a product."""
    question = ApiQuestion(_product(product_id, "accounts"), params={"capacity": capacity})
    return ApiCall(question, lambda found: tuple(picked(CallListEntry, call) for call in found["calls"]))


def white_space(account_id: str, products_per_category: int) -> ApiCall[tuple[BoardCell, ...]]:
    """Return the call that asks what is left to sell to an account."""
    path = f"/v1/accounts/{quote(account_id, safe='')}/whitespace"
    return ApiCall(ApiQuestion(path, params={"products_per_category": products_per_category}), parse_board)


def experiments() -> ApiCall[tuple[RunningExperiment, ...]]:
    """Return the call that asks what is being tested."""
    return ApiCall(ApiQuestion("/v1/experiments"), parse_experiments)


def models() -> ApiCall[tuple[RunningModel, ...]]:
    """Return the call that asks what runs."""
    return ApiCall(ApiQuestion("/v1/models"), parse_models)


def batch_question(requests: Iterable[OfferRequest], channel: str | None, surface: str | None) -> ApiQuestion:
    """Return `POST /v1/offers:batch`."""
    bodies = [offers_question(request, None, channel, surface).json for request in requests]
    return ApiQuestion("/v1/offers:batch", json={"requests": bodies})


def _product(product_id: str, page: str) -> str:
    return f"/v1/products/{quote(product_id, safe='')}/{page}"


def _posted(name: str, items: Iterable[Any]) -> ApiQuestion:
    return ApiQuestion(f"/v1/{name}", json={name: _bodies(items)})


def _bodies(items: Iterable[Any]) -> list[dict[str, Any]]:
    """A batch of dataclasses, each without what was not given."""
    return [asdict(item, dict_factory=_given) for item in items]


def _given(fields: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """The fields of a dataclass as JSON takes them."""
    given = ((name, value) for name, value in fields if value is not None)
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in given}
