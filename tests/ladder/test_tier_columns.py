"""A column of tiers that nobody stated: found where prices rise and accounts move, and not by chance."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from recsys.data.history import History
from recsys.ladder.tier_columns import find_tier_columns

START = datetime(2024, 1, 1, tzinfo=UTC)
N_KINDS = 40


def products() -> pd.DataFrame:
    """Forty kinds of goods, each of two brands in three colours; the own brand is the cheaper one."""
    rows = [
        (f"{kind}{brand}{colour}", f"kind {kind}", brand, colour, f"aisle {kind % 4}")
        for kind in range(N_KINDS)
        for brand in ("own", "national")
        for colour in ("red", "green", "blue")
    ]
    return pd.DataFrame(rows, columns=["product_id", "kind", "brand", "colour", "aisle"])


def history(*, moves: bool = True) -> History:
    """Every third account buys the own brand of a kind first and the national one later, where they move at all."""
    rng, rows, price = np.random.default_rng(0), [], {"own": 2.0, "national": 2.6}
    for account in range(60):
        for order in range(6):
            kind, colour = rng.integers(N_KINDS), rng.choice(["red", "green", "blue"])
            days = [order, 30 + order] if moves and account % 3 == 0 else [order]
            for day, brand in zip(days, ("own", "national"), strict=False):
                product = f"{kind}{brand}{colour}"
                paid = price[brand] * np.exp(rng.normal(0, 0.05)) * (1 + kind / 10)
                rows.append((f"{account}-{day}", f"a{account}", product, START + timedelta(days=int(day)), 1.0, paid))
            rows.append(
                (f"{account}-n{order}", f"n{account}", f"{kind}national{colour}", START, 1.0, 2.6 * (1 + kind / 10))
            )
    names = ["order_id", "account_id", "product_id", "ordered_at", "quantity", "unit_price"]
    return History.from_frame(pd.DataFrame(rows, columns=names))


def test_brands_within_kinds_are_found_and_said() -> None:
    found = find_tier_columns(products(), history())
    assert found is not None
    assert (found.family, found.tier, found.order) == ("kind", "brand", ("own", "national"))
    assert found.share_up > 0.9
    assert found.n_climbs > 50
    assert found.sentence().startswith(
        "Column 'brand' may be a tier within 'kind': own to national raises the price in"
    )
    assert found.sentence().endswith("map the columns so: products.family=kind,products.tier=brand")


@pytest.mark.parametrize("seed", range(5))
def test_brands_dealt_out_anew_are_none(seed: int) -> None:
    table, lines = products(), history()
    brand = np.random.default_rng(seed).permutation(table["brand"].to_numpy())
    assert find_tier_columns(table.assign(brand=brand), lines) is None


def test_where_no_account_moves_or_a_tier_is_given_nothing_is_said() -> None:
    assert find_tier_columns(products(), history(moves=False)) is None
    assert find_tier_columns(products().assign(tier="basic"), history()) is None
    assert find_tier_columns(products()[["product_id"]], history()) is None
