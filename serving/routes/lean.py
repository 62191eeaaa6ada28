"""A route whose body goes from bytes to its model in one step."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from starlette.exceptions import HTTPException
from starlette.responses import Response

_JSON: Final = re.compile(r"application/([a-z0-9.+-]*\+)?json\s*(;.*)?", re.IGNORECASE)


class LeanRoute(APIRoute):
    """Hands the handler its request and validated body, and sends the Response that it gives.

    FastAPI's own way (decode, solve dependencies, validate, serialise through the response model) takes longer than the
    engine. The OpenAPI document is the same: it is read off the handler's signature. The handler takes exactly
    `(request, body)`, and by name the parameters of its path. Where the path has none, `serving.edge` calls
    `get_route_handler()` itself, which spares the router too.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler that Starlette calls."""
        kind = self.body_field.field_info.annotation if self.body_field else None
        if kind is None:
            raise TypeError(f"{self.path} has no body; a lean route is for handlers of (request, body)")
        validate = TypeAdapter(kind).validate_json
        endpoint: Callable[..., Coroutine[Any, Any, Response]] = self.endpoint
        parameters = self.dependant.path_params

        async def handle(request: Request) -> Response:
            kind = request.headers.get("content-type", "")
            if kind != "application/json" and not _JSON.fullmatch(kind):
                raise HTTPException(415, "the body must be JSON: send Content-Type: application/json")
            named = _path_values(parameters, request) if parameters else {}
            return await endpoint(request, validate(await request.body()), **named)

        return handle


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
