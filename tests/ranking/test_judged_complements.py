"""What product pages of Online Retail II offer beside a product: how much of it makes sense by reading."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

# A hundred products drawn evenly (seed 2011) from those that have a complement in the bundle of
# training/configs/thorough.toml as of 2011-07-01, each with one of its first four complements, drawn too. Each pair was
# judged by reading its two names: do they belong to one set, theme, occasion or use? Doubtful ones count as no.
# Before pairs that too few had bought together were held back, 49 of a hundred made sense.
JUDGED = Path(__file__).parent / "judged_complements.csv"
FEWEST = 5


def test_of_what_product_pages_offer_two_thirds_make_sense() -> None:
    judged = pd.read_csv(JUDGED, dtype={"product_id": str, "complement_id": str})
    assert len(judged) == len(judged.drop_duplicates(["product_id", "complement_id"])) == 100
    assert set(judged["verdict"]) == {"yes", "no"}
    assert judged["why"].notna().all()
    assert judged["n_both"].min() >= FEWEST
    print(f"by reading: {(judged['verdict'] == 'yes').mean():.2f} of what product pages offer makes sense")
    assert (judged["verdict"] == "yes").mean() == pytest.approx(0.64)
