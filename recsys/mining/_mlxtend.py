"""The only importer of mlxtend."""

from __future__ import annotations

import numpy as np
import pandas as pd
import scipy.sparse as sp
from mlxtend.frequent_patterns import fpgrowth


def mine_itemsets(held: sp.csr_array, min_count: int, max_length: int | None) -> list[tuple[tuple[int, ...], int]]:
    """Return each itemset in at least `min_count` rows as its sorted columns and its count, in no order.

    Args:
        held: which row holds which column, `(n_rows, n_columns)`, 1 where it does.
        min_count: 1 or more.
        max_length: most columns in an itemset; None for any number.
    """
    n_rows, n_columns = held.shape
    if min_count > n_rows:
        return []
    # mlxtend wants names as text for sparse frames.
    names = [str(column) for column in range(n_columns)]
    frame = pd.DataFrame.sparse.from_spmatrix(sp.csr_matrix(held.astype(bool)), columns=names)  # type: ignore[attr-defined]
    # It keeps counts of at least ceil(share * rows): half a count below is free of rounding.
    found = fpgrowth(frame, min_support=(min_count - 0.5) / n_rows, max_len=max_length)
    counts = np.rint(found["support"].to_numpy() * n_rows).astype(int)
    return [(tuple(sorted(itemset)), int(count)) for itemset, count in zip(found["itemsets"], counts, strict=True)]
