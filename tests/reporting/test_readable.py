"""What a person reads of a run."""

from __future__ import annotations

import pandas as pd

from recsys.reporting.backtest_text import strongest_pairs

ROWS = [  # antecedent, consequent, cosine, confidence, relation
    ("a", "b", 0.5, 0.4, "complement"),
    ("b", "a", 0.5, 0.6, "complement"),
    ("a", "c", 0.9, 0.9, "substitute"),
    ("c", "b", 0.7, 0.2, "complement"),
    ("d", "a", 0.1, 0.2, "complement"),
]


def rules() -> pd.DataFrame:
    table = pd.DataFrame(ROWS, columns=["antecedent_id", "consequent_id", "cosine", "confidence", "relation"])
    counts = {"n_both": 3, "n_antecedent": 4, "n_consequent": 5, "lift": 2.0, "q_value": 0.001}
    return table.assign(**counts, holds_in_both_halves=True)


def test_each_pair_stands_once_by_cosine_in_its_surer_direction() -> None:
    products = pd.DataFrame({"product_id": ["a", "b", "c"], "name": ["apple", "bread", None]})
    found = strongest_pairs(rules(), products)
    assert found[["when", "then"]].to_numpy().tolist() == [["c", "bread"], ["bread", "apple"], ["d", "apple"]]
    assert found["confidence"].tolist() == [0.2, 0.6, 0.2]
    assert len(strongest_pairs(rules(), products, most=1)) == 1
    assert strongest_pairs(rules().head(0), products).empty
