"""The only door from these tests to the product: where it is named, so that a move of a module changes one file."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NamedTuple

from recsys.events.store import open_store
from serving.app import create_app
from serving.models.by_alias import FixedModel
from serving.models.loading import load_model
from serving.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
LONG_SECONDS = 3_600.0

_SCRIPT = "offers"
_ENVIRONMENT = {"COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb"}


class Ran(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str


def offers(*arguments: str | Path) -> Ran:
    """Run `offers` in this process, as its console script would."""
    (script,) = entry_points(group="console_scripts", name=_SCRIPT)
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with _environment(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            script.load()([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
    return Ran(code if isinstance(code, int) else 0, out.getvalue(), err.getvalue())


def must(*arguments: str | Path) -> str:
    """Run `offers` and return its standard output; it must succeed."""
    ran = offers(*arguments)
    assert ran.code == 0, f"offers {arguments[0]}: exit {ran.code}\n{ran.out}\n{ran.err}"
    return ran.out


@contextmanager
def application(store_url: str, bundle: Path, clock: Callable[[], datetime], settings: dict[str, Any]) -> Iterator[Any]:
    """The ASGI application around a bundle and a store; it looks for no news of its own while a test runs."""
    quiet = {"refresh_seconds": LONG_SECONDS, "model_look_seconds": LONG_SECONDS}
    store = open_store(store_url)
    try:
        yield create_app(
            Settings.model_validate(quiet | settings),
            bundles=FixedModel(load_model(bundle, source="golden", now=clock())),
            store=store,
            clock=clock,
        )
    finally:
        store.close()


@contextmanager
def _environment() -> Iterator[None]:
    """What a terminal would say about its width and colours, the same everywhere."""
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    os.environ.update(_ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
