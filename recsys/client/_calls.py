"""What can be asked of the server: each call as its question and what to make of the answer."""

from __future__ import annotations

import reprlib
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final, Generic, TypedDict, TypeVar
from urllib.parse import quote

from recsys.client._answers import (
    BoardCell,
    Order,
    PostedDecision,
    PostedOrders,
    Reported,
    ReportedOutcome,
    RunningExperiment,
    parse_board,
    parse_decision,
    parse_experiments,
    parse_models,
    parse_posted,
    parse_reported,
    picked,
)
from recsys.client._exchange import ApiQuestion
from recsys.contracts.answers import CallList, CallListEntry, RunningModel, WhyNotResult
from recsys.contracts.offers import AccountChange, Explain, Mix, OfferRequest, ProductChange, Variants
from recsys.errors import ConfigError

_T = TypeVar("_T")

EVENT_KINDS: Final[Mapping[str, tuple[type, str]]] = {
    "outcomes": (ReportedOutcome, "occurred_at"),
    "orders": (Order, "ordered_at"),
}
"""What may wait in the queue, by the name of its route: its class, and the field that says when it happened."""

DECIDING_MS: Final = 60_000.0
"""Deadline of a decision: the server reads the whole log of the experiment, and no page waits for it."""


@dataclass(frozen=True, slots=True)
class ApiCall(Generic[_T]):
    """A question and how its answer is read."""

    question: ApiQuestion
    parse: Callable[[dict[str, Any]], _T]


class ProductPage(TypedDict, total=False):
    """What the page of one product may ask; what is left out is as the server has it.

    Attributes:
        limit: how many offers are wanted.
        explain: how much evidence comes with each.
        channel: where the request comes from.
        surface: the place of the offers.
        language: of the reasons.
        mix: of what no more than a share of the ranks is filled.
        variants: what becomes of products that differ in a colour or pattern alone.
    """

    limit: int
    explain: Explain | None
    channel: str | None
    surface: str | None
    language: str | None
    mix: Mix | None
    variants: Variants | None


def offers_question(
    request: OfferRequest,
    visitor_id: str | None,
    channel: str | None,
    surface: str | None,
    experiment_id: str | None = None,
) -> ApiQuestion:
    """Return `POST /v1/offers`.

    Raises:
        ConfigError: the raw ranking is asked for, which is for evaluation and is not served; or a value is none that
            can be sent.
    """
    _check_kind("request", request, OfferRequest)
    if request.raw:
        raise ConfigError("raw == True, must be False over HTTP; `offers recommend --raw` gives the raw ranking")
    if request.sources != "all":
        raise ConfigError(f"sources == {request.sources!r}, must be 'all' over HTTP; an arm or a product page sets it")
    places: dict[str, Any] = {
        "account_id": request.account_id,
        "visitor_id": visitor_id,
        "cart": request.cart,
        "viewed_product_id": request.viewed_product_id,
        "exclude": request.exclude,
        "channel": request.channel if channel is None else channel,
        "surface": request.surface if surface is None else surface,
        "region": request.region,
        "language": request.language,
        "mix": request.mix,
        "variants": request.variants,
        "experiment_id": experiment_id,
    }
    filters = {name: getattr(request, name) for name in ("categories", "min_price", "max_price")}
    given = {"filters": _given(filters)} if _given(filters) else {}
    return ApiQuestion("/v1/offers", json=_asked(request) | _given(places) | given)


def account_question(request: OfferRequest, channel: str | None, surface: str | None) -> ApiQuestion:
    """Return `GET /v1/accounts/{id}/offers`; the cart and the exclusions have no place there.

    Raises:
        ConfigError: no account, something that this route does not take, or a value that can't be sent.
    """
    _check_kind("request", request, OfferRequest)
    plain = OfferRequest(
        account_id=request.account_id,
        kinds=request.kinds,
        limit=request.limit,
        new_only=request.new_only,
        objective=request.objective,
        explain=request.explain,
        language=request.language,
        mix=request.mix,
        variants=request.variants,
    )
    if request.account_id is None or request != plain:
        raise ConfigError(
            "an account's page takes account_id, kinds, limit, new_only, objective, explain, language, mix and "
            "variants only"
        )
    places = {"channel": channel, "surface": surface}
    places |= {name: getattr(request, name) for name in ("language", "mix", "variants")}
    path = f"/v1/accounts/{_segment('account_id', request.account_id)}/offers"
    return ApiQuestion(path, params=_asked(request) | _given(places))


def outcomes_call(outcomes: Iterable[ReportedOutcome]) -> ApiCall[Reported]:
    """Return the call that reports outcomes."""
    return ApiCall(_posted("outcomes", outcomes), parse_reported)


def orders_call(orders: Iterable[Order]) -> ApiCall[PostedOrders]:
    """Return the call that posts orders."""
    return ApiCall(_posted("orders", orders), parse_posted)


def dated_events(
    kind: str, events: Iterable[ReportedOutcome] | Iterable[Order], now: datetime
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return events that may wait to be sent, and what is wrong with the others, in sentences.

    What has no time happened `now`, not when it arrives.
    """
    of, time = EVENT_KINDS[kind]
    bodies, wrong = [], []
    for position, event in enumerate(_listed(kind, events)):
        place = f"{kind}[{position}]"
        try:
            _check_kind(place, event, of)
            bodies.append({time: now.isoformat(), **sendable(event, place)})
        except ConfigError as error:
            wrong.append(str(error))
    return bodies, wrong


def queued_call(kind: str, events: list[Any]) -> ApiCall[Reported | PostedOrders]:
    """Return the call that posts events of one kind from the queue."""
    question = ApiQuestion(f"/v1/{kind}", json={kind: events})
    return ApiCall(question, parse_reported if kind == "outcomes" else parse_posted)


def update_call(name: str, changes: Iterable[ProductChange] | Iterable[AccountChange]) -> ApiCall[int]:
    """Return the call that posts new values of products or accounts; it answers with their number."""
    return ApiCall(_posted(name, changes), lambda found: int(found["received"]))


def link_visitor(visitor_id: str, account_id: str) -> ApiCall[str]:
    """Return the call that lets a visitor become an account; it answers with the account."""
    body = sendable({"account_id": account_id}, "")
    question = ApiQuestion(f"/v1/visitors/{_segment('visitor_id', visitor_id)}:link", json=body)
    return ApiCall(question, lambda found: str(found["account_id"]))


def why_not_call(decision_id: str, product_id: str) -> ApiCall[WhyNotResult]:
    """Return the call that asks why a product was not offered."""
    body = sendable({"product_id": product_id}, "")
    question = ApiQuestion(f"/v1/decisions/{_segment('decision_id', decision_id)}/why-not", json=body)
    return ApiCall(question, partial(picked, WhyNotResult))


def product_question(product_id: str, page: str, options: ProductPage) -> ApiQuestion:
    """Return the question for the complements or the upgrades of a product.

    Raises:
        ConfigError: an option is none of a product's page, or can't be sent.
    """
    strangers = [name for name in options if name not in ProductPage.__annotations__]
    if strangers:
        rule = f"a product's page takes {', '.join(ProductPage.__annotations__)}"
        raise ConfigError(f"{strangers[0]} == {options.get(strangers[0])!r}: {rule}; leave it out")
    return ApiQuestion(_product(product_id, page), params=_given(options))


def call_list_call(product_id: str, capacity: int, language: str | None) -> ApiCall[CallList]:
    """Return the call that asks whom to call about a product."""
    params = _given({"capacity": capacity, "language": language})
    return ApiCall(
        ApiQuestion(_product(product_id, "accounts"), params=params),
        lambda found: CallList(
            tuple(picked(CallListEntry, call) for call in found["calls"]), shortfall=found.get("shortfall")
        ),
    )


def white_space(account_id: str, products_per_category: int) -> ApiCall[tuple[BoardCell, ...]]:
    """Return the call that asks what is left to sell to an account."""
    path = f"/v1/accounts/{_segment('account_id', account_id)}/whitespace"
    params = sendable({"products_per_category": products_per_category}, "")
    return ApiCall(ApiQuestion(path, params=params), parse_board)


def experiments() -> ApiCall[tuple[RunningExperiment, ...]]:
    """Return the call that asks what is being tested."""
    return ApiCall(ApiQuestion("/v1/experiments"), parse_experiments)


def decide_call(
    experiment_id: str, by: str | None, override: str | None, reason: str, arm: str | None, currency: str | None
) -> ApiCall[PostedDecision]:
    """Return the call that decides an experiment."""
    path = f"/v1/experiments/{_segment('experiment_id', experiment_id)}/decision"
    body = _given({"by": by, "override": override, "reason": reason, "arm": arm})
    return ApiCall(ApiQuestion(path, json=body, params=_given({"currency": currency})), parse_decision)


def models() -> ApiCall[tuple[RunningModel, ...]]:
    """Return the call that asks what runs."""
    return ApiCall(ApiQuestion("/v1/models"), parse_models)


def batch_question(requests: Iterable[OfferRequest], channel: str | None, surface: str | None) -> ApiQuestion:
    """Return `POST /v1/offers:batch`."""
    bodies = [offers_question(request, None, channel, surface).json for request in _listed("requests", requests)]
    return ApiQuestion("/v1/offers:batch", json={"requests": bodies})


def sendable(value: object, where: str) -> Any:  # noqa: ANN401 - whatever JSON has
    """Return a value as JSON has it: dataclasses without what was not given, sets in order, times with their zone.

    Args:
        value: what is to be sent.
        where: its name in what is said of it; empty: the names within it stand alone.

    Raises:
        ConfigError: it holds something that can't be sent, and names it.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (str, int, float, datetime)):
        return _json_scalar(value, where)
    if is_dataclass(value) and not isinstance(value, type):
        given = {item.name: getattr(value, item.name) for item in fields(value)}
        return sendable({name: one for name, one in given.items() if one is not None}, where)
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return sendable(value._asdict(), where)
    if isinstance(value, Mapping):
        return {name: sendable(one, f"{where}.{name}".lstrip(".")) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [sendable(one, f"{where}[{position}]") for position, one in enumerate(value)]
    if isinstance(value, (set, frozenset)):
        return sorted((sendable(one, where) for one in value), key=str)
    rule = "must be text, a number, a time with its zone, or a list of them; convert it"
    raise ConfigError(f"{where} == {reprlib.repr(value)}, of {type(value).__name__}, {rule}")


def _json_scalar(value: str | float | datetime, where: str) -> str | float:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ConfigError(f"{where} == {value!s}, must have a zone; give it as datetime.now(UTC) is")
        return value.isoformat()
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ConfigError(f"{where} == {reprlib.repr(value)}, must be valid text: {error.reason}") from None
    elif not -sys.float_info.max <= value <= sys.float_info.max:
        shown = f"{value:g}" if isinstance(value, float) else "an integer beyond all floats"
        raise ConfigError(f"{where} == {shown}, must be a finite number; leave it out if it is unknown")
    return value


def _segment(name: str, value: object) -> str:
    """An id as a part of a path, between two slashes."""
    if not isinstance(value, str) or value in {".", ".."}:
        rule = "must be text other than '.' and '..', which would name another route"
        raise ConfigError(f"{name} == {reprlib.repr(value)}, {rule}; give the id as it was trained with")
    return quote(sendable(value, name), safe="")


def _product(product_id: str, page: str) -> str:
    return f"/v1/products/{_segment('product_id', product_id)}/{page}"


def _posted(name: str, items: Iterable[Any]) -> ApiQuestion:
    return ApiQuestion(f"/v1/{name}", json={name: sendable(_listed(name, items), name)})


def _listed(name: str, items: Iterable[_T]) -> list[_T]:
    if not isinstance(items, Iterable):
        raise ConfigError(f"{name} == {reprlib.repr(items)}, must be a list; give [one] for a single one")
    return list(items)


def _check_kind(name: str, value: object, kind: type) -> None:
    if not isinstance(value, kind):
        raise ConfigError(f"{name} == {reprlib.repr(value)}, must be of {kind.__name__}; build one")


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    """What of some values was given, as JSON has it: nothing stands for None and for empty lists, "" for itself."""
    return {name: value for name, value in sendable(values, "").items() if value is not None and value != []}


def _asked(request: OfferRequest) -> dict[str, Any]:
    names = ("kinds", "limit", "new_only", "objective", "explain")
    return dict(sendable({name: getattr(request, name) for name in names}, ""))
