"""Reading, cleaning and simulating purchase history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recsys.data.dataset import CleanData as CleanData
    from recsys.data.dataset import ReadSpec as ReadSpec
    from recsys.data.dataset import read_data as read_data
    from recsys.data.mapping import parse_map as parse_map

__all__ = ["CleanData", "ReadSpec", "parse_map", "read_data"]

_MODULES = {
    "CleanData": "recsys.data.dataset",
    "ReadSpec": "recsys.data.dataset",
    "parse_map": "recsys.data.mapping",
    "read_data": "recsys.data.dataset",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Load the relational plane when it is asked for: serving takes arrays from this room and never reads tables."""
    import importlib

    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
