"""The inferred ladder of Online Retail II: how many climb, and how many edges are right by reading."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from recsys.data.dataset import Dataset
from recsys.data.history import History
from recsys.ladder.edges import LadderConfig, build_ladder
from recsys.ladder.upgrade_events import find_upgrade_events

# A hundred edges drawn with seed 0 from the ladder frozen on 2011-06-01, each judged by reading its two names: is the
# second a higher-value version of the first? Doubtful ones count as no.
JUDGED = Path(__file__).parent / "judged_edges.csv"
CUTOFF = datetime(2011, 6, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def trade(online_retail: Dataset, online_retail_history: History) -> tuple[pd.DataFrame, History]:
    return online_retail.products, online_retail_history


@pytest.mark.data
def test_a_frozen_ladder_is_climbed_by_hundreds(trade: tuple[pd.DataFrame, History]) -> None:
    products, history = trade
    ladder = build_ladder(products, history.before(CUTOFF), None, LadderConfig())
    bought = find_upgrade_events(history, ladder.rows(history), LadderConfig().climbs)
    n_climbers = len(set(bought.account[bought.climbed]))
    print(f"{len(ladder)} edges, {int(bought.climbed.sum())} climbs by {n_climbers} accounts, {len(bought)} purchases")
    assert len(ladder) >= 100
    assert n_climbers >= 200
    assert bought.climbed.mean() > 0.5


@pytest.mark.data
def test_most_judged_edges_are_right_and_still_made(trade: tuple[pd.DataFrame, History]) -> None:
    judged = pd.read_csv(JUDGED, dtype=str, keep_default_na=False)
    assert len(judged) == 100
    precision = (judged["verdict"] == "yes").mean()
    print(f"precision of the inferred edges by reading: {precision:.2f}")
    assert precision >= 0.8
    products, history = trade
    ladder = build_ladder(products, history.before(CUTOFF), None, LadderConfig())
    made = set(zip(ladder.from_ids, ladder.to_ids, strict=True))
    stated = set(zip(judged["from_product_id"], judged["to_product_id"], strict=True))
    assert len(stated & made) >= 85  # of the others, some cost less by then than what they are above
