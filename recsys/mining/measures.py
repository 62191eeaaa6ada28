"""What a rule is worth: the interest measures of association rules, each a formula over four counts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import FloatArray
from recsys.contracts import columns as c

Counts = NDArray[np.int64]


def measure(n_orders: int, n_antecedent: Counts, n_consequent: Counts, n_both: Counts) -> dict[str, FloatArray]:
    """Return each measure of the rules A -> B under its column name, arrays of shape `(n_rules,)`.

    With P(A), P(B), P(AB) the shares of orders that hold A, B, both (A and B each in at least one order)::

        support     P(AB)                       confidence  P(AB) / P(A)
        lift        P(AB) / (P(A) P(B))         leverage    P(AB) - P(A) P(B)
        conviction  (1 - P(B)) / (1 - confidence), infinite where the confidence is 1
        zhang       leverage / max(P(AB) (1 - P(A)), P(A) (P(B) - P(AB))), 0 where both are 0
        jaccard     P(AB) / (P(A) + P(B) - P(AB))
        certainty   (confidence - P(B)) / (1 - P(B)), 0 where P(B) is 1
        kulczynski  (P(AB) / P(A) + P(AB) / P(B)) / 2
        cosine      P(AB) / sqrt(P(A) P(B))

    Lift, leverage, Jaccard, Kulczynski and cosine are symmetric.

    Source: Tan, Kumar, Srivastava 2004, table 6; Zhang 2000 for Zhang's measure; conviction from Brin et al. 1997.
    """
    a, b, both = n_antecedent / n_orders, n_consequent / n_orders, n_both / n_orders
    confidence = n_both / n_antecedent
    leverage = both - a * b
    return {
        c.SUPPORT: both,
        c.CONFIDENCE: confidence,
        c.LIFT: confidence / b,
        c.LEVERAGE: leverage,
        c.CONVICTION: _ratio(1 - b, 1 - confidence, otherwise=np.inf),
        c.ZHANG: _ratio(leverage, np.maximum(both * (1 - a), a * (b - both)), otherwise=0.0),
        c.JACCARD: n_both / (n_antecedent + n_consequent - n_both),
        c.CERTAINTY: _ratio(confidence - b, 1 - b, otherwise=0.0),
        c.KULCZYNSKI: (confidence + n_both / n_consequent) / 2,
        c.COSINE: n_both / np.sqrt(n_antecedent.astype(np.float64) * n_consequent),
    }


def _ratio(top: FloatArray, bottom: FloatArray, otherwise: float) -> FloatArray:
    out = np.full(len(top), otherwise)
    np.divide(top, bottom, out=out, where=bottom > 0)
    return out
