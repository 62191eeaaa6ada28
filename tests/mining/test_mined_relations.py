"""Relations between products told apart: by orders, by accounts, by names, by people."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from recsys.contracts import columns as c
from recsys.data.dataset import Dataset
from recsys.data.history import History
from recsys.errors import DataError
from recsys.mining.alternation import count_alternation
from recsys.mining.relations import RELATION_COLUMNS, RelationConfig, mine_relations
from recsys.products.variants import variant_groups

KINDS = ("mug", "plate", "lamp", "towel", "clock", "vase")
PLACES = ("harbour", "meadow", "orchard", "castle", "mountain", "garden", "river", "island")
TAUGHT = RelationConfig(taught_by=40, names_per_product=2)


def lines_of(orders: list[tuple[str, list[str]]]) -> pd.DataFrame:
    """Orders of accounts, a day apart, as order lines."""
    rows = [(number, account, product) for number, (account, held) in enumerate(orders) for product in held]
    number = np.array([row[0] for row in rows])
    return pd.DataFrame(
        {
            c.ORDER_ID: [f"o{n:05d}" for n in number],
            c.ACCOUNT_ID: [row[1] for row in rows],
            c.PRODUCT_ID: [row[2] for row in rows],
            c.ORDERED_AT: pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(number, unit="h"),
            c.QUANTITY: 1.0,
            c.UNIT_PRICE: 2.0,
        }
    )


@pytest.fixture(scope="module")
def shop() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Mug and plate of one place go together; of two lamps each account buys either, by turns."""
    rng = np.random.default_rng(3)
    names = {f"{kind}-{place}": f"{place} {kind}" for kind in KINDS for place in PLACES}
    names |= {"lamp-a": "brass reading lamp alpha", "lamp-b": "brass reading lamp beta"}
    orders = []
    for turn in range(12):
        for account in range(60):
            place = PLACES[rng.integers(8)]
            held = {f"mug-{place}", f"plate-{place}"} if rng.random() < 0.5 else set()
            held |= {f"{KINDS[rng.integers(6)]}-{PLACES[rng.integers(8)]}" for _ in range(3)}
            if account < 40:
                held.add("lamp-a" if (turn + account) % 2 else "lamp-b")
            orders.append((f"a{account}", sorted(held)))
    price = [2.0 + 3 * KINDS.index(key.split("-")[0]) + 0.9 * (n % 7) for n, key in enumerate(names)]
    products = pd.DataFrame({c.PRODUCT_ID: list(names), c.NAME: list(names.values()), c.PRICE: price})
    return lines_of(orders), products


@pytest.fixture(scope="module")
def mined(shop: tuple[pd.DataFrame, pd.DataFrame]) -> pd.DataFrame:
    lines, products = shop
    return mine_relations(Dataset.read(lines, products=products), TAUGHT).to_frame()


def relation_of(mined: pd.DataFrame, product: str, other: str) -> pd.Series:
    row = mined[(mined[c.PRODUCT_ID] == product) & (mined[c.OTHER_ID] == other)]
    assert len(row) == 1, f"{product}, {other}: {len(row)} rows"
    return row.iloc[0]


def test_what_is_bought_together_is_a_complement_with_its_counts(
    mined: pd.DataFrame, shop: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    held = shop[0].groupby(c.PRODUCT_ID)[c.ORDER_ID].agg(set)
    for place in PLACES:
        row = relation_of(mined, f"mug-{place}", f"plate-{place}")
        assert (row[c.RELATION], row[c.SOURCE]) == ("complement", "orders")
        mug, plate = held[f"mug-{place}"], held[f"plate-{place}"]
        assert (row[c.N_PRODUCT], row[c.N_OTHER], row[c.N_BOTH]) == (len(mug), len(plate), len(mug & plate))
        assert row[c.RELATION_STRENGTH] == pytest.approx(1 - (row[c.EXPECTED_BOTH] + 5) / (row[c.N_BOTH] + 5))
        back = relation_of(mined, f"plate-{place}", f"mug-{place}")
        assert back[c.N_PRODUCT] == row[c.N_OTHER]
        assert back[c.PRICE_RATIO] == pytest.approx(1 / row[c.PRICE_RATIO])


def test_what_accounts_buy_by_turns_is_a_substitute(mined: pd.DataFrame) -> None:
    row = relation_of(mined, "lamp-a", "lamp-b")
    assert row[c.RELATION] == "substitute"
    assert (row[c.N_BOTH], row[c.N_ALTERNATING]) == (0, 40)
    assert row[c.EXPECTED_ALTERNATING] < 1


def test_alternation_is_counted_as_by_hand() -> None:
    # x: a, b, then neither: apart, by the chance C(2, 1) / C(3, 1). y: both at once. z: a alone.
    lines = lines_of([("x", ["a"]), ("x", ["b"]), ("x", ["c"]), ("y", ["a", "b"]), ("y", ["c"]), ("z", ["a"])])
    found = count_alternation(History.from_frame(lines), np.array([0]), np.array([1]))
    assert found.n_alternating.tolist() == [1]
    assert found.expected_alternating == pytest.approx([2 / 3 + 1 / 2])


def test_neither_the_order_of_lines_nor_of_products_counts(
    mined: pd.DataFrame, shop: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    lines, products = (frame.sample(frac=1, random_state=5).reset_index(drop=True) for frame in shop)
    again = mine_relations(Dataset.read(lines, products=products), TAUGHT).to_frame()
    pd.testing.assert_frame_equal(again, mined, rtol=1e-6)


def test_people_decide_where_they_judged_and_teach_names(shop: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    lines, products = shop
    pairs = [(f"mug-{a}", f"mug-{b}", "substitute") for a, b in pairwise(PLACES)]
    pairs += [(f"vase-{a}", f"vase-{b}", "substitute") for a, b in pairwise(PLACES)]
    pairs += [(f"towel-{a}", f"clock-{b}", "none") for a, b in pairwise(PLACES)]
    pairs += [("lamp-a", f"clock-{place}", "none") for place in PLACES]
    labels = pd.DataFrame(pairs, columns=[c.PRODUCT_ID, c.OTHER_ID, c.RELATION])
    data = Dataset.read(lines, products=products)
    frame = mine_relations(data, TAUGHT, labels=labels).to_frame()
    row = relation_of(frame, "mug-harbour", "mug-meadow")
    assert (row[c.RELATION], row[c.SOURCE], row[c.RELATION_STRENGTH]) == ("substitute", "judged", 1.0)
    assert relation_of(frame, "plate-river", "mug-river")[c.SOURCE] == "orders"
    with pytest.raises(DataError, match="relation == 'twin'"):
        mine_relations(data, labels=labels.assign(**{c.RELATION: "twin"}))
    with pytest.raises(DataError, match="'other_id'"):
        mine_relations(data, labels=labels.drop(columns=c.OTHER_ID))


def test_variants_are_those_of_the_bundle() -> None:
    names = [f"jumbo bag {pattern}" for pattern in ("rose", "dotty", "owl", "heart", "skull", "fairy")]
    names += ["rose cake stand", "owl door stop", "heart wall clock"]
    price = np.array([2.0] * 6 + [9.0, 5.0, 14.0])
    ids = [f"p{n}" for n in range(9)]
    products = pd.DataFrame({c.PRODUCT_ID: ids, c.NAME: names, c.PRICE: price})
    lines = lines_of([(f"a{n % 5}", [ids[n % 9], ids[(n * 2 + 1) % 9]]) for n in range(40)])
    frame = mine_relations(Dataset.read(lines, products=products)).to_frame()
    group = dict(zip(ids, variant_groups(names, price, np.full(9, -1)), strict=True))
    found = frame[frame[c.RELATION] == "variant"]
    assert len(found) == 30
    assert all(group[a] == group[b] > 0 for a, b in zip(found[c.PRODUCT_ID], found[c.OTHER_ID], strict=True))


def test_orders_alone_are_enough(shop: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    frame = mine_relations(shop[0].assign(**{c.ACCOUNT_ID: None})).to_frame()
    assert list(frame.columns) == list(RELATION_COLUMNS)
    assert relation_of(frame, "mug-river", "plate-river")[c.RELATION] == "complement"
    assert frame[c.NAME_CHANCE].isna().all()
    assert not frame[c.RELATION].isin(["variant", "follow_on"]).any()
