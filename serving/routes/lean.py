"""Routes whose body or query goes to its model in one step."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from inspect import Parameter, signature
from typing import Any, Final, TypeAlias, get_origin, get_type_hints
from urllib.parse import parse_qsl

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.params import Param
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field, TypeAdapter, ValidationError, create_model
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive

from serving.services import services_of

_Handler: TypeAlias = Callable[[Request], Coroutine[Any, Any, Response | bytes]]

_JSON: Final = re.compile(rb"application/([a-z0-9.+-]*\+)?json\s*(;.*)?", re.IGNORECASE)


class LeanRoute(APIRoute):
    """Hands the handler its request and validated body, and sends the Response, or the JSON, that it gives.

    FastAPI's own way (decode, solve dependencies, validate, serialise through the response model) takes longer than the
    engine. The OpenAPI document is the same: it is read off the handler's signature. The handler takes exactly
    `(request, body)`, and by name the parameters of its path. Where the path has none, `serving.edge` calls
    `lean_handler()` itself, which spares the router too.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler that Starlette calls."""
        return _responding(self.lean_handler())

    def reader(self) -> Callable[[bytes], Any]:
        """Return what makes the validated body of JSON."""
        kind = self.body_field.field_info.annotation if self.body_field else None
        if kind is None:
            raise TypeError(f"{self.path} has no body; a lean route is for handlers of (request, body)")
        return TypeAdapter(kind).validator.validate_json

    def lean_handler(self) -> _Handler:
        """Return the handler that the edge calls."""
        validate = self.reader()
        endpoint: Callable[..., Coroutine[Any, Any, Response | bytes]] = self.endpoint
        parameters = self.dependant.path_params

        async def handle(request: Request) -> Response | bytes:
            kind = next((value for name, value in request.scope["headers"] if name == b"content-type"), b"")
            if kind != b"application/json" and not _JSON.fullmatch(kind):
                raise HTTPException(415, "the body must be JSON: send Content-Type: application/json")
            named = _path_values(parameters, request) if parameters else {}
            return await endpoint(request, validate(await _body(request.receive)), **named)

        return handle


def _responding(handler: _Handler) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    """The same handler for Starlette, which wants a Response."""

    async def respond(request: Request) -> Response:
        answer = await handler(request)
        return Response(answer, media_type="application/json") if isinstance(answer, bytes) else answer

    return respond


async def _body(receive: Receive) -> bytes:
    """The whole body; most come in one piece."""
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        body: bytes = message.get("body", b"")
        return body
    pieces = []
    while message["type"] == "http.request":
        pieces.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(pieces)
        message = await receive()
    raise ClientDisconnect


def _path_values(parameters: Sequence[Any], request: Request) -> dict[str, Any]:
    values: dict[str, Any] = {}
    errors: list[Any] = []
    for parameter in parameters:
        place = ("path", parameter.alias)
        values[parameter.name], wrong = parameter.validate(request.path_params[parameter.alias], {}, loc=place)
        errors += wrong or []
    if errors:
        raise RequestValidationError(errors)
    return values


class LeanQueryRoute(APIRoute):
    """Validates path and query in one step, calls the handler with them, and sends the Response or JSON that it gives.

    As with `LeanRoute` the document is read off the handler's signature: `request`, `services`, and parameters
    annotated with Path or Query. Solving them as dependencies takes FastAPI longer than the engine.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler that Starlette calls."""
        read = self.reader()
        endpoint: Callable[..., Coroutine[Any, Any, Response | bytes]] = self.endpoint

        async def handle(request: Request) -> Response | bytes:
            try:
                asked = read(request.scope["query_string"].decode("latin-1"), request.path_params)
            except ValidationError as error:
                raise _placed(error, request) from None
            return await endpoint(request=request, services=services_of(request), **asked)

        return _responding(handle)

    def reader(self) -> Callable[[str, Mapping[str, str]], dict[str, Any]]:
        """Return what makes the handler's arguments of a query and the parameters of a path."""
        question = _question(self.endpoint)
        several = {name for name, field in question.model_fields.items() if get_origin(field.annotation) is list}

        def read(query: str, path_params: Mapping[str, str]) -> dict[str, Any]:
            given: dict[str, Any] = {}
            for name, value in _queried(query):
                if name in several:
                    given.setdefault(name, []).append(value)
                else:
                    given[name] = value
            given |= path_params
            return question.model_validate(given).__dict__

        return read


def _queried(query: str) -> Iterable[tuple[str, str]]:
    """Names and values of a query; where nothing is escaped they need not be taken apart character by character."""
    if "%" in query or "+" in query:
        return parse_qsl(query, keep_blank_values=True)
    parts = [part.partition("=") for part in query.split("&") if part]
    return [(name, value) for name, _, value in parts]


def _question(endpoint: Callable[..., Any]) -> type[BaseModel]:
    """A model of the handler's parameters of path and query."""
    hints = get_type_hints(endpoint, include_extras=True)
    fields: dict[str, Any] = {
        name: (hints[name], _field(parameter.default))
        for name, parameter in signature(endpoint).parameters.items()
        if any(isinstance(item, Param) for item in getattr(hints[name], "__metadata__", ()))
    }
    return create_model("Question", **fields)


def _field(default: Any) -> Any:  # noqa: ANN401 - whatever a parameter may be
    """The same default; of a list a factory, because pydantic would copy it, deeply, for every request."""
    if default is Parameter.empty:
        return ...
    return Field(default_factory=default.copy) if isinstance(default, list) else default


def _placed(error: ValidationError, request: Request) -> RequestValidationError:
    """The same error with each field under `path` or `query`, as FastAPI places them."""
    return RequestValidationError(
        [
            {**item, "loc": ("path" if item["loc"][0] in request.path_params else "query", *item["loc"])}
            for item in error.errors()
        ]
    )
