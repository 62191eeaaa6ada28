"""Ladders of real catalogues: how many edges, for how many best sellers, with other words and with shuffled prices."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from recsys.data.dataset import Dataset
from recsys.data.history import History
from recsys.ladder.edges import Ladder, LadderConfig, build_ladder
from recsys.products.name_words import split_name
from tests.conftest import real_file
from tests.data.test_foreign_histories import ADVENTURE_WORKS

PROOF = Path(__file__).resolve().parents[2] / "docs" / "proof" / "ladders.json"
N_BEST = 100
N_SHUFFLED = 5


class Catalogue(NamedTuple):
    """Products and what was sold of them, and words that are replaced by invented ones."""

    products: pd.DataFrame
    history: History
    words: tuple[str, ...]


def adventure_works(folder: Path) -> Catalogue:
    products = pd.read_parquet(real_file("adventureworks/products.parquet"))
    table = folder / "products.parquet"
    columns = {"product_id": products["ProductKey"].astype(str), "name": products["Product"]}
    pd.DataFrame(columns).assign(category=products["Subcategory"]).to_parquet(table)
    data = Dataset.read(real_file(ADVENTURE_WORKS.file), columns=ADVENTURE_WORKS.columns, products=table)
    numbers = ("150", "250", "350", "450", "550", "650", "750", "300", "500", "1000", "2000", "3000")
    return Catalogue(data.products, data.history(), ("LL", "ML", "HL", *numbers))


def online_retail(folder: Path) -> Catalogue:
    data = Dataset.read(real_file("online_retail_ii.parquet"), preset="online-retail-ii")
    return Catalogue(data.products, data.history(), ("SMALL", "MEDIUM", "LARGE"))


def edges(ladder: Ladder) -> set[tuple[str, str]]:
    return set(zip(ladder.from_ids, ladder.to_ids, strict=True))


def best_sellers(history: History) -> set[str]:
    """The products that most known accounts bought."""
    known = history.known()
    buyers = pd.Series(known.account).groupby(history.product_ids[known.product]).nunique()
    return set(buyers.sort_values(ascending=False, kind="stable").index[:N_BEST])


def renamed(products: pd.DataFrame, words: tuple[str, ...]) -> pd.DataFrame:
    """Return the products with each word replaced by one that nobody has a list of."""
    invented = {word.lower(): f"zq{'abcdefghijklmnop'[at]}x" for at, word in enumerate(words)}
    names = [
        None if pd.isna(name) else " ".join(invented.get(word, word) for word in split_name(name))
        for name in products["name"]
    ]
    return products.assign(name=pd.Series(names, index=products.index, dtype=object))


def shuffled(history: History, rng: np.random.Generator) -> History:
    """Return the history with the usual prices of all products dealt out anew."""
    usual = pd.Series(history.unit_price).groupby(history.product).median()
    factor = usual.to_numpy()[rng.permutation(len(usual))] / usual.to_numpy()
    of_line = factor[np.searchsorted(usual.index.to_numpy(), history.product)]
    return replace(history, unit_price=history.unit_price * of_line, revenue=history.revenue * of_line)


@pytest.mark.proof
@pytest.mark.data
@pytest.mark.parametrize(
    ("read", "least_edges", "least_renamed"), [(adventure_works, 100, 1.0), (online_retail, 140, 0.7)]
)
def test_ladders_rest_on_prices_and_not_on_a_list_of_words(
    read: Callable[[Path], Catalogue], least_edges: int, least_renamed: float, tmp_path: Path
) -> None:
    products, history, words = read(tmp_path)
    ladder = build_ladder(products, history, None, LadderConfig())
    found = edges(ladder)
    other_words = edges(build_ladder(renamed(products, words), history, None, LadderConfig()))
    by_chance = [
        len(build_ladder(products, shuffled(history, np.random.default_rng(seed)), None, LadderConfig()))
        for seed in range(N_SHUFFLED)
    ]
    best = best_sellers(history)
    results = {
        "edges": len(found),
        "climbs": int(ladder.edges["n_climbed"].sum()),
        "best_sellers_with_an_upgrade": len(best & {lower for lower, _ in found}) / N_BEST,
        "best_sellers_on_a_ladder": len(best & {product for edge in found for product in edge}) / N_BEST,
        "invented_words": words,
        "edges_with_invented_words": len(other_words),
        "of_them_as_before": len(other_words & found),
        "edges_with_shuffled_prices": by_chance,
    }
    write(read.__name__, results)
    assert len(found) >= least_edges
    assert len(other_words & found) >= least_renamed * len(found)
    assert np.mean(by_chance) <= 0.1 * len(found)


def write(name: str, results: dict[str, object]) -> None:
    proof = json.loads(PROOF.read_text()) if PROOF.exists() else {}
    machine = f"{platform.machine()}, Python {platform.python_version()}"
    proof[name] = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "machine": machine, **results}
    PROOF.write_text(json.dumps(proof, indent=2) + "\n")
