"""`from recsys import ...`: which names there are, and what importing costs."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import recsys

DOOR = (
    "BacktestConfig", "BacktestModel", "CartLine", "Dataset", "FeatureMaker", "FitConfig", "KpiConfig", "Ladder",
    "Offer", "OfferEngineError", "OfferRequest", "PairRanker", "PropensityClassifier", "ReadoutConfig", "Recommender",
    "Retriever", "RuleConfig", "Slate", "Snapshot", "backtest", "default_retrievers", "experiment_decision",
    "experiment_readout", "export_events", "journal", "kpis", "mine_rules", "open_store", "power", "readout",
    "simulate_market",
)  # fmt: skip
HEAVY = {"duckdb", "fastapi", "ibis", "matplotlib", "mlflow", "numba", "numpy", "pandas", "pyarrow", "scipy", "sklearn"}
HEAVY |= {"sqlalchemy", "statsmodels", "typer"}


def loaded_by(statement: str) -> set[str]:
    """Return the modules that a fresh process has after a statement and had not before."""
    script = (
        f"import sys, json; before = set(sys.modules); {statement}; print(json.dumps([*set(sys.modules) - before]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return set(json.loads(done.stdout))


def stub_names() -> dict[str, str]:
    tree = ast.parse(Path(recsys.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert all(name.asname == name.name for node in imports for name in node.names)  # re-exported, for type checkers
    return {name.name: str(node.module) for node in imports for name in node.names}


def test_the_door_the_stub_and_the_list_have_the_same_names() -> None:
    assert tuple(sorted(vars(recsys)["__all__"])) == DOOR == tuple(sorted(stub_names()))
    assert set(DOOR) <= set(dir(recsys))
    for name, module in stub_names().items():
        assert getattr(recsys, name) is getattr(importlib.import_module(module), name)


def test_a_name_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'Recomender'; it has .*Recommender"):
        recsys.Recomender  # type: ignore[attr-defined]  # noqa: B018


def test_types_are_shipped() -> None:
    assert Path(recsys.__file__).with_name("py.typed").exists()


def test_importing_loads_nothing_that_was_not_asked_for() -> None:
    own = {name for name in loaded_by("import recsys") if name.startswith("recsys")}
    assert own == {"recsys"}
    assert not {name.partition(".")[0] for name in loaded_by("import recsys")} & HEAVY
    assert len(loaded_by("import recsys")) < 30


def test_the_client_loads_httpx_and_pydantic_and_no_engine() -> None:
    loaded = loaded_by("import recsys.client")
    assert {"httpx", "pydantic"} <= loaded
    assert not {name.partition(".")[0] for name in loaded} & HEAVY
    ours = {name for name in loaded if name.startswith("recsys.")}
    assert {name.split(".")[1] for name in ours} == {"client", "contracts", "errors"}
