"""The page `/docs`: the OpenAPI document for people, in one piece, without a script and without another server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from fastapi import FastAPI
from jinja2 import Template
from starlette.requests import Request
from starlette.responses import HTMLResponse

from recsys.reporting.formatting import page_template

_POLICY: Final = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"}


def add_docs_page(app: FastAPI) -> None:
    """Serve the page; it stands in no OpenAPI document, as it is about it."""

    @app.get("/docs", include_in_schema=False)
    async def get_docs(request: Request) -> HTMLResponse:
        return HTMLResponse(render(request.app.openapi()), headers=_POLICY)


def render(document: Mapping[str, Any]) -> str:
    """Return an OpenAPI document as a page: every route with its parameters, body, example and answers."""
    schemas = document["components"]["schemas"]
    operations = [
        _operation(method, path, operation, schemas)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    tags = list(dict.fromkeys(operation["tag"] for operation in operations))
    return _template().render(info=document["info"], tags=tags, operations=operations, schemas=schemas)


@cache
def _template() -> Template:
    return page_template("docs", "serving", type_of=type_of)


def _operation(method: str, path: str, operation: Mapping[str, Any], schemas: Mapping[str, Any]) -> dict[str, Any]:
    body = _schema_of(operation.get("requestBody", {}))
    examples = schemas.get(body or "", {}).get("examples")
    answers = [
        {"status": status, "text": answer["description"], "schema": _schema_of(answer)}
        for status, answer in sorted(operation["responses"].items())
    ]
    return {
        "method": method.upper(),
        "path": path,
        "tag": operation.get("tags", ["operation"])[0],
        "summary": operation.get("summary", ""),
        "description": operation.get("description", ""),
        "parameters": operation.get("parameters", []),
        "body": body,
        "example": json.dumps(examples[0], indent=2, ensure_ascii=False) if examples else None,
        "answers": answers,
    }


def _schema_of(part: Mapping[str, Any]) -> str | None:
    """The name of the schema that a body or an answer refers to."""
    for content in part.get("content", {}).values():
        reference = content.get("schema", {}).get("$ref", "")
        if reference:
            return str(reference.rpartition("/")[2])
    return None


def type_of(schema: Mapping[str, Any]) -> str:
    """Return a field's type in a word or two.

    Example:
        >>> type_of({"anyOf": [{"type": "string"}, {"type": "null"}]}), type_of({"$ref": "#/components/schemas/Offer"})
        ('string or null', 'Offer')
    """
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " or ".join(type_of(part) for part in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {type_of(schema.get('items', {}))}"
    return str(schema.get("const") or schema.get("type") or "any")
