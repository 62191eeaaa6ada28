"""What can be asked of the server: each call as its question and what to make of the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from recsys.client._answers import (
    Answer,
    Order,
    PostedOrders,
    Reported,
    ReportedOutcome,
    parse_answer,
    parse_models,
    parse_posted,
    parse_reported,
)
from recsys.client._exchange import ApiQuestion, offers_question
from recsys.client._pages import (
    BoardCell,
    RunningExperiment,
    parse_board,
    parse_calls,
    parse_experiments,
    parse_explanation,
)
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
    body = {"outcomes": [_plain(outcome) for outcome in outcomes]}
    return ApiCall(ApiQuestion("/v1/outcomes", json=body), parse_reported)


def orders_call(orders: Iterable[Order]) -> ApiCall[PostedOrders]:
    """Return the call that posts orders."""
    body = {"orders": [_plain(order) for order in orders]}
    return ApiCall(ApiQuestion("/v1/orders", json=body), parse_posted)


def update_products(changes: Iterable[ProductChange]) -> ApiCall[int]:
    """Return the call that posts new values of products; it answers with their number."""
    body = {"products": [_plain(change) for change in changes]}
    return ApiCall(ApiQuestion("/v1/products", json=body), lambda found: int(found["received"]))


def update_accounts(changes: Iterable[AccountChange]) -> ApiCall[int]:
    """Return the call that posts new values of accounts; it answers with their number."""
    body = {"accounts": [_plain(change) for change in changes]}
    return ApiCall(ApiQuestion("/v1/accounts", json=body), lambda found: int(found["received"]))


def link_visitor(visitor_id: str, account_id: str) -> ApiCall[str]:
    """Return the call that lets a visitor become an account; it answers with the account."""
    question = ApiQuestion(f"/v1/visitors/{quote(visitor_id, safe='')}:link", json={"account_id": account_id})
    return ApiCall(question, lambda found: str(found["account_id"]))


def why_not_call(decision_id: str, product_id: str) -> ApiCall[WhyNotResult]:
    """Return the call that asks why a product was not offered."""
    question = ApiQuestion(f"/v1/decisions/{quote(decision_id, safe='')}/why-not", json={"product_id": product_id})
    return ApiCall(question, parse_explanation)


def complements(product_id: str, limit: int) -> ApiCall[Answer]:
    """Return the call that asks what goes with a product."""
    return ApiCall(ApiQuestion(_product(product_id, "complements"), params={"limit": limit}), parse_answer)


def upgrades(product_id: str, limit: int) -> ApiCall[Answer]:
    """Return the call that asks for higher-value versions of a product."""
    return ApiCall(ApiQuestion(_product(product_id, "upgrades"), params={"limit": limit}), parse_answer)


def call_list_call(product_id: str, capacity: int) -> ApiCall[tuple[CallListEntry, ...]]:
    """Return the call that asks whom to call about a product."""
    return ApiCall(ApiQuestion(_product(product_id, "accounts"), params={"capacity": capacity}), parse_calls)


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


def _plain(value: Any) -> dict[str, Any]:  # noqa: ANN401 - any of the reported dataclasses
    """A dataclass as JSON, without what was not given."""
    return _given(asdict(value))


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _json(value) for name, value in values.items() if value is not None}


def _json(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, (list, tuple)):
        return [_given(item) for item in value]
    return value
