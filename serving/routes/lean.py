"""A route whose body goes from bytes to its model in one step."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi import Request
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from starlette.exceptions import HTTPException
from starlette.responses import Response

_JSON: Final = re.compile(r"application/([a-z0-9.+-]*\+)?json\s*(;.*)?", re.IGNORECASE)


class LeanRoute(APIRoute):
    """Hands the handler its request and validated body, and sends the Response that it gives.

    FastAPI's own way (decode, solve dependencies, validate, serialise through the response model) takes longer than the
    engine. The OpenAPI document is the same: it is read off the handler's signature. The handler takes exactly
    `(request, body)`.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler that Starlette calls."""
        kind = self.body_field.field_info.annotation if self.body_field else None
        if kind is None:
            raise TypeError(f"{self.path} has no body; a lean route is for handlers of (request, body)")
        validate = TypeAdapter(kind).validate_json
        endpoint: Callable[[Request, Any], Coroutine[Any, Any, Response]] = self.endpoint

        async def handle(request: Request) -> Response:
            if not _JSON.fullmatch(request.headers.get("content-type", "")):
                raise HTTPException(415, "the body must be JSON: send Content-Type: application/json")
            return await endpoint(request, validate(await request.body()))

        return handle
