"""JSON as the answers and the event store have it."""

from __future__ import annotations

from typing import Any

from pydantic_core import to_json


def json_text(value: Any) -> str:  # noqa: ANN401 - whatever is part of an answer or of a row
    """Return a value as JSON; a number that JSON has not is null."""
    return to_json(value, inf_nan_mode="null").decode()
