"""The office supplier's judged pairs as this package's relations (Sugahara et al., RecSys 2024)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from recsys.contracts import columns as c

_MEANS = {1: "substitute", **dict.fromkeys(range(2, 8), "complement"), 8: "none", 9: "hard to say"}


def judged_names(path: Path) -> pd.DataFrame:
    """Return the pairs of which two of three judges say one thing that is not "hard to say", sorted by ids.

    Columns `product_id other_id name other_name relation`.
    """
    raw = pd.read_parquet(path)
    said = pd.concat([raw[f"annotator{judge}_label"].map(_MEANS) for judge in (1, 2, 3)], axis=1)
    counts = pd.DataFrame({relation: (said == relation).sum(axis=1) for relation in sorted(set(_MEANS.values()))})
    pairs = pd.DataFrame(
        {
            c.PRODUCT_ID: raw["item_url_1"],
            "other_id": raw["item_url_2"],
            c.NAME: raw["item_name_1"],
            "other_name": raw["item_name_2"],
            c.RELATION: counts.idxmax(axis=1),
        }
    )
    told = pairs[(counts.max(axis=1) >= 2) & (pairs[c.RELATION] != "hard to say")]
    return told.sort_values([c.PRODUCT_ID, "other_id"], ignore_index=True)
