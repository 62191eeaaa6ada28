"""What a run learned in a form that a person reads in the browser: names instead of ids, the strongest first."""

from __future__ import annotations

import pandas as pd

from recsys.contracts import columns as c

MOST_PAIRS = 200
"""Pairs that a person may look through; all of them stand in the Parquet file beside."""

_FIGURES = [c.N_BOTH, c.N_ANTECEDENT, c.N_CONSEQUENT, c.CONFIDENCE, c.LIFT, c.COSINE, c.Q_VALUE, c.HOLDS_IN_BOTH_HALVES]


def strongest_pairs(rules: pd.DataFrame, products: pd.DataFrame, most: int = MOST_PAIRS) -> pd.DataFrame:
    """Return the complements with the highest cosine, each pair once, with the names of both products.

    Cosine, because lift puts coincidences first and confidence bestsellers. Of the two directions of a pair, the one
    with the higher confidence stays.
    """
    pairs = rules[rules[c.RELATION] == "complement"]
    ordered = pairs.sort_values(
        [c.COSINE, c.CONFIDENCE, c.ANTECEDENT_ID, c.CONSEQUENT_ID], ascending=[False, False, True, True]
    )
    both = ordered[[c.ANTECEDENT_ID, c.CONSEQUENT_ID]].astype(str)
    pair = both.min(axis=1) + "\x00" + both.max(axis=1)
    kept = ordered[~pair.duplicated().to_numpy()].head(most)
    named = products.reindex(columns=[c.PRODUCT_ID, c.NAME]).drop_duplicates(c.PRODUCT_ID)
    names = named.set_index(named[c.PRODUCT_ID].astype(str))[c.NAME]
    told = {
        side: kept[side].astype(str).map(names).fillna(kept[side].astype(str)).to_numpy()
        for side in (c.ANTECEDENT_ID, c.CONSEQUENT_ID)
    }
    table = kept[[c.ANTECEDENT_ID, c.CONSEQUENT_ID, *_FIGURES]].reset_index(drop=True)
    table.insert(0, "when", told[c.ANTECEDENT_ID])
    table.insert(1, "then", told[c.CONSEQUENT_ID])
    return table
