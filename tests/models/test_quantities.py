"""How many units an account would take: its own departure from the usual, by how much is known of it."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd

from recsys.arrays import weighted_median
from recsys.data.history import History
from recsys.models.quantities import FEW_ORDERS, Quantities, product_quantities
from recsys.models.snapshot import take_snapshot
from tests.models.conftest import START, history_of


def bought(lines: list[tuple[str | None, str, float]]) -> History:
    """A history of (account, product, units), one order a line."""
    history = history_of([(account, product, day) for day, (account, product, _) in enumerate(lines)])
    return History(**{**vars(history), "quantity": np.array([units for *_, units in lines])})


def expected(history: History, account: str, product: str) -> float:
    quantities = Quantities.of(take_snapshot(history, START + timedelta(days=1_000), pd.DataFrame()))
    row = history.account_ids.tolist().index(account)
    column = history.product_ids.tolist().index(product)
    return float(quantities.expect(np.array([row], np.int32), np.array([column], np.int32))[0])


USUAL: list[tuple[str | None, str, float]] = [
    (f"u{row}", product, 12.0 if row % 6 == 0 else 4.0) for row in range(199) for product in ("p", "q")
]


def test_lines_without_an_account_are_not_usual() -> None:
    counter: list[tuple[str | None, str, float]] = [(None, "p", 1.0)] * 50
    assert product_quantities(bought([*USUAL, *counter])).tolist() == [4.0, 4.0]
    assert product_quantities(bought([(None, "p", 3.0)])).tolist() == [3.0]


def test_one_large_line_says_little_of_an_account_and_many_say_it() -> None:
    once = expected(bought([*USUAL, ("big", "p", 216.0)]), "big", "q")
    assert once == np.float32(4 * np.exp(np.log(54) / 11 + (1 - 1 / 11) * np.log(54) / 11))  # account, then size
    assert once < 9
    often = expected(bought([*USUAL, *[("big", "p", 216.0)] * 60]), "big", "q")
    assert 100 < often <= 216


def test_few_orders_do_not_say_more_than_new_buyers_take() -> None:
    """Nine in ten took 12 units or fewer at first, whatever one account repeated later."""
    repeated: list[tuple[str | None, str, float]] = [("u1", "q", 500.0)] * 200
    few: list[tuple[str | None, str, float]] = [("big", "p", 2_160.0)] * (FEW_ORDERS - 1)
    assert product_quantities(bought([*USUAL, *repeated]))[1] == 500.0
    assert expected(bought([*USUAL, *repeated, *few]), "big", "q") == 12.0
    assert expected(bought([*USUAL, *repeated, *few, few[0]]), "big", "q") > 500.0


def test_a_product_of_few_buyers_is_taken_as_all_products_are_at_first() -> None:
    lines: list[tuple[str | None, str, float]] = [*USUAL, ("u1", "pallet", 560.0), ("new", "p", 4.0)]
    assert expected(bought(lines), "new", "pallet") == 12.0


def test_products_of_another_size_keep_their_own_quantity() -> None:
    """Cards by the hundred where others take 8, lamps one at a time as everybody."""
    others = [(f"u{row}", product, units) for row in range(30) for product, units in (("cards", 8.0), ("lamp", 1.0))]
    others += [(f"u{row}", product, units) for row in range(30) for product, units in (("tags", 8.0), ("vase", 1.0))]
    own = [("shop", "cards", 96.0)] * 20 + [("shop", "lamp", 1.0)] * 20
    history = bought([*others, *own])
    assert 1.0 <= expected(history, "shop", "vase") < 2.0
    assert 24.0 < expected(history, "shop", "tags") <= 96.0


def test_no_more_is_expected_than_the_account_ever_took_or_is_usual() -> None:
    lines = [*USUAL, *[("big", "p", 40.0)] * 90, *[(f"u{row}", "sack", 7.0) for row in range(9)]]
    assert expected(bought(lines), "big", "sack") == 40.0


def test_the_weighted_median_is_a_value_where_half_of_the_weight_is_reached() -> None:
    rng = np.random.default_rng(14)
    groups, values = rng.integers(0, 5, 400), rng.choice([1.0, 2.0, 3.0, 7.0], 400)
    weights = rng.integers(1, 4, 400).astype(np.float64)
    by_hand = [
        np.sort(np.repeat(values[groups == group], weights[groups == group].astype(int)))[
            (int(weights[groups == group].sum()) - 1) // 2
        ]
        for group in range(5)
    ]
    found = weighted_median(groups, values, weights, 6)
    assert found[:5].tolist() == by_hand
    assert np.isnan(found[5])
