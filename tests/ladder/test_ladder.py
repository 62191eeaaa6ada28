"""The ladder: origins of edges, climbs counted by hand, and what history may show."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.data.dataset import Dataset
from recsys.data.history import History
from recsys.errors import ConfigError
from recsys.ladder.edges import EDGE_COLUMNS, Ladder, LadderConfig, build_ladder
from recsys.ladder.upgrade_events import UpgradeEventConfig

DAY0 = datetime(2025, 1, 1, tzinfo=UTC)


def lines_of(rows: Sequence[tuple[str | None, str, float, float, float]]) -> History:
    """A history of (account, product, day, quantity, unit price), each line an order of its own."""
    return History.from_frame(
        pd.DataFrame(
            {
                "order_id": [f"o{i}" for i in range(len(rows))],
                "account_id": pd.Series([row[0] for row in rows], dtype=object),
                "product_id": [row[1] for row in rows],
                "ordered_at": [pd.Timestamp(DAY0) + pd.Timedelta(days=row[2]) for row in rows],
                "quantity": [float(row[3]) for row in rows],
                "unit_price": [float(row[4]) for row in rows],
            }
        )
    )


def named(*names: str) -> pd.DataFrame:
    return pd.DataFrame({"product_id": [f"p{i}" for i in range(len(names))], "name": list(names)})


def priced(*prices: float) -> History:
    return lines_of([("a", f"p{i}", 0, 1, price) for i, price in enumerate(prices)])


def edges_of(products: pd.DataFrame, history: History, upgrades: pd.DataFrame | None = None, **options: object):
    ladder = build_ladder(products, history, upgrades, LadderConfig(**options))
    return list(zip(ladder.from_ids, ladder.to_ids, strict=True))


def test_a_size_step_within_the_price_band_is_an_edge() -> None:
    products = named("SMALL GLASS CLOCHE", "GLASS CLOCHE LARGE", "LARGE OAK TABLE")
    assert edges_of(products, priced(2.0, 4.0, 4.0)) == [("p0", "p1")]


@pytest.mark.parametrize("price", [2.1, 12.0, 1.0])
def test_outside_the_price_band_there_is_no_edge(price: float) -> None:
    assert edges_of(named("SMALL GLASS CLOCHE", "LARGE GLASS CLOCHE"), priced(2.0, price)) == []


def test_the_price_band_is_tunable() -> None:
    products = named("SMALL GLASS CLOCHE", "LARGE GLASS CLOCHE")
    assert edges_of(products, priced(2.0, 2.1), min_price_ratio=1.01) == [("p0", "p1")]
    assert edges_of(products, priced(2.0, 12.0), max_price_ratio=7.0) == [("p0", "p1")]


def test_a_bigger_pack_is_a_rung_and_its_ratio_is_stated() -> None:
    ladder = build_ladder(named("SET OF 3 CAKE TINS", "SET/6 CAKE TINS"), priced(3.0, 5.0), None, LadderConfig())
    edge = ladder.edges.iloc[0]
    assert (edge["from_product_id"], edge["to_product_id"], edge["reason"]) == ("p0", "p1", "pack")
    assert (edge["pack_ratio"], edge["price_ratio"]) == (6 / 3, 5 / 3)


def test_another_colour_is_no_step() -> None:
    assert edges_of(named("SMALL RED CLOCHE JAR", "LARGE BLUE CLOCHE JAR"), priced(2.0, 3.0), min_likeness=0.2) == []


def test_only_the_next_rung_follows() -> None:
    products = named("MINI CLOCHE JAR", "MEDIUM CLOCHE JAR", "LARGE CLOCHE JAR")
    assert edges_of(products, priced(1.0, 2.0, 3.0)) == [("p0", "p1"), ("p1", "p2")]


def test_unlike_names_need_a_lower_bar() -> None:
    products = named("SMALL GLASS CLOCHE", "LARGE GLASS CLOCHE GARDEN ORNAMENT")
    assert edges_of(products, priced(2.0, 3.0)) == []
    assert edges_of(products, priced(2.0, 3.0), min_likeness=0.3, min_likeness_unstated=0.3) == [("p0", "p1")]


def test_a_silent_name_needs_more_likeness() -> None:
    products = named("SMALL CLOCHE JAR ROUND", "CLOCHE JAR ROUND")
    assert edges_of(products, priced(2.0, 3.0)) == [("p0", "p1")]
    products = named("SMALL CLOCHE JAR ROUND OAK", "CLOCHE JAR ROUND")
    assert edges_of(products, priced(2.0, 3.0), min_likeness=0.5, min_likeness_unstated=0.99) == []


def test_the_likest_come_first_when_edges_are_capped() -> None:
    products = named("SMALL CLOCHE JAR", "LARGE CLOCHE JAR", "LARGE CLOCHE JAR TALL OAK")
    history = priced(1.0, 2.0, 2.0)
    options: dict[str, Any] = {"min_likeness": 0.3, "min_likeness_unstated": 0.3}
    assert edges_of(products, history, **options) == [("p0", "p1"), ("p0", "p2")]
    assert edges_of(products, history, max_edges=1, **options) == [("p0", "p1")]


def test_names_of_two_categories_are_not_compared() -> None:
    products = named("SMALL CLOCHE JAR", "LARGE CLOCHE JAR").assign(category=["kitchen", "garden"])
    assert edges_of(products, priced(1.0, 2.0)) == []


def test_tiers_make_edges_to_the_next_higher_one() -> None:
    products = pd.DataFrame(
        {"product_id": ["b", "g", "s"], "family": "tin", "tier": ["basic", "gold", "silver"], "price": [1.0, 9.0, 3.0]}
    )
    history = lines_of([("a", "b", 0, 1, 1.0), ("a", "s", 1, 1, 3.0), ("a", "g", 2, 1, 9.0)])
    ladder = build_ladder(products, history, None, LadderConfig())
    assert list(zip(ladder.from_ids, ladder.to_ids, ladder.edges["reason"], strict=True)) == [
        ("b", "s", "tier basic to silver"),
        ("s", "g", "tier silver to gold"),
    ]
    assert set(ladder.edges["origin"]) == {"tier"}


def test_a_higher_tier_that_costs_less_is_left_out() -> None:
    products = pd.DataFrame({"product_id": ["p0", "p1"], "family": "tin", "tier": [1, 2]})
    assert edges_of(products, priced(2.0, 1.0)) == []


def test_any_columns_may_be_family_and_tier() -> None:
    """A grocer's own brand leads to the national brands of its type that cost more, and to no other type."""
    products = pd.DataFrame(
        {
            "product_id": ["own", "brand", "cheap", "other"],
            "product_type": ["cereal", "cereal", "cereal", "soup"],
            "brand": ["Private", "National", "National", "National"],
        }
    )
    prices = {"own": 2.0, "brand": 3.5, "cheap": 1.5, "other": 4.0}
    orders = pd.DataFrame(
        [(f"o{i}", "a", product, f"2025-01-0{i + 1}", 1, price) for i, (product, price) in enumerate(prices.items())],
        columns=["order_id", "account_id", "product_id", "ordered_at", "quantity", "unit_price"],
    )
    columns = {"products.family": "product_type", "products.tier": "brand"}
    ladder = Ladder.build(Dataset.read(orders, products=products, columns=columns))
    assert ladder.edges[["from_product_id", "to_product_id", "reason"]].to_numpy().tolist() == [
        ["own", "brand", "tier Private to National"]
    ]


def test_a_family_without_tiers_is_a_ladder_of_prices() -> None:
    products = pd.DataFrame({"product_id": ["p0", "p1", "p2"], "family": "tin"})
    assert edges_of(products, priced(1.0, 2.0, 1.05)) == [("p0", "p1"), ("p2", "p1")]
    assert edges_of(products, priced(1.0, 2.0, 1.05), infer="never") == []


def test_curated_links_come_first_and_unknown_ones_are_left_out() -> None:
    links = pd.DataFrame({"from_product_id": ["p1", "p0", "p0"], "to_product_id": ["p0", "p1", "nowhere"]})
    ladder = build_ladder(named("LARGE CLOCHE", "SMALL CLOCHE"), priced(2.0, 1.0), links, LadderConfig())
    assert ladder.edges[["from_product_id", "to_product_id", "origin"]].to_numpy().tolist() == [
        ["p0", "p1", "curated"],
        ["p1", "p0", "curated"],
    ]


def test_climbs_add_ons_and_volume_by_hand() -> None:
    """Four accounts stand on p0: one climbs, one adds on, one buys more of the same, one only buys p1 first."""
    history = lines_of(
        [
            ("climber", "p0", 0, 10, 2.0),
            ("climber", "p1", 40, 5, 4.0),
            ("climber", "p0", 50, 2, 2.0),  # 4 of 24 spent on p0: its share fell to 1/6
            ("adder", "p0", 0, 10, 2.0),
            ("adder", "p1", 40, 1, 4.0),
            ("adder", "p0", 50, 10, 2.0),  # 20 of 24 on p0: p1 came beside it
            ("more", "p0", 0, 10, 2.0),
            ("more", "p0", 40, 90, 2.0),  # volume
            ("downward", "p1", 0, 1, 4.0),
            ("downward", "p0", 40, 1, 2.0),
        ]
    )
    edge = build_ladder(named("SMALL CLOCHE", "LARGE CLOCHE"), history, None, LadderConfig()).edges.iloc[0]
    assert (edge["n_standing"], edge["n_climbed"]) == (3, 1)
    # one edge: the prior has the pooled rate (1 + 0.5) / (3 + 1) and the weight of ten accounts
    assert edge["climb_rate"] == pytest.approx((1 + 10 * 1.5 / 4) / (3 + 10))


def test_standing_and_follow_up_windows_decide() -> None:
    history = lines_of([("a", "p0", 0, 1, 2.0), ("a", "p1", 200, 1, 4.0), ("a", "p0", 220, 9, 2.0)])
    products = named("SMALL CLOCHE", "LARGE CLOCHE")

    def climbed(**options: object) -> int:
        climbs = UpgradeEventConfig(**options)
        return int(build_ladder(products, history, None, LadderConfig(climbs=climbs)).edges["n_climbed"].iloc[0])

    assert climbed() == 0  # 18 of 22 went to p0 within 30 days
    assert climbed(follow_days=10) == 1
    assert climbed(follow_days=10, standing_days=100) == 0
    assert climbed(max_lower_share=0.9) == 1


def test_lines_after_the_cutoff_change_nothing() -> None:
    past = [("a", "p0", 0, 1, 2.0), ("a", "p1", 10, 1, 4.0), ("b", "p0", 5, 1, 2.0)]
    future = [("b", "p1", 40, 3, 9.0), ("c", "p0", 41, 1, 7.0)]
    cutoff = DAY0 + pd.Timedelta(days=30)
    products = named("SMALL CLOCHE", "LARGE CLOCHE")
    seen = build_ladder(products, lines_of(past).before(cutoff), None, LadderConfig())
    both = build_ladder(products, lines_of(past + future).before(cutoff), None, LadderConfig())
    pd.testing.assert_frame_equal(seen.edges, both.edges)
    leaking = build_ladder(products, lines_of(past + future), None, LadderConfig())
    assert not leaking.edges.equals(seen.edges)  # the control: without the cutoff they do


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", None]),
            st.sampled_from(["p0", "p1", "p2"]),
            st.integers(0, 400),
            st.integers(1, 9),
            st.sampled_from([1.0, 2.0, 3.0]),
        ),
        min_size=1,
        max_size=30,
    )
)
@settings(max_examples=40, deadline=None)
def test_climbers_stood_before_and_rates_are_rates(rows: list[tuple[str | None, str, int, int, float]]) -> None:
    products = named("SMALL CLOCHE JAR", "MEDIUM CLOCHE JAR", "LARGE CLOCHE JAR")
    edges = build_ladder(products, lines_of(rows), None, LadderConfig(min_price_ratio=1.01)).edges
    assert list(edges.columns) == list(EDGE_COLUMNS)
    assert (edges["n_climbed"] <= edges["n_standing"]).all()
    assert edges["climb_rate"].between(0, 1, inclusive="neither").all()


def test_no_products_and_no_lines_make_an_empty_ladder() -> None:
    empty = lines_of([("a", "x", 0, 1, 1.0)]).before(DAY0)
    assert len(build_ladder(named(), empty, None, LadderConfig())) == 0
    assert len(build_ladder(named("SMALL CLOCHE", "LARGE CLOCHE"), empty, None, LadderConfig())) == 0


def test_a_band_upside_down_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"min_price_ratio == 6\.0, must be below max_price_ratio == 5\.0"):
        LadderConfig(min_price_ratio=6.0)


def test_scarce_edges_are_pulled_to_the_common_rate() -> None:
    rng = np.random.default_rng(0)
    rows = []
    for edge in range(12):
        for account in range(60):
            rows.append((f"a{edge}-{account}", f"p{2 * edge}", 0, 1, 2.0))
            if rng.random() < 0.2:
                rows.append((f"a{edge}-{account}", f"p{2 * edge + 1}", 30, 1, 4.0))
    rows.append(("lucky", "p24", 0, 1, 2.0))
    rows.append(("lucky", "p25", 30, 1, 4.0))
    words = [f"WORD{chr(65 + i)}{chr(65 + i)}" for i in range(13)]
    products = named(*[f"{size} {word}" for word in words for size in ("SMALL", "LARGE")])
    edges = build_ladder(products, lines_of(rows), None, LadderConfig()).edges.set_index("from_product_id")
    assert len(edges) == 13
    scarce = edges.loc["p24", ["climb_rate", "n_climbed", "n_standing"]].to_numpy(dtype=float)
    assert scarce[0] < 0.5 < scarce[1] / scarce[2]
