"""Training gives the same bytes as when it was recorded; run `-m proof -k simulated` after every step of a move."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.golden.comparison import report
from tests.golden.training import ONLINE_RETAIL_II, SIMULATED, machine, online_retail_ii, read_record, simulated


@pytest.fixture
def recorded() -> dict[str, Any]:
    """What was recorded on this machine with these libraries."""
    record = read_record()
    here = machine()
    other = [f"{name}: {record['machine'][name]}, here {value}" for name, value in here.items()
             if record["machine"][name] != value]  # fmt: skip
    if other:
        pytest.skip(f"bytes of training hold for one machine and lock file; recorded elsewhere ({'; '.join(other)})")
    return record


def differing(was: dict[str, Any], now: dict[str, Any]) -> str:
    return report(*([{"case": name, "content": content} for name, content in each.items()] for each in (was, now)))


@pytest.mark.proof
def test_the_simulated_markets(recorded: dict[str, Any], tmp_path: Path) -> None:
    assert differing(recorded[SIMULATED], simulated(tmp_path)) == ""


@pytest.mark.data
@pytest.mark.proof
@pytest.mark.timeout(1_800)
def test_online_retail_ii(recorded: dict[str, Any], online_retail_path: Path, tmp_path: Path) -> None:
    assert differing(recorded[ONLINE_RETAIL_II], online_retail_ii(online_retail_path, tmp_path)) == ""
