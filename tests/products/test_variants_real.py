"""Variants of Online Retail II, beside pairs that were judged by reading their names.

`judged_variants.csv` holds two samples as of 2011-06-01: sixty products that were called variants, each with another of
its group (how many are right), and a hundred and fifty pairs of products that share a word, cost nearly the same and
are bought together, drawn without regard to what is called a variant (how many are found). Doubtful ones count as no,
metal signs of other texts too.
"""

from __future__ import annotations

import json
import platform
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recsys.contracts import columns as c
from recsys.data.dataset import Dataset
from recsys.data.history import History
from recsys.ladder.edges import catalogue_with_prices
from recsys.products.variants import variant_groups

JUDGED = Path(__file__).parent / "judged_variants.csv"
PROOF = Path(__file__).resolve().parents[2] / "docs" / "proof" / "variants.json"
CUTOFF = datetime(2011, 6, 1, tzinfo=UTC)


@pytest.mark.proof
def test_variants_agree_with_what_a_reader_says(online_retail: Dataset, online_retail_history: History) -> None:
    catalogue = catalogue_with_prices(online_retail.products, online_retail_history.before(CUTOFF))
    found = variant_groups(
        [None if pd.isna(name) else str(name) for name in catalogue[c.NAME]],
        catalogue[c.PRICE].to_numpy(dtype=np.float64),
        np.full(len(catalogue), -1),
    )
    group = pd.Series(found, index=catalogue[c.PRODUCT_ID])
    judged = pd.read_csv(JUDGED, dtype=str, keep_default_na=False)
    first, second = (judged[f"{at}_product_id"].map(group).to_numpy() for at in ("first", "second"))
    called = (first == second) & (first > 0)
    right, drawn = (judged["verdict"] == "yes").to_numpy(), (judged["sample"] == "called_variants").to_numpy()
    figures = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "products_with_variants": int((found > 0).sum()),
        "groups": int(found.max()),
        "largest_group": int(np.bincount(found)[1:].max()),
        "called_and_still_called": int(called[drawn].sum()),
        "of_them_right": int((called & right)[drawn].sum()),
        "variants_among_bought_together": int(right[~drawn].sum()),
        "of_them_found": int((called & right)[~drawn].sum()),
        "others_among_bought_together": int((~right)[~drawn].sum()),
        "of_them_called_variants": int((called & ~right)[~drawn].sum()),
    }
    PROOF.write_text(json.dumps(figures, indent=2) + "\n")
    assert figures["called_and_still_called"] >= 50
    assert figures["of_them_right"] >= 0.9 * figures["called_and_still_called"]
    assert figures["of_them_found"] >= 0.8 * figures["variants_among_bought_together"]
    assert figures["of_them_called_variants"] <= 0.1 * figures["others_among_bought_together"]
