"""What learned nothing is not registered; what the engine itself could not replay is, and does not blame the user."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NoReturn

import pytest

from recsys.cli import main
from tests.end_to_end.conftest import tables
from tests.support.training_runs import registry_in
from training import run
from training.champion import replay_fault
from training.registry import Registry


def offers(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    return int(stop.value.code or 0)


def test_a_history_shorter_than_the_horizon_is_not_registered(
    market: Path, unjudged_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = registry_in(tmp_path)
    options = ["--config", str(unjudged_config), "--tracking-uri", uri, "--as-of", "2024-01-21"]
    assert offers("train", *tables(market), *options) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert re.search(r"nothing was learned, and no model was registered: in \d\d days of orders of \d+ accounts", said)
    assert "give at least 60 days of orders, or state a shorter next_product.horizon_days" in said
    assert Registry(uri).find("challenger") is None


def test_a_fault_in_the_replay_blames_the_engine(
    market: Path,
    small_config: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object, **__: object) -> NoReturn:
        raise IndexError("index 7 is out of bounds")

    monkeypatch.setattr(run, "validate_on_past", broken)
    uri = registry_in(tmp_path)
    options = ["--config", str(small_config), "--tracking-uri", uri, "--as-of", "2025-07-01"]
    assert offers("train", *tables(market), *options) == 3
    said = " ".join(capsys.readouterr().err.split())
    assert "This is a fault of the engine, not of your data or options. Please report replay/fault.txt of run" in said
    registry = Registry(uri)
    challenger = registry.get("challenger")
    fault = replay_fault(registry, challenger)
    assert fault is not None
    assert "IndexError: index 7 is out of bounds" in fault
    assert offers("promote", "--tracking-uri", uri) == 3
    assert "stays challenger" in capsys.readouterr().err
    assert offers("promote", "--tracking-uri", uri, "--override", "looked at by hand") == 0
