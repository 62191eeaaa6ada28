from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from recsys.contracts import columns as c
from recsys.mining.similarity import LikenessConfig, alike_pairs

IDS = np.array(["a", "b", "c", "d"], dtype=object)
ALONE = sp.csr_array((4, 4))


def pairs(products=None, companions=ALONE, **options):
    left, right = alike_pairs(products, IDS, companions, LikenessConfig(**options))
    return [f"{IDS[a]}{IDS[b]}" for a, b in zip(left, right, strict=True)]


def products(**columns):
    return pd.DataFrame({c.PRODUCT_ID: ["d", "c", "b", "a"], **columns})


def test_without_anything_known_nothing_is_alike():
    assert pairs() == []
    assert pairs(products(name=[None] * 4)) == []
    assert pairs(pd.DataFrame({c.PRODUCT_ID: []})) == []


def test_one_category_is_alike_and_an_unknown_one_is_not():
    frame = products(category=["tea", "tea", None, None])
    assert pairs(frame) == ["cd"]
    assert pairs(frame, use_category=False) == []


def test_names_are_alike_by_their_rare_words():
    frame = products(name=["red heart lamp", "set of six mugs", "set of six plates", "blue heart lamp"])
    assert pairs(frame, min_name_cosine=0.5) == ["ad", "bc"]
    assert pairs(frame, min_name_cosine=0.95) == []
    same = products(name=["mug", "mug", "plate", "bowl"])
    assert pairs(same, min_name_cosine=1.0) == ["cd"]


def test_the_same_companions_make_two_alike():
    # a and b both go with c (2) and d (1); c and d share a and b.
    companions = sp.csr_array(np.array([[0, 0, 2, 1], [0, 0, 2, 1], [2, 2, 0, 0], [1, 1, 0, 0]], dtype=float))
    assert pairs(companions=companions) == ["ab", "cd"]
    tilted = sp.csr_array(np.array([[0, 0, 2, 0], [0, 0, 2, 2], [2, 2, 0, 0], [0, 2, 0, 0]], dtype=float))
    assert pairs(companions=tilted, min_companion_cosine=0.7) == ["ab", "cd"]
    assert pairs(companions=tilted, min_companion_cosine=0.71) == []


@pytest.mark.parametrize("option", ["min_name_cosine", "min_companion_cosine"])
def test_thresholds_are_shares(option):
    with pytest.raises(ValueError, match=option):
        LikenessConfig(**{option: 0})
