"""The two usual questions, answered in front of the application: no routing, no dependencies to solve.

What it leaves to the application is decided by method, path and headers. Both ways share admission, models, decision
and the mapping of errors, and give the same bytes (tests/serving/http/test_fast_path.py).
"""

from __future__ import annotations

import re
from typing import Any, Final

from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.decisions import decide
from serving.http.admission import ADMISSION, Admission, read_body
from serving.routes.offers import person_question, shop_question
from serving.schemas.fields import Id
from serving.schemas.offers import AccountOffersQuery, OffersBody
from serving.services import Services

_SHOP_PATH: Final = "/v1/offers"
_PERSON_PATH: Final = re.compile(r"/v1/accounts/([^\n]+)/offers")
_ID: Final[TypeAdapter[str]] = TypeAdapter(Id)
_JSON_TYPE: Final = (b"content-type", b"application/json")


class FastPath:
    """ASGI callable in front of the application, behind `RequestMiddleware`.

    Args:
        app: answers everything else.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a usual question; hand everything else on."""
        if scope["type"] == "http":
            method, path = scope["method"], scope["path"]
            if method == "POST" and path == _SHOP_PATH and _JSON_TYPE in scope["headers"]:
                body = OffersBody.model_validate_json(await read_body(receive))
                services, admission = _parts(scope)
                question = shop_question(services, body, admission.request_id)
                await _send_json(send, await decide(services, *question))
                return
            if method == "GET" and (match := _PERSON_PATH.fullmatch(path)):
                services, admission = _parts(scope)
                account_id, query = _person(match[1], admission)
                question = person_question(services, account_id, query, admission.request_id)
                await _send_json(send, await decide(services, *question))
                return
        await self._app(scope, receive, send)


def _parts(scope: Scope) -> tuple[Services, Admission]:
    return scope["app"].state.services, scope[ADMISSION]


def _person(account_id: str, admission: Admission) -> tuple[str, AccountOffersQuery]:
    """Validate path and query together, so that one answer names every field that breaks a rule."""
    given: dict[str, Any] = {}
    for name, value in admission.query:  # admission lets only `kinds` come more than once
        if name == "kinds":
            given.setdefault(name, []).append(value)
        else:
            given[name] = value
    errors: list[Any] = []
    try:
        account_id = _ID.validate_python(account_id)
    except ValidationError as error:
        errors += [{**item, "loc": ("path", "account_id")} for item in error.errors()]
    try:
        query = AccountOffersQuery.model_validate(given)
    except ValidationError as error:
        errors += [{**item, "loc": ("query", *item["loc"])} for item in error.errors()]
    if errors:
        raise RequestValidationError(errors)
    return account_id, query


async def _send_json(send: Send, content: bytes) -> None:
    headers = [(b"content-length", b"%d" % len(content)), _JSON_TYPE]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})
