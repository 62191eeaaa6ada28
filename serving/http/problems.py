"""Every error that leaves the server, as problem+json (RFC 9457), declared and mapped in this one place."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from recsys.errors import ConfigError, DataError, StoreError
from serving.http.admission import ADMISSION
from serving.http.keyring import KeysUnreadableError

MEDIA_TYPE: Final = "application/problem+json"

TITLES: Final[dict[int, str]] = {
    400: "Malformed request",
    401: "No key that holds",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    408: "Request timeout",
    409: "In conflict with what is there",
    410: "Gone",
    413: "Body too large",
    415: "Unsupported media type",
    422: "Invalid request",
    429: "Too many requests",
    500: "Internal error",
    503: "Temporarily unavailable",
}

MOST_LISTED: Final = 1_000
"""Broken fields that an answer lists; listing half a million of them would stop every other request for seconds."""

_log = logging.getLogger("serving")


class FieldProblem(BaseModel):
    """One field that breaks a rule."""

    pointer: str = Field(description="Where: a JSON pointer into the body, or `query/NAME`, `path/NAME`.")
    detail: str = Field(description="Which rule it breaks.")


class Problem(BaseModel):
    """An error (RFC 9457)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "about:blank",
                    "title": "Invalid request",
                    "status": 422,
                    "detail": "1 field breaks a rule",
                    "request_id": "0199f2c4-7d1e-7c3a-9a53-0b0d8f5f3a11",
                    "errors": [{"pointer": "/limit", "detail": "Input should be less than or equal to 100"}],
                }
            ]
        }
    )

    type: str = Field(default="about:blank", description="`about:blank`: the status says what kind of error it is.")
    title: str = Field(description="The status in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What was wrong and what to do.")
    request_id: str | None = Field(default=None, description="The id of the request, as echoed in `X-Request-ID`.")
    errors: list[FieldProblem] = Field(default_factory=list, description="The fields that break a rule.")


class ImplausibleError(Exception):
    """A request that follows the document and can't be right: a time later than now, another currency than the model's.

    Attributes:
        fields: what can't be right, and why.
    """

    def __init__(self, fields: Sequence[FieldProblem]) -> None:
        super().__init__(f"{len(fields)} field{'' if len(fields) == 1 else 's'} can't be right")
        self.fields = fields


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what a route declares in OpenAPI about the errors that it answers."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": TITLES[status], "content": content} for status in statuses}


QUERY_PROBLEMS: Final = problem_responses(400, 404, 409, 422, 503)
"""What a GET route answers beside its result."""
BODY_PROBLEMS: Final = problem_responses(400, 404, 408, 409, 413, 415, 422, 503)
"""What a route with a JSON body answers beside its result."""


def problem(
    status: int,
    detail: str,
    request_id: str | None = None,
    errors: Sequence[FieldProblem] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return the problem+json answer."""
    body = Problem(
        title=TITLES.get(status, "Error"), status=status, detail=detail, request_id=request_id, errors=list(errors)
    )
    return Response(body.model_dump_json(), status, headers, MEDIA_TYPE)


def problem_of(error: Exception, request_id: str | None, retry_after_seconds: int) -> Response:
    """Return the answer to an error; what nobody foresaw is logged and answered without its text."""
    if isinstance(error, (RequestValidationError, ValidationError)):
        return _invalid(error, request_id)
    if isinstance(error, ImplausibleError):
        if len(error.fields) > MOST_LISTED:
            return problem(409, f"{error}; send fewer items to see which", request_id)
        return problem(409, str(error), request_id, error.fields)
    if isinstance(error, HTTPException):
        return problem(error.status_code, _sentence(error), request_id, headers=error.headers)
    if isinstance(error, StoreError):
        _log.warning("event store: %s", error)
        retry = {"Retry-After": str(retry_after_seconds)}
        return problem(503, "the event store can't take the request now; try again", request_id, headers=retry)
    if isinstance(error, KeysUnreadableError):
        return problem(503, str(error), request_id, headers={"Retry-After": str(retry_after_seconds)})
    if isinstance(error, ConfigError):  # valid in itself, but not with the model that runs
        return problem(409, str(error), request_id)
    if isinstance(error, DataError):
        return problem(422, "the event store can't keep a value of this request", request_id)
    _log.error("request %s failed", request_id, exc_info=error)
    return problem(500, "the server failed; its log has the details under this request id", request_id)


def add_problem_handlers(app: FastAPI, retry_after_seconds: int) -> None:
    """Map the errors that FastAPI would answer itself; all others get to `serving.http.middleware`."""

    async def answer(request: Request, error: Exception) -> Response:
        return problem_of(error, request.scope[ADMISSION].request_id, retry_after_seconds)

    for kind in (RequestValidationError, HTTPException):  # FastAPI has answers of its own to these
        app.add_exception_handler(kind, answer)


def _invalid(error: RequestValidationError | ValidationError, request_id: str | None) -> Response:
    if isinstance(error, ValidationError) and error.error_count() > MOST_LISTED:
        return problem(422, f"{error.error_count()} fields break a rule; send fewer items to see which", request_id)
    items = list(error.errors())
    broken = [item for item in items if str(item["type"]) == "json_invalid"]
    if broken:
        reason = broken[0].get("ctx", {}).get("error", broken[0]["msg"])
        return problem(400, f"the body is not valid JSON: {reason}", request_id)
    errors = [FieldProblem(pointer=_pointer(item["loc"]), detail=str(item["msg"])) for item in items]
    count = f"{len(errors)} field{'' if len(errors) == 1 else 's'}"
    return problem(422, f"{count} break{'s' if len(errors) == 1 else ''} a rule", request_id, errors)


def _pointer(location: Sequence[int | str]) -> str:
    parts = [str(part) for part in location]
    if parts and parts[0] in {"query", "path", "header"}:
        return "/".join(parts)
    inside = parts[1:] if parts and parts[0] == "body" else parts
    return "".join(f"/{part.replace('~', '~0').replace('/', '~1')}" for part in inside)


def _sentence(error: HTTPException) -> str:
    if error.status_code == 404 and error.detail == "Not Found":
        return "there is no such route; /docs lists them"
    if error.status_code == 405:
        return "this route does not take that method; the Allow header lists those it takes"
    return str(error.detail)
