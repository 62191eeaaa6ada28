"""How many of the later buyers of a cutoff are learned from: a number, and of a large market a share."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.models.next_product.examples import SamplingConfig, sample_buyers


@pytest.mark.parametrize(
    ("n_buyers", "n_learned"),
    [(40, 40), (300, 100), (1_000, 200), (5_000, 400)],
    ids=["all of few", "the number", "the share", "four times the number"],
)
def test_a_large_market_is_learned_from_more_accounts(n_buyers: int, n_learned: int) -> None:
    bought = np.zeros(6_000, dtype=bool)
    bought[500 : 500 + n_buyers] = True
    config = SamplingConfig(train_accounts=100, train_share=0.2)
    drawn = sample_buyers(bought, config, np.random.default_rng(0))
    assert len(drawn) == n_learned
    assert bought[drawn].all()
    assert (np.diff(drawn) > 0).all()


def test_without_a_share_the_number_holds() -> None:
    config = SamplingConfig(train_accounts=100, train_share=0.0)
    assert len(sample_buyers(np.ones(5_000, dtype=bool), config, np.random.default_rng(0))) == 100
