"""Relations of products for a person to judge who does not see which way of mining found them.

    python tests/benchmarks/judged_relations.py mine NAME --data FOLDER --out FILE # online-retail-ii, complete-journey
    python tests/benchmarks/judged_relations.py mix FILE... --out FOLDER

`mine` draws a hundred products, by a fixed seed, of those with twenty orders and more, and writes of each its three
first complements and substitutes by `rules_frame` (rules) and by `mine_relations` (relations), each in its own order.
`mix` writes one item for each product, relation and list, shuffled, and the key beside it; a list that both ways have
is one item. Who judges writes `judgements.json`: {"1": [true, false, true], ...}, one for each product of the list:
is it to the product what the item says?
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pandas as pd

from recsys import Dataset
from recsys.contracts import columns as c
from recsys.mining.relations import mine_relations
from recsys.mining.rules import RuleConfig, rules_frame

SEED: Final = 16
N_PRODUCTS: Final = 100
N_LISTED: Final = 3
LEAST_ORDERS: Final = 20
RELATIONS: Final = ("complement", "substitute")
SETS: Final = ("online-retail-ii", "complete-journey")
_JOURNEY: Final = {
    "order_id": "basket_id",
    "account_id": "household_id",
    "ordered_at": "transaction_timestamp",
    "line_total": "sales_value",
    "discount": "coupon_disc",
}

Listed = dict[str, Any]


def read(name: str, folder: Path) -> Dataset:
    """One of the two histories; goods of The Complete Journey are named by type, brand and size."""
    if name == "online-retail-ii":
        return Dataset.read(folder / "online_retail_ii.parquet", preset=name)
    goods = pd.read_parquet(folder / "complete_journey" / "products.parquet")
    told = goods[["product_type", "brand", "package_size"]].fillna("").astype(str)
    products = pd.DataFrame(
        {
            c.PRODUCT_ID: goods["product_id"].astype(str),
            c.NAME: [", ".join(filter(None, row)) or None for row in told.itertuples(index=False)],
            c.CATEGORY: goods["product_category"],
        }
    )
    return Dataset.read(folder / "complete_journey" / "transactions.parquet", products=products, columns=dict(_JOURNEY))


def mine(name: str, folder: Path) -> list[Listed]:
    """The lists of a hundred products, by both ways."""
    data = read(name, folder)
    held = data.orders.group_by(c.PRODUCT_ID).agg(n=data.orders[c.ORDER_ID].nunique()).to_pandas()
    named = data.products.dropna(subset=[c.NAME]).set_index(c.PRODUCT_ID)[c.NAME]
    often = sorted(held[(held["n"] >= LEAST_ORDERS) & held[c.PRODUCT_ID].isin(named.index)][c.PRODUCT_ID])
    drawn = random.Random(SEED).sample(often, min(N_PRODUCTS, len(often)))
    rules = rules_frame(data.orders, RuleConfig(), data.products)
    ways = {
        "rules": rules.rename(columns={c.ANTECEDENT_ID: c.PRODUCT_ID, c.CONSEQUENT_ID: c.OTHER_ID}),
        "relations": mine_relations(data).to_frame(),
    }
    lists = []
    for way, frame in ways.items():
        wanted = frame[frame[c.PRODUCT_ID].isin(drawn) & frame[c.RELATION].isin(RELATIONS)]
        for (product, relation), group in wanted.groupby([c.PRODUCT_ID, c.RELATION], sort=True):
            others = [named.get(other, other) for other in group[c.OTHER_ID].head(N_LISTED)]
            lists.append({"way": way, "set": name, "product": named[product], "relation": relation, "others": others})
    return lists


def mix(lists: Sequence[Listed]) -> tuple[list[Listed], dict[str, str]]:
    """Items without the way that found them, and the key: the way of each; equal lists of both ways are one item."""
    rng = random.Random(SEED)
    joined: dict[str, Listed] = {}
    ways: dict[str, list[str]] = {}
    for one in lists:
        item = {field: value for field, value in one.items() if field != "way"}
        told = json.dumps(item, sort_keys=True)
        joined[told] = item
        ways.setdefault(told, []).append(one["way"])
    order = sorted(joined)
    rng.shuffle(order)
    items = [{"item": number} | joined[told] for number, told in enumerate(order, 1)]
    return items, {str(number): " and ".join(sorted(set(ways[told]))) for number, told in enumerate(order, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = parser.add_subparsers(dest="step", required=True)
    step = steps.add_parser("mine")
    step.add_argument("name", choices=SETS)
    step.add_argument("--data", type=Path, required=True)
    step.add_argument("--out", type=Path, required=True)
    step = steps.add_parser("mix")
    step.add_argument("lists", type=Path, nargs="+")
    step.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if options.step == "mine":
        _write(options.out, mine(options.name, options.data))
    else:
        items, key = mix([one for path in options.lists for one in json.loads(path.read_text())])
        options.out.mkdir(parents=True, exist_ok=True)
        _write(options.out / "relations_items.json", items)
        _write(options.out / "relations_key.json", key)


def _write(path: Path, document: object) -> None:
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
