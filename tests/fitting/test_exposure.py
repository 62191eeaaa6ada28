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
    config: ExposureConfig | None = None,
    bought: float = 0.0,
    n_accounts: int = N_ACCOUNTS,
    is_offered: bool = True,
    is_active: NDArray[np.bool_] | None = None,
    variant_group: NDArray[np.int32] | None = None,
) -> Float64:
    table, ranges = market(n_accounts=n_accounts)
    n_buyers, is_offerable = np.zeros(N_PRODUCTS, dtype=int), np.ones(N_PRODUCTS, dtype=bool)
    n_buyers[0], is_offerable[0] = bought * n_accounts, is_offered
    active = np.zeros(n_accounts, dtype=bool) if is_active is None else is_active
    group = np.zeros(N_PRODUCTS, dtype=np.int32) if variant_group is None else variant_group
    held_back = shares_held_back(table, ranges, is_offerable, active, n_buyers, group, config or ExposureConfig())
    return 1.0 - held_back.astype(np.float64)


def likes_the_first() -> NDArray[np.bool_]:
    """Whether product 0 is the likeliest of an account's candidates."""
    return market()[0].product.reshape(-1, N_EACH)[:, 0] == 0


def shown(factor: Float64, first: int = 4, among: NDArray[np.bool_] | slice = slice(None)) -> NDArray[np.float64]:
    """The share of the accounts that see each product among the first."""
    table, _ = market()
    product = table.product.reshape(-1, N_EACH)
    score = table.probability.reshape(-1, N_EACH) * factor[product]
    chosen = np.take_along_axis(product, np.argsort(-score, axis=1)[:, :first], axis=1)
    return np.bincount(chosen[among].ravel(), minlength=N_PRODUCTS) / len(chosen[among])


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


def test_the_share_holds_among_active_accounts_too() -> None:
    active = likes_the_first()
    active[300:] = False
    assert active.sum() >= 100
    assert shown(factors(), among=active)[0] > 0.25
    factor = factors(is_active=active)
    assert 0.15 < shown(factor, among=active)[0] <= 0.2
    assert shown(factor)[0] < 0.2
    assert shown(factors(is_active=active, bought=0.15), among=active)[0] > 0.3  # most of the active ones bought it


def test_what_variants_leave_a_place_to_counts() -> None:
    """Products 1 to 40 are variants of each other: an account sees one of them, and what stands below moves up."""
    group = np.where((np.arange(N_PRODUCTS) >= 1) & (np.arange(N_PRODUCTS) <= 40), 1, 0).astype(np.int32)
    assert shown_with_variants(factors(), group)[0] > 0.25
    assert 0.15 < shown_with_variants(factors(variant_group=group), group)[0] <= 0.2


def test_a_product_of_a_group_is_held_back_under_its_variants() -> None:
    group = np.where(np.arange(N_PRODUCTS) < 40, 1, 0).astype(np.int32)
    config = ExposureConfig(most_share=0.4)
    assert shown_with_variants(np.ones(N_PRODUCTS), group)[0] > 0.5
    assert 0.3 < shown_with_variants(factors(config, variant_group=group), group)[0] <= 0.4


def shown_with_variants(factor: Float64, group: NDArray[np.int32], first: int = 4) -> NDArray[np.float64]:
    """The same where one of a group of variants is among the first, one account at a time."""
    table, _ = market()
    count = np.zeros(N_PRODUCTS)
    for product, chance in zip(table.product.reshape(-1, N_EACH), table.probability.reshape(-1, N_EACH), strict=True):
        taken: list[int] = []
        for row in product[np.argsort(-chance * factor[product])]:
            if len(taken) < first and (not group[row] or group[row] not in group[taken]):
                taken.append(int(row))
        count[taken] += 1
    return count / N_ACCOUNTS


def test_few_active_accounts_say_nothing_of_a_share() -> None:
    active = likes_the_first()
    active[100:] = False
    assert (factors(is_active=active) == factors()).all()


@pytest.mark.parametrize("first", [1, 10])
def test_the_share_and_the_ranks_are_options(first: int) -> None:
    config = ExposureConfig(most_share=0.3, first=first)
    assert 0.2 < shown(factors(config), first)[0] <= 0.3
    assert (factors(ExposureConfig(most_share=1.0)) == 1.0).all()


def test_few_accounts_and_what_is_not_offered_hold_nothing_back() -> None:
    assert (factors(n_accounts=99) == 1.0).all()
    assert (factors(is_offered=False) == 1.0).all()
