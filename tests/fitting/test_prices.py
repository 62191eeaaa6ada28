"""What accounts pay, by hand: odd lines, real changes, quantities and segments that decide."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from recsys.data.history import History
from recsys.fitting.prices import PaidPrices, paid_prices

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(14)


PricedLine = tuple[str | None, float, float, float]
"""Account, day, quantity and price a unit."""


def lines_of(lines: Sequence[PricedLine]) -> History:
    frame = pd.DataFrame(lines, columns=["account_id", "day", "quantity", "unit_price"])
    frame["order_id"] = [str(number) for number in range(len(frame))]
    frame["product_id"] = "lamp"
    frame["ordered_at"] = [START + timedelta(days=float(day)) for day in frame["day"]]
    return History.from_frame(frame.drop(columns="day"))


def prices_of(lines: Sequence[PricedLine], segments: dict[str, int] | None = None) -> PaidPrices:
    history = lines_of(lines)
    of_account = [(segments or {}).get(account, 0) for account in history.account_ids.tolist()]
    return paid_prices(history, np.array(of_account, dtype=np.int32), "EUR")


def usual(lines: Sequence[PricedLine]) -> float:
    return float(prices_of(lines).usual[0])


def listed(prices: PaidPrices) -> list[tuple[int, float, float]]:
    return list(zip(prices.segment.tolist(), prices.least_quantity.tolist(), prices.price.tolist(), strict=True))


def test_a_line_without_an_account_does_not_move_the_price() -> None:
    lines: list[PricedLine] = [("ann", day, 1, 12.75) for day in range(5)]
    assert usual([*lines, *((None, 9 + day, 1, 24.96) for day in range(20))]) == 12.75


def test_without_a_known_account_what_anybody_paid_is_the_price() -> None:
    assert usual([(None, day, 1, 24.96) for day in range(3)]) == 24.96


def test_a_single_odd_line_does_not_move_it() -> None:
    lines: list[PricedLine] = [("ann", 7 * day, 1, 10.0) for day in range(6)]
    assert usual([*lines, ("bob", 50, 1_000, 2.0)]) == 10.0
    assert usual([*lines, ("bob", 50, 1, 99.0)]) == 10.0


def test_a_real_change_is_followed_within_few_lines() -> None:
    before: list[PricedLine] = [("ann", 7 * week, 1, 10.0) for week in range(30)]
    after: list[PricedLine] = [("bob", 7 * (30 + week), 1, 12.0) for week in range(4)]
    assert [usual([*before, *after[:n]]) for n in range(5)] == [10.0, 10.0, 12.0, 12.0, 12.0]


def test_after_a_long_silence_the_newest_line_tells_the_price() -> None:
    assert usual([*(("ann", day, 1, 10.0) for day in range(3)), ("bob", 200, 1, 12.0)]) == 12.0


def test_prices_have_the_digits_of_the_currency() -> None:
    history = lines_of([("ann", 1, 1, 183.9382)])
    found = {currency: paid_prices(history, np.zeros(1, np.int32), currency).usual[0] for currency in ("EUR", "JPY")}
    assert found == {"EUR": 183.94, "JPY": 184.0}


def drawn(rng: np.random.Generator, price: Sequence[tuple[float, float]], n: int = 120) -> list[PricedLine]:
    """Lines of 30 accounts, priced by quantity, one in twenty at an odd price."""
    quantity = rng.choice([1, 2, 4, 6, 12, 16, 24, 48, 96], n)
    paid = [[value for least, value in price if units >= least][-1] for units in quantity]
    odd = rng.random(n) < 0.05
    return [
        (f"a{row % 30}", row / 4, float(units), value * (1.7 if is_odd else 1.0))
        for row, (units, value, is_odd) in enumerate(zip(quantity.tolist(), paid, odd.tolist(), strict=True))
    ]


def test_invented_price_breaks_are_found(rng: np.random.Generator) -> None:
    for _ in range(20):
        found = prices_of(drawn(rng, [(1, 12.75), (16, 10.95)]))
        assert (found.usual[0], listed(found)) == (12.75, [(0, 16.0, 10.95)])


def test_three_prices_are_found(rng: np.random.Generator) -> None:
    found = prices_of(drawn(rng, [(1, 12.0), (6, 10.0), (48, 7.0)], n=400))
    assert (found.usual[0], listed(found)) == (12.0, [(0, 6.0, 10.0), (0, 48.0, 7.0)])


def test_no_break_is_found_where_the_quantity_does_not_decide(rng: np.random.Generator) -> None:
    for _ in range(50):
        lines: list[PricedLine] = [
            (account, day, quantity, float(price))
            for (account, day, quantity, _), price in zip(
                drawn(rng, [(1, 10.0)]), rng.choice([8.0, 10.0, 12.0], 120), strict=True
            )
        ]
        assert listed(prices_of(lines)) == []


def test_a_break_needs_accounts_enough(rng: np.random.Generator) -> None:
    lines = drawn(rng, [(1, 12.0), (16, 9.0)])
    few = [(f"b{row % 3}", day, quantity, price) for row, (_, day, quantity, price) in enumerate(lines)]
    assert listed(prices_of(few)) == []


def test_a_segment_that_pays_otherwise_has_its_own_prices(rng: np.random.Generator) -> None:
    """Two price lists: accounts of segment 2 pay a fifth less, at each quantity."""
    members = {f"a{row}": 1 + row % 2 for row in range(30)}
    lines: list[PricedLine] = [
        (account, day, quantity, round(price * (0.8 if members[str(account)] == 2 else 1.0), 2))
        for account, day, quantity, price in drawn(rng, [(1, 10.0), (16, 6.0)], n=400)
    ]
    found = listed(prices_of(lines, members))
    assert [row for row in found if row[0] == 1] == [(1, 0.0, 10.0), (1, 16.0, 6.0)]
    assert [row for row in found if row[0] == 2] == [(2, 0.0, 8.0), (2, 16.0, 4.8)]
    alike: list[PricedLine] = [(account, day, quantity, 10.0) for account, day, quantity, _ in lines]
    assert listed(prices_of(alike, members)) == []


def test_each_product_has_its_own_prices_whatever_stands_beside_it(rng: np.random.Generator) -> None:
    alone = [drawn(rng, [(1, 12.75), (16, 10.95)]), drawn(rng, [(1, 5.0)])]
    frames = [
        pd.DataFrame(lines, columns=["account_id", "day", "quantity", "unit_price"]).assign(product_id=name)
        for name, lines in zip(("lamp", "mug"), alone, strict=True)
    ]
    both = pd.concat(frames, ignore_index=True)
    both["order_id"] = [str(row) for row in range(len(both))]
    both["ordered_at"] = [START + timedelta(days=float(day)) for day in both["day"]]
    found = paid_prices(History.from_frame(both), np.zeros(30, np.int32), "EUR")
    assert found.usual.tolist() == [usual(lines) for lines in alone]
    assert (found.product.tolist(), listed(found)) == ([0], [(0, 16.0, 10.95)])


def catalogue_of(rng: np.random.Generator, tiers: Sequence[tuple[float, float]], n_products: int) -> History:
    """Each product at a price of its own, times the share that its quantity costs; seldom more than ten units."""
    n_lines = 60 * n_products
    product = np.arange(n_lines) % n_products
    quantity = np.where(rng.random(n_lines) < 0.9, rng.integers(1, 11, n_lines), rng.integers(11, 24, n_lines))
    share = np.array([[value for least, value in tiers if units >= least][-1] for units in quantity.tolist()])
    frame = pd.DataFrame(
        {
            "order_id": [str(row) for row in range(n_lines)],
            "account_id": [f"a{row % 29}" for row in range(n_lines)],
            "product_id": [f"p{row:02}" for row in product.tolist()],
            "ordered_at": [START + timedelta(hours=row) for row in range(n_lines)],
            "quantity": quantity.astype(float),
            "unit_price": np.round((20.0 + product) * share, 2),
        }
    )
    return History.from_frame(frame)


def test_tiers_of_the_whole_catalogue_hold_for_each_product(rng: np.random.Generator) -> None:
    """No product has lines enough beyond a break of its own, and 3 % less would not be told apart."""
    history = catalogue_of(rng, [(1, 1.0), (11, 0.97), (15, 0.92)], n_products=20)
    found = paid_prices(history, np.zeros(history.n_accounts, np.int32), "EUR")
    usual_of = 20.0 + np.arange(20)
    assert found.usual.tolist() == usual_of.tolist()
    assert found.product.tolist() == np.repeat(np.arange(20), 2).tolist()
    assert found.least_quantity.tolist() == [11.0, 15.0] * 20
    assert found.price == pytest.approx(np.outer(usual_of, [0.97, 0.92]).ravel(), abs=0.011)


def test_tiers_of_few_products_are_their_own(rng: np.random.Generator) -> None:
    history = catalogue_of(rng, [(1, 1.0), (11, 0.97)], n_products=5)
    assert len(paid_prices(history, np.zeros(history.n_accounts, np.int32), "EUR").product) == 0
