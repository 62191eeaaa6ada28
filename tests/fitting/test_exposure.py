"""One product before most accounts is held back until no more than a share of them sees it among the first offers."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys.fitting.exposure import ExposureConfig, shares_held_back
from recsys.fitting.products import Ranges
from recsys.offer_model.tables import CandidateTable, Float64

N_ACCOUNTS, N_PRODUCTS, N_EACH = 1_000, 80, 30


def market(seed: int = 0, n_accounts: int = N_ACCOUNTS) -> tuple[CandidateTable, Ranges]:
    """Thirty candidates an account, by probability; product 0 is a little likelier than the rest for two of three."""
    rng = np.random.default_rng(seed)
    product = np.array([rng.permutation(np.arange(1, N_PRODUCTS))[:N_EACH] for _ in range(n_accounts)])
    probability = rng.uniform(0.01, 0.1, product.shape)
    is_liked = rng.random(n_accounts) < 2 / 3
    product[is_liked, 0], probability[is_liked, 0] = 0, rng.uniform(0.095, 0.12, is_liked.sum())
    order = np.argsort(-probability, axis=1)
    flat = np.take_along_axis(product, order, axis=1).ravel().astype(np.int32)
    chance = np.take_along_axis(probability, order, axis=1).ravel().astype(np.float32)
    none = np.full(len(flat), -1, dtype=np.int32)
    table = CandidateTable(flat, none, chance, chance, np.ones(len(flat), dtype=np.float32), none)
    return table, Ranges(np.arange(n_accounts, dtype=np.int64) * N_EACH, np.full(n_accounts, N_EACH, dtype=np.int32))


def factors(
    config: ExposureConfig | None = None, bought: float = 0.0, n_accounts: int = N_ACCOUNTS, active: bool = True
) -> Float64:
    table, ranges = market(n_accounts=n_accounts)
    share, is_offerable = np.zeros(N_PRODUCTS), np.ones(N_PRODUCTS, dtype=bool)
    share[0], is_offerable[0] = bought, active
    return 1.0 - shares_held_back(table, ranges, is_offerable, share, config or ExposureConfig()).astype(np.float64)


def shown(factor: Float64, first: int = 4) -> NDArray[np.float64]:
    """The share of the accounts that see each product among the first."""
    table, _ = market()
    product = table.product.reshape(-1, N_EACH)
    score = table.probability.reshape(-1, N_EACH) * factor[product]
    chosen = np.take_along_axis(product, np.argsort(-score, axis=1)[:, :first], axis=1)
    return np.bincount(chosen.ravel(), minlength=N_PRODUCTS) / N_ACCOUNTS


def test_no_product_is_before_more_than_a_fifth_and_the_others_stay() -> None:
    assert shown(np.ones(N_PRODUCTS))[0] > 0.5
    factor = factors()
    assert 0.15 < shown(factor)[0] <= 0.2
    assert shown(factor).max() <= 0.2
    assert 0 < factor[0] < 1
    assert (factor[1:] == 1.0).all()


def test_what_more_accounts_buy_may_be_before_as_many() -> None:
    assert 0.25 < shown(factors(bought=0.3))[0] <= 0.3
    assert (factors(bought=0.9) == 1.0).all()


@pytest.mark.parametrize("first", [1, 10])
def test_the_share_and_the_ranks_are_options(first: int) -> None:
    config = ExposureConfig(most_share=0.3, first=first)
    assert 0.2 < shown(factors(config), first)[0] <= 0.3
    assert (factors(ExposureConfig(most_share=1.0)) == 1.0).all()


def test_few_accounts_and_what_is_not_offered_hold_nothing_back() -> None:
    assert (factors(n_accounts=99) == 1.0).all()
    assert (factors(active=False) == 1.0).all()
