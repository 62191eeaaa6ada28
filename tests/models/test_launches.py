"""Products without a sale: whom they are offered to, how probable that is, and what they are learned from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from recsys.data.history import History
from recsys.models.candidates import Candidates
from recsys.models.next_product.cold_start import ColdStartConfig, ColdStartModel, with_cold_starts

START = datetime(2024, 1, 1, tzinfo=UTC)
AS_OF = START + timedelta(days=300)
N_ACCOUNTS, N_PRODUCTS, HORIZON = 200, 40, 30.0
LIKED, OTHER = 0.3, 0.02
"""How probable it is that an account buys a launch of its own colour, and of the other, within the horizon."""

WAITING = {"z1": "red cup number", "z2": "blue plate number", "z3": "red cup vetoed", "z4": ""}


def lines() -> pd.DataFrame:
    """Even accounts like red cups, odd ones blue plates; a product comes out every six days from day 84 on."""
    rng = np.random.default_rng(3)
    rows = []
    for product in range(N_PRODUCTS):
        launch = 0.0 if product < 4 else 60.0 + 6.0 * product
        for account in range(N_ACCOUNTS):
            chance = 1.0 if product < 4 else LIKED if product % 2 == account % 2 else OTHER
            if product % 2 != account % 2 and product < 4:
                continue
            if rng.random() < chance:
                rows.append((f"a{account:03d}", f"p{product:02d}", launch + rng.uniform(0.01, HORIZON - 6.0)))
    frame = pd.DataFrame(rows, columns=["account_id", "product_id", "day"])
    frame["ordered_at"] = [START + timedelta(days=float(day)) for day in frame.pop("day")]
    frame["order_id"] = [f"o{number}" for number in range(len(frame))]
    return frame.assign(quantity=1.0, unit_price=5.0)


LINES = lines()


def products() -> pd.DataFrame:
    ids = [f"p{number:02d}" for number in range(N_PRODUCTS)]
    names = [f"{('red cup', 'blue plate')[number % 2]} number" for number in range(N_PRODUCTS)]
    table = pd.DataFrame({"product_id": [*ids, *WAITING], "name": [*names, *WAITING.values()]})
    return table.assign(do_not_offer=table["product_id"] == "z3")


PRODUCTS = products()


def history_of(frame: pd.DataFrame) -> History:
    return History.from_frame(frame, product_ids=PRODUCTS["product_id"].to_numpy(dtype=object))


HISTORY = history_of(LINES)
EVERYONE = np.arange(HISTORY.n_accounts, dtype=np.int32)


def fitted(
    config: ColdStartConfig | None = None, table: pd.DataFrame = PRODUCTS, history: History = HISTORY
) -> ColdStartModel:
    return ColdStartModel(HORIZON, config).fit(history, table, AS_OF, np.random.default_rng(0))


def found_by(model: ColdStartModel, history: History = HISTORY) -> pd.DataFrame:
    found = model.score(history, AS_OF, EVERYONE)
    return pd.DataFrame(
        {
            "account": HISTORY.account_ids[found.account],
            "product": HISTORY.product_ids[found.product],
            "probability": found.probability,
        }
    )


def test_each_is_offered_what_reads_like_what_it_owns() -> None:
    best = found_by(fitted(ColdStartConfig(per_account=1))).set_index("account")["product"]
    assert best["a000"] == "z1"
    assert best["a001"] == "z2"
    assert set(best) == {"z1", "z2"}


def test_what_is_vetoed_or_has_no_name_waits() -> None:
    found = found_by(fitted())
    assert set(found["product"]) == {"z1", "z2"}
    assert len(found) == 2 * N_ACCOUNTS


def share_bought(n_windows: int, *, liked: bool) -> float:
    """Of all pairs of an account and a product that waited at a cutoff, those that came true, counted on the lines."""
    first = LINES.groupby("product_id")["ordered_at"].min()
    pairs = bought = 0
    for number in range(1, n_windows + 1):
        cutoff = AS_OF - timedelta(days=number * HORIZON)
        waited = [*first.index[first >= cutoff], "z1", "z2"]
        colour = {product: int(product[1:]) % 2 if product[0] == "p" else int(product == "z2") for product in waited}
        pairs += len(waited) * N_ACCOUNTS // 2
        inside = LINES[(LINES["ordered_at"] >= cutoff) & (LINES["ordered_at"] < cutoff + timedelta(days=HORIZON))]
        inside = inside[inside["product_id"].isin(waited)]
        own = inside["account_id"].str[1:].astype(int) % 2 == inside["product_id"].map(colour)
        bought += int((own == liked).sum())
    return bought / pairs


def test_of_too_many_that_wait_the_last_by_id_are_offered() -> None:
    assert set(found_by(fitted(ColdStartConfig(most_waiting=1)))["product"]) == {"z2"}


def test_probabilities_are_what_became_of_those_that_waited() -> None:
    found = found_by(fitted(ColdStartConfig(n_windows=5)))
    liked = (found["account"].str[1:].astype(int) % 2 == 0) == (found["product"] == "z1")
    said = found.groupby(liked)["probability"].mean()
    # a year ago and today: how much accounts add changes a little
    assert said[True] == pytest.approx(share_bought(5, liked=True), rel=0.3)
    assert said[False] == pytest.approx(share_bought(5, liked=False), rel=1.0)
    assert said[True] > 5 * said[False]


def test_nothing_waits_or_too_little_was_bought() -> None:
    sold_only = PRODUCTS[PRODUCTS["product_id"].str.startswith("p")]
    assert fitted(table=sold_only).model_ is None
    assert found_by(fitted(table=sold_only)).empty
    assert found_by(fitted(ColdStartConfig(min_purchases=100_000))).empty
    nothing = ColdStartModel(HORIZON).fit(HISTORY, PRODUCTS, START, np.random.default_rng(0))
    assert len(nothing.score(HISTORY, START, EVERYONE)) == 0


def test_few_accounts_or_products_say_about_the_same() -> None:
    everything = found_by(fitted())["probability"].max()
    for few in (ColdStartConfig(accounts=80), ColdStartConfig(products=15)):
        assert found_by(fitted(few))["probability"].max() == pytest.approx(everything, rel=0.4)


def test_lines_at_or_after_as_of_change_nothing() -> None:
    later = LINES.head(50).assign(product_id="z1", ordered_at=AS_OF, order_id="later")
    after = history_of(pd.concat([LINES, later], ignore_index=True))
    pd.testing.assert_frame_equal(found_by(fitted(history=after), after), found_by(fitted()))


def candidates(*rows: tuple[int, int, float, float]) -> Candidates:
    """Rows of account, product, score, probability."""
    account, product, score, probability = (np.array(column) for column in zip(*rows, strict=True))
    n = len(rows)
    return Candidates(
        account=account.astype(np.int32),
        product=product.astype(np.int32),
        from_product=np.full(n, -1, dtype=np.int32),
        score=score.astype(np.float32),
        probability=probability.astype(np.float32),
        expected_quantity=np.ones(n, dtype=np.float32),
    )


def test_a_launch_stands_where_its_probability_puts_it() -> None:
    known = candidates((0, 1, 5.0, 0.4), (0, 2, 3.0, 0.2), (0, 3, 1.0, 0.1), (2, 1, 9.0, 0.3))
    new = candidates((0, 7, 0.3, 0.3), (0, 8, 0.01, 0.01), (2, 7, 0.5, 0.5))
    both = with_cold_starts(known, new)
    assert both.account.tolist() == [0, 0, 0, 0, 0, 2, 2]
    assert both.product.tolist() == [1, 7, 2, 3, 8, 7, 1]
    assert both.score.tolist() == [5, 4, 3, 1, 1, 9, 9]  # half-way from .2 to .4; at the ends, beside the first or last
    nobody = Candidates(*(column[:0] for column in vars(new).values()))
    assert with_cold_starts(known, nobody) is known
