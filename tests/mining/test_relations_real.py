"""The complements of Online Retail II: how many make sense by reading."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recsys.contracts import columns as c
from recsys.data.dataset import ReadSpec, read_dataset
from recsys.mining.rules import RuleConfig, rules_frame

# A hundred pairs drawn evenly with seed 0 from all relations mined before 2011-06-01 (all are complements: colours and
# designs of one thing are bought together there, not instead of each other). Each was judged by reading its two names:
# do they belong to one set, theme, occasion or use? Doubtful ones count as no.
JUDGED = Path(__file__).parent / "judged_relations.csv"
CUTOFF = datetime(2011, 6, 1, tzinfo=UTC)
OFTEN = 30


@pytest.fixture(scope="module")
def judged() -> pd.DataFrame:
    table = pd.read_csv(JUDGED, dtype=str, keep_default_na=False).astype({c.N_BOTH: int})
    assert len(table) == 100
    assert set(table["verdict"]) == {"yes", "no"}
    assert (table["why"] != "").all()
    return table


def test_what_is_often_together_makes_sense_more_often(judged: pd.DataFrame) -> None:
    right = judged["verdict"] == "yes"
    often = judged[c.N_BOTH] >= OFTEN
    print(f"by reading: {right.mean():.2f} of all, {right[often].mean():.2f} of the {often.sum()} in {OFTEN} orders")
    assert right.mean() == pytest.approx(0.37)
    assert right[often].mean() == pytest.approx(19 / 27)


@pytest.mark.proof
@pytest.mark.data
def test_the_judged_relations_are_a_draw_of_what_is_mined(judged: pd.DataFrame, online_retail_path: Path) -> None:
    clean = read_dataset(ReadSpec(orders=str(online_retail_path), preset="online-retail-ii", as_of=CUTOFF))
    rules = rules_frame(clean.orders, RuleConfig(), clean.products)
    keys = [c.ANTECEDENT_ID, c.CONSEQUENT_ID, c.RELATION]
    pairs = rules[rules[c.ANTECEDENT_ID] < rules[c.CONSEQUENT_ID]].sort_values(keys, ignore_index=True)
    still = judged.merge(pairs[[*keys, c.N_BOTH]].astype(dict.fromkeys(keys, object)), on=keys, suffixes=("", "_now"))
    assert len(still) >= 90
    assert (still[c.N_BOTH] == still[f"{c.N_BOTH}_now"]).mean() >= 0.9
    drawn = np.sort(np.random.default_rng(0).choice(len(pairs), len(judged), replace=False))
    drawn_keys = set(zip(pairs[keys[0]].iloc[drawn], pairs[keys[1]].iloc[drawn], strict=True))
    print(
        f"{len(pairs)} pairs; {len(drawn_keys & set(zip(judged[keys[0]], judged[keys[1]], strict=True)))} drawn again"
    )
