"""Clients that others generate from the OpenAPI document, without special flags, against a real server."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from recsys.events.memory import MemoryStore
from serving.app import create_app
from serving.models.by_alias import FixedModel
from serving.models.loading import load_model
from serving.settings import Settings
from tests.serving.conftest import NOW

HERE = Path(__file__).parent
MAIN = ("offers", "account_offers", "complements", "upgrades", "why_not", "outcomes", "orders")
FOUND = [3, 2, "P07", 0, "offered", 1, 1]
"""What the calls of `MAIN` answer, each in a word."""
PACKAGES = ("openapi-typescript@7.13.0", "openapi-fetch@0.17.0", "typescript@5.9.3", "@types/node@20.19.43")
GENERATOR = "openapi-python-client==0.29.1"
COMPILER = {"strict": True, "noUncheckedIndexedAccess": True, "module": "nodenext", "target": "es2022", "outDir": "out"}


@pytest.fixture
def api(running: Any, bundle_folder: Path, store: MemoryStore) -> Iterator[httpx.Client]:
    model = load_model(bundle_folder, source="test", now=NOW)
    with running(create_app(Settings(), bundles=FixedModel(model), store=store, clock=lambda: NOW)) as client:
        yield client


def test_operation_ids_are_short_names(app: FastAPI) -> None:
    ids = [operation["operationId"] for methods in app.openapi()["paths"].values() for operation in methods.values()]
    assert len(set(ids)) == len(ids)
    assert set(MAIN) < set(ids)
    assert [name for name in ids if not re.fullmatch(r"[a-z]+(_[a-z]+)?", name)] == []


def test_what_a_body_may_leave_out_has_no_default(app: FastAPI) -> None:
    """A generator takes a field with a `default` for one that is always there, and its client would ask for it."""
    schemas = app.openapi()["components"]["schemas"]
    bodies = {kind: schema["properties"] for kind, schema in schemas.items() if kind.endswith("Body")}
    fields = {(kind, name): field for kind, properties in bodies.items() for name, field in properties.items()}
    assert [place for place, field in fields.items() if field.get("default") is not None] == []
    assert fields["OffersBody", "limit"]["description"] == "How many offers are wanted. Left out: `10`."
    assert fields["CartLineBody", "quantity"]["description"].endswith(" Left out: `1.0`.")


@pytest.mark.proof
def test_a_typescript_client_is_type_checked_and_makes_the_seven_main_calls(api: httpx.Client, tmp_path: Path) -> None:
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    (tmp_path / "openapi.json").write_bytes(api.get("/openapi.json").content)
    (tmp_path / "package.json").write_text('{"type": "module", "private": true}')
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": COMPILER, "files": ["main.ts"]}))
    shutil.copy(HERE / "generated_client.ts", tmp_path / "main.ts")
    _run(tmp_path, "npm", "install", "--no-audit", "--no-fund", "--no-package-lock", *PACKAGES)
    _run(tmp_path, "npx", "openapi-typescript", "openapi.json", "-o", "api.ts")
    _run(tmp_path, "npx", "tsc")
    assert json.loads(_run(tmp_path, "node", "out/main.js", str(api.base_url))) == FOUND


@pytest.mark.proof
def test_a_python_client_makes_the_seven_main_calls(api: httpx.Client, tmp_path: Path) -> None:
    (tmp_path / "openapi.json").write_bytes(api.get("/openapi.json").content)
    _run(tmp_path, sys.executable, "-m", "venv", "apart")  # the generator wants another typer than ours
    python = str(tmp_path / "apart" / "bin" / "python")
    _run(tmp_path, python, "-m", "pip", "install", "--quiet", GENERATOR)
    _run(tmp_path, python, "-m", "openapi_python_client", "generate", "--path", "openapi.json", "--output-path", "made")
    shutil.copy(HERE / "generated_client.py", tmp_path / "made" / "main.py")
    assert json.loads(_run(tmp_path, python, "made/main.py", str(api.base_url))) == FOUND


def _run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
