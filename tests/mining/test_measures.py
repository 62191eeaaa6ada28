from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import binomtest
from statsmodels.stats.proportion import proportion_confint

from recsys.contracts import columns as c
from recsys.mining.rules import measure

SYMMETRIC = (c.SUPPORT, c.LIFT, c.LEVERAGE, c.JACCARD, c.KULCZYNSKI, c.COSINE)


@st.composite
def counts(draw):
    n_orders = draw(st.integers(1, 500))
    n_a, n_b = draw(st.integers(1, n_orders)), draw(st.integers(1, n_orders))
    n_both = draw(st.integers(max(0, n_a + n_b - n_orders), min(n_a, n_b)))
    return n_orders, n_a, n_b, n_both


def measures(n_orders, n_a, n_b, n_both):
    found = measure(n_orders, np.array([n_a]), np.array([n_b]), np.array([n_both]))
    return {name: float(value[0]) for name, value in found.items()}


def test_every_measure_written_out():
    # 100 orders: 20 with A, 40 with B, 12 with both.
    found = measures(100, 20, 40, 12)
    assert found == pytest.approx(
        {
            c.SUPPORT: 12 / 100,
            c.CONFIDENCE: 12 / 20,
            c.LIFT: (12 / 100) / (20 / 100 * 40 / 100),
            c.LEVERAGE: 12 / 100 - 20 / 100 * 40 / 100,
            c.CONVICTION: (1 - 0.4) / (1 - 0.6),
            c.ZHANG: (0.12 - 0.08) / max(0.12 * (1 - 0.2), 0.2 * (0.4 - 0.12)),
            c.JACCARD: 12 / (20 + 40 - 12),
            c.CERTAINTY: (0.6 - 0.4) / (1 - 0.4),
            c.KULCZYNSKI: (12 / 20 + 12 / 40) / 2,
            c.COSINE: 12 / np.sqrt(20 * 40),
        }
    )


def test_always_together_and_never_together():
    always, never = measures(10, 5, 5, 5), measures(10, 5, 5, 0)
    assert always[c.CONVICTION] == np.inf
    assert (always[c.ZHANG], never[c.ZHANG]) == (1.0, -1.0)
    assert never[c.CONFIDENCE] == never[c.LIFT] == 0.0
    assert measures(5, 5, 5, 5)[c.ZHANG] == measures(5, 5, 5, 5)[c.CERTAINTY] == 0.0


@given(counts())
def test_lift_and_its_like_are_symmetric(quadruple):
    n_orders, n_a, n_b, n_both = quadruple
    there, back = measures(n_orders, n_a, n_b, n_both), measures(n_orders, n_b, n_a, n_both)
    assert {name: there[name] for name in SYMMETRIC} == pytest.approx({name: back[name] for name in SYMMETRIC})


@given(counts())
def test_measures_stay_in_their_ranges(quadruple):
    found = measures(*quadruple)
    for name in (c.SUPPORT, c.CONFIDENCE, c.JACCARD, c.KULCZYNSKI, c.COSINE):
        assert 0 <= found[name] <= 1 + 1e-12
    assert -1 - 1e-12 <= found[c.ZHANG] <= 1 + 1e-12
    assert found[c.CERTAINTY] <= 1
    assert found[c.SUPPORT] <= found[c.CONFIDENCE] + 1e-12
    assert found[c.CONVICTION] >= 0


@given(
    st.integers(1, 10**12).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    st.sampled_from([np.int32, np.int64, np.float64]),
    st.sampled_from([0.8, 0.95]),
)
def test_the_interval_is_scipys_wilson(hits_and_tries, kind, level):
    # Of a library with known overflows: every type and size of counts that the rules hand it.
    hits, tries = hits_and_tries
    assume(tries <= 2**31 - 1 or kind is not np.int32)
    low, high = proportion_confint(np.array([hits], kind), np.array([tries], kind), alpha=1 - level, method="wilson")
    known = binomtest(hits, tries).proportion_ci(level, method="wilson")
    assert (low[0], high[0]) == pytest.approx((known.low, known.high), rel=1e-12, abs=1e-12)
