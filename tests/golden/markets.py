"""Two small simulated markets: one with everything that can be known, one with as little as training takes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pandas as pd

from tests.golden.system import must


@dataclass(frozen=True)
class Market:
    """A market and how it is trained.

    Attributes:
        is_rich: whether costs, families, curated upgrades and planted complements are there.
        objective: the server's own.
    """

    name: str
    n_accounts: int
    n_products: int
    seed: int
    as_of: datetime
    is_rich: bool
    objective: str
    config: str

    @property
    def now(self) -> datetime:
        """When it is served."""
        return self.as_of + timedelta(days=9, hours=12)


_QUICK = """
[next_product.sampling]
train_accounts = 80
calibration_accounts = 120
[evaluation]
importance_rows = 100
[evaluation.bootstrap]
n_resamples = 100
[upgrades]
n_cutoffs = 2
"""

NORTH = Market(
    name="north",
    n_accounts=130,
    n_products=100,
    seed=11,
    as_of=datetime(2025, 7, 1, tzinfo=UTC),
    is_rich=True,
    objective="conversion",
    config=f"""
seed = 3
[rules]
min_both = 4
max_q_value = 0.05
[next_product.ranker]
n_trees = 15
[offers]
candidates_per_kind = 40
rules_per_product = 40
cart_weights_per_product = 40
least_segment_accounts = 15
[offers.owned_window_by_category]
Bakeware = 60
{_QUICK}
""",
)
SOUTH = Market(
    name="south",
    n_accounts=80,
    n_products=110,
    seed=5,
    as_of=datetime(2025, 10, 15, tzinfo=UTC),
    is_rich=False,
    objective="revenue",
    config=f"""
[next_product.ranker]
kind = "logistic"
[offers]
candidates_per_kind = 50
rules_per_product = 40
cart_weights_per_product = 40
owned_window_days = 120
[ranking]
relevance_floor = 0.3
[ranking.diversity]
max_category_share = 0.4
{_QUICK}
""",
)
MARKETS = (NORTH, SOUTH)

_PLANTED = tuple((f"P{first:06}", f"P{first + 37:06}") for first in range(3, 51, 4))
"""Products of two far places of the catalogue, so of two categories."""


def write_tables(market: Market, folder: Path) -> list[str | Path]:
    """Write the market's tables and return the options that name them."""
    sizes = ("--accounts", str(market.n_accounts), "--products", str(market.n_products))
    must("simulate", *sizes, "--seed", str(market.seed), "--out", folder)
    names = ["orders", "products", "accounts", "upgrades"] if market.is_rich else ["orders", "products", "accounts"]
    orders, products = (pd.read_parquet(folder / f"{name}.parquet") for name in ("orders", "products"))
    if market.is_rich:
        orders = _with_complements(orders)
    else:
        orders = orders[[int(line) % 3 == 0 for line in orders["line_id"]]].reset_index(drop=True)
        products.drop(columns=["cost", "family", "tier"]).to_parquet(folder / "products.parquet", index=False)
    orders.to_parquet(folder / "orders.parquet", index=False)
    return [part for name in names for part in (f"--{name}", folder / f"{name}.parquet")]


def train(market: Market, folder: Path) -> Path:
    """Train on the market in `folder` and return the bundle; MLflow's files lie beside it."""
    tables = write_tables(market, folder / "market")
    config = folder / "config.toml"
    config.write_text(market.config, encoding="utf-8")
    options = ("--as-of", market.as_of.date().isoformat(), "--config", config, "--out", folder / "bundle")
    must("train", *tables, *options, "--tracking-uri", f"sqlite:///{folder}/mlflow.db")
    return folder / "bundle"


def _with_complements(orders: pd.DataFrame) -> pd.DataFrame:
    """Every second line of some products' orders goes, and with most of those that stay comes their complement."""
    rng = Random(1)
    partners = dict(_PLANTED)
    kept = orders[[product not in partners.values() or rng.random() < 0.2 for product in orders["product_id"]]]
    leading = kept[[product in partners and rng.random() < 0.7 for product in kept["product_id"]]]
    added = leading.assign(
        product_id=leading["product_id"].map(partners), line_id=[f"{line}b" for line in leading["line_id"]]
    )
    both = pd.concat([kept, added]).drop_duplicates(["order_id", "product_id"])
    return both.sort_values(["account_id", "ordered_at", "order_id", "line_id"], ignore_index=True)
