"""The purchase index and the empirical Bayes prior against plain loops and known parameters."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.data.history import History
from recsys.ladder.empirical_bayes import fit_beta_prior
from recsys.ladder.upgrade_events import NEVER, PurchaseIndex

START = datetime(2025, 1, 1, tzinfo=UTC)


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", "c", None]), st.sampled_from(["p", "q"]), st.integers(0, 50)), max_size=25
    ),
    st.integers(-5, 60),
    st.integers(0, 30),
)
@settings(max_examples=60, deadline=None)
def test_windows_equal_a_plain_loop(rows: list[tuple[str | None, str, int]], since_day: int, days: int) -> None:
    frame = pd.DataFrame(
        {
            "order_id": [str(i) for i in range(len(rows))],
            "account_id": pd.Series([row[0] for row in rows], dtype=object),
            "product_id": pd.Series([row[1] for row in rows], dtype=object),
            "ordered_at": pd.to_datetime([START + timedelta(days=row[2]) for row in rows], utc=True),
            "quantity": np.arange(1.0, len(rows) + 1),
            "unit_price": 2.0,
        }
    )
    ids = np.array(["a", "b", "c"], dtype=object), np.array(["p", "q"], dtype=object)
    history = History.from_frame(frame, account_ids=ids[0], product_ids=ids[1])
    index = PurchaseIndex.of(history)
    account, product = (grid.ravel().astype(np.int32) for grid in np.meshgrid([0, 1, 2], [0, 1]))
    since = int((START + timedelta(days=since_day)).timestamp())
    until = since + days * 86_400
    pair = index.find(account, product)
    sums, last = index.sums(pair, since, until), index.last_before(pair, until)
    for i, (a, p) in enumerate(zip(account, product, strict=True)):
        mine = (history.account == a) & (history.product == p)
        window = mine & (history.seconds >= since) & (history.seconds < until)
        assert (pair[i] == NEVER) == (not mine.any())
        assert sums.lines[i] == window.sum()
        assert sums.quantity[i] == pytest.approx(history.quantity[window].sum())
        assert sums.revenue[i] == pytest.approx(history.revenue[window].sum())
        before = history.seconds[mine & (history.seconds < until)]
        assert last[i] == (before.max() if len(before) else NEVER)


def test_the_prior_of_simulated_rates_is_found_again() -> None:
    rng = np.random.default_rng(3)
    trials = rng.integers(20, 400, 400).astype(float)
    successes = rng.binomial(trials.astype(int), rng.beta(4.0, 36.0, 400)).astype(float)
    prior = fit_beta_prior(successes, trials)
    mean = prior.a / (prior.a + prior.b)
    assert mean == pytest.approx(0.1, abs=0.01)  # sd of the mean of 400 rates with sd .047: .0024
    assert 30 < prior.a + prior.b < 54  # the true weight is 40


def test_few_groups_get_the_pooled_rate_with_the_weight_of_ten() -> None:
    prior = fit_beta_prior(np.array([3.0, 0.0]), np.array([10.0, 9.0]))
    assert prior.a + prior.b == pytest.approx(10)
    assert prior.a / (prior.a + prior.b) == pytest.approx(3.5 / 20)
    nothing = fit_beta_prior(np.zeros(0), np.zeros(0))
    assert nothing.a / (nothing.a + nothing.b) == pytest.approx(0.01)
