"""The OpenAPI document: complete, and true of the running server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from recsys.events.memory import MemoryStore
from serving.app import create_app
from serving.http.problems import Problem
from serving.models.by_alias import FixedModel
from serving.models.loading import load_model
from serving.schemas import evaluation as experiments
from serving.schemas import events as reports
from serving.schemas import insights as pages
from serving.schemas import offers
from serving.schemas import offers as batch
from serving.settings import Settings

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROUTES = {
    "/v1/offers": {"post"},
    "/v1/accounts/{account_id}/offers": {"get"},
    "/v1/outcomes": {"post"},
    "/v1/orders": {"post"},
    "/v1/offers:batch": {"post"},
    "/v1/accounts/{account_id}/whitespace": {"get"},
    "/v1/products/{product_id}/complements": {"get"},
    "/v1/products/{product_id}/upgrades": {"get"},
    "/v1/products/{product_id}/accounts": {"get"},
    "/v1/decisions/{decision_id}/why-not": {"post"},
    "/v1/products": {"post"},
    "/v1/accounts": {"post"},
    "/v1/visitors/{visitor_id}:link": {"post"},
    "/v1/experiments": {"get"},
    "/v1/experiments/{experiment_id}/readout": {"get"},
    "/v1/experiments/{experiment_id}/decision": {"post"},
    "/v1/kpis": {"get"},
    "/v1/models": {"get"},
    "/v1/models:reload": {"post"},
    "/livez": {"get"},
    "/readyz": {"get"},
    "/metrics": {"get"},
}
FEW_ERRORS: dict[str, set[str]] = {"/livez": set(), "/v1/models": set(), "/metrics": set(), "/readyz": {"503"}}
"""What these answer beside the errors of every route."""


SHAPES = (
    *(offers.OffersBody, offers.OffersAnswer, batch.OffersBatchBody, batch.BatchLine),
    *(reports.OutcomesBody, reports.OutcomesAnswer, reports.OrdersBody, reports.OrdersAnswer),
    *(
        reports.ProductsBody,
        reports.ProductsAnswer,
        reports.AccountsBody,
        reports.AccountsAnswer,
        reports.LinkBody,
        reports.LinkAnswer,
    ),
    *(pages.CallListAnswer, pages.BoardAnswer, pages.WhyNotBody, pages.WhyNotAnswer),
    experiments.ExperimentsAnswer,
)


def described(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field of every schema, and every parameter, with its place."""
    for name, schema in document["components"]["schemas"].items():
        for field, value in schema.get("properties", {}).items():
            yield f"{name}.{field}", value
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for parameter in operation.get("parameters", []):
                yield f"{method} {path} {parameter['name']}", parameter


def test_every_field_parameter_and_route_is_described(app: FastAPI) -> None:
    document = app.openapi()
    silent = [place for place, value in described(document) if not value.get("description")]
    assert silent == []
    for operations in document["paths"].values():
        for operation in operations.values():
            assert operation["summary"]
            assert operation["description"]


def test_the_routes_are_these(app: FastAPI) -> None:
    assert {path: set(operations) for path, operations in app.openapi()["paths"].items()} == ROUTES


def test_requests_and_answers_have_examples_that_are_valid(app: FastAPI) -> None:
    for kind in (Problem, *SHAPES):
        assert app.openapi()["components"]["schemas"][kind.__name__]["examples"]
        for example in kind.model_json_schema()["examples"]:  # FastAPI drops the nulls of an example
            assert kind.model_validate_json(json.dumps(example), extra="forbid")


def test_every_error_is_declared_as_problem_json(app: FastAPI) -> None:
    for path, operations in app.openapi()["paths"].items():
        for operation in operations.values():
            errors = {status: answer for status, answer in operation["responses"].items() if status >= "400"}
            assert set(errors) >= {"400", "422"} | FEW_ERRORS.get(path, {"404", "503"})
            for answer in errors.values():
                assert answer["content"] == {
                    "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
                }


def test_the_document_is_the_same_twice_and_over_http(app: FastAPI, api: httpx.Client) -> None:
    assert api.get("/openapi.json").json() == app.openapi()


def test_schemathesis_finds_no_fault(running: Any, bundle_folder: Path, tmp_path: Path) -> None:
    """All checks, all phases: examples, every boundary of every field, generated data good and bad, links."""
    model = load_model(bundle_folder, source="test", now=NOW)
    app = create_app(Settings(), bundles=FixedModel(model), store=MemoryStore(), clock=lambda: NOW)
    with running(app) as api:
        done = subprocess.run(
            [
                str(Path(sys.executable).parent / "schemathesis"),
                *("run", f"{api.base_url}/openapi.json", "--checks", "all", "--seed", "1", "--max-examples", "8"),
                *("--mode", "all", "--continue-on-failure", "--no-color", "--suppress-health-check", "all"),
            ],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            cwd=tmp_path,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Tested: {sum(len(methods) for methods in ROUTES.values())}" in done.stdout, done.stdout


def shown(document: dict[str, Any], schema: dict[str, Any], name: str | None, example: Any) -> Iterator[str]:
    """The fields that an example gives a value to, as `Schema.field`."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        schema = document["components"]["schemas"][name]
    for other in schema.get("anyOf", []):
        yield from shown(document, other, None, example)
    for item in example if isinstance(example, list) else []:
        yield from shown(document, schema.get("items", {}), None, item)
    for field, value in example.items() if isinstance(example, dict) else []:
        if field in schema.get("properties", {}):
            yield f"{name}.{field}"
            yield from shown(document, schema["properties"][field], None, value)


def test_every_field_and_parameter_has_an_example(app: FastAPI) -> None:
    document = app.openapi()
    schemas = document["components"]["schemas"]
    seen = {
        place
        for name, schema in schemas.items()
        for example in schema.get("examples", [])
        for place in shown(document, {"$ref": f"#/{name}"}, None, example)
    }
    given = {place for place, value in described(document) if value.get("schema", value).get("examples")}
    assert [place for place, _ in described(document) if place not in seen | given] == []


def unbounded(document: dict[str, Any], schema: dict[str, Any], place: str) -> Iterator[str]:
    """The places of a request where a list, a text or a number may be as large as the sender likes."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    for other in schema.get("anyOf", []):
        yield from unbounded(document, other, place)
    limits = {"array": ("maxItems",), "string": ("maxLength", "enum", "const", "format", "pattern")}
    limits |= dict.fromkeys(("number", "integer"), ("maximum",))
    if schema.get("type") in limits and not any(limit in schema for limit in limits[schema["type"]]):
        yield place
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        yield f"{place} takes any field"
    yield from unbounded(document, schema["items"], f"{place}[]") if "items" in schema else ()
    for name, value in schema.get("properties", {}).items():
        yield from unbounded(document, value, f"{place}.{name}")


def test_whatever_a_request_holds_has_a_limit(app: FastAPI) -> None:
    document = app.openapi()
    found: list[str] = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for parameter in operation.get("parameters", []):
                found += unbounded(document, parameter["schema"], f"{method} {path} {parameter['name']}")
            if "requestBody" in operation:
                body = operation["requestBody"]["content"]["application/json"]["schema"]
                found += unbounded(document, body, f"{method} {path}")
    assert found == []
