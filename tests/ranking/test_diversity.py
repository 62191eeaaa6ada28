"""The picker on lists made by hand: category and kind by row, no families unless given."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from recsys.offer_model.tables import OfferModel
from recsys.ranking.config import DiversityConfig
from tests.support.reference_ranker.picker import Picker
from tests.support.synthetic_model import SyntheticModelConfig, synthetic_model

PLAIN = synthetic_model(SyntheticModelConfig(n_products=20), np.random.default_rng(0))


def model(category: list[int] | None = None, family: list[int] | None = None) -> OfferModel:
    none = np.full(20, -1, dtype=np.int32)
    columns = {"category": category, "family": family}
    given: dict[str, Any] = {
        name: np.resize(np.array(v, dtype=np.int32), 20) if v else none for name, v in columns.items()
    }
    return replace(PLAIN, products=replace(PLAIN.products, **given))


def pick(
    of: OfferModel,
    products: list[int],
    n: int,
    climbs: list[bool] | None = None,
    config: DiversityConfig | None = None,
    cart: tuple[int, ...] = (),
    worth: list[float] | None = None,
    *,
    diverse: bool = True,
) -> tuple[list[int], dict[int, str]]:
    picker = Picker(of, config or DiversityConfig(), diverse=diverse, mixed=climbs is not None)
    picker.stand_beside(cart)
    kinds = np.array(climbs or [False] * len(products))
    taken = picker.pick(np.array(products, dtype=np.int32), kinds, np.array(worth or [1.0] * len(products)), n)
    return [products[position] for position in taken], picker.dropped


def test_without_likeness_the_list_stays_as_it_is() -> None:
    assert pick(model(), [4, 5, 6, 7], 3)[0] == [4, 5, 6]


def test_one_of_a_family_is_enough() -> None:
    taken, dropped = pick(model(family=[0, 0, 1, 1]), [0, 1, 2, 3], 4)
    assert taken == [0, 2]
    assert dropped == {1: "near_duplicate", 3: "near_duplicate"}


def test_of_two_substitutes_the_better_one_stays() -> None:
    taken, dropped = pick(model(), [3, 2, 5], 3)  # rows 2 and 3 are substitutes
    assert taken == [3, 5]
    assert dropped == {2: "substitute"}


def test_a_substitute_of_the_cart_is_no_cross_sell_but_may_be_an_upgrade() -> None:
    assert pick(model(), [2, 5], 2, cart=(3,))[0] == [5]
    assert pick(model(), [2, 5], 2, climbs=[True, False], cart=(3,))[0] == [2, 5]


def test_a_category_fills_half_of_the_ranks_while_others_wait() -> None:
    # Rows 0 to 7 in category 0, 8 and 9 in category 1: two are free, then every other rank is for the others.
    taken, _ = pick(model(category=[0] * 8 + [1] * 2 + [0] * 10), [0, 1, 4, 5, 6, 8, 9], 6)
    assert taken == [0, 1, 8, 9, 4, 5]


def test_the_cap_bends_where_nothing_else_is_left() -> None:
    assert pick(model(category=[0]), [0, 1, 4, 5], 4)[0] == [0, 1, 4, 5]


def test_one_rank_in_four_goes_to_the_other_kind() -> None:
    climbs = [False] * 5 + [True] * 2
    taken, _ = pick(model(), [0, 1, 4, 5, 6, 7, 8], 6, climbs=climbs)
    assert taken == [0, 1, 4, 7, 5, 6]


def test_shares_are_options() -> None:
    config = DiversityConfig(max_kind_share=0.5, max_category_share=1.0, free_ranks=1)
    taken, _ = pick(model(), [0, 1, 4, 7, 8], 4, climbs=[False, False, False, True, True], config=config)
    assert taken == [0, 7, 1, 8]


def test_variety_of_less_than_three_tenths_does_not_go_first() -> None:
    climbs, products = [False] * 5 + [True], [0, 1, 4, 5, 6, 7]
    poor, fair = [1.0, 0.9, 0.8, 0.7, 0.6, 0.15], [1.0, 0.9, 0.8, 0.7, 0.6, 0.22]
    assert pick(model(), products, 5, climbs=climbs, worth=poor)[0] == [0, 1, 4, 5, 6]
    assert pick(model(), products, 5, climbs=climbs, worth=fair)[0] == [0, 1, 4, 7, 5]
    generous = DiversityConfig(least_worth=0.0)
    assert pick(model(), products, 5, climbs=climbs, worth=poor, config=generous)[0] == [0, 1, 4, 7, 5]


def test_raw_removes_nothing_but_doubles() -> None:
    taken, _ = pick(model(category=[0], family=[0]), [3, 2, 3, 5], 4, diverse=False)
    assert taken == [3, 2, 5]


def test_a_second_list_goes_on_where_the_first_ended() -> None:
    picker = Picker(model(family=[0, 0, 1, 1]), DiversityConfig(), diverse=True, mixed=False)
    first = picker.pick(np.array([0], dtype=np.int32), np.array([False]), np.ones(1), 3)
    second = picker.pick(np.array([1, 2], dtype=np.int32), np.array([False, False]), np.ones(2), 2)
    assert (first, second) == ([0], [1])
