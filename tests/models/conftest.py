"""Small purchase histories, written out or drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from recsys.data.history import History

START = datetime(2024, 1, 1, tzinfo=UTC)

Line = tuple[str | None, str, float]
MakeHistory = Callable[[Sequence[Line]], History]


def history_of(lines: Sequence[Line]) -> History:
    """A history of (account, product, day) lines; lines of one account and day are one order."""
    frame = pd.DataFrame(lines, columns=["account_id", "product_id", "day"])
    frame["order_id"] = frame["account_id"].fillna("walk-in").astype(str) + "/" + frame["day"].astype(str)
    frame["ordered_at"] = [START + timedelta(days=float(day)) for day in frame["day"]]
    frame["quantity"] = 2.0
    frame["unit_price"] = 5.0
    return History.from_frame(frame)


def draw_history(seed: int, n_accounts: int = 60, n_products: int = 40, n_days: int = 200) -> History:
    """Accounts with tastes (two groups of products), repeat purchases and a few lines without an account."""
    rng = np.random.default_rng(seed)
    lines: list[Line] = []
    for account in range(n_accounts):
        group = account % 2
        for day in np.sort(rng.uniform(0, n_days, size=rng.integers(2, 9))):
            liked = rng.random(5) < 0.85
            drawn = rng.integers(0, n_products // 2, size=5) * 2 + np.where(liked, group, 1 - group)
            lines += [(f"a{account:03d}", f"p{product:03d}", float(day)) for product in np.unique(drawn)]
    lines += [(None, f"p{rng.integers(n_products):03d}", float(rng.uniform(0, n_days))) for _ in range(40)]
    return history_of(lines)


def product_frame(history: History) -> pd.DataFrame:
    """Names that tell the two groups apart, and a category for each."""
    names = [f"{('red', 'blue')[row % 2]} cup {row}" for row in range(history.n_products)]
    categories = [("red", "blue")[row % 2] for row in range(history.n_products)]
    return pd.DataFrame({"product_id": history.product_ids, "name": names, "category": categories})


def account_frame(history: History) -> pd.DataFrame:
    """A number, a text with gaps and a flag beside the contract's columns."""
    rows = np.arange(history.n_accounts)
    return pd.DataFrame(
        {
            "account_id": history.account_ids,
            "region": np.where(rows % 3 == 0, None, np.where(rows % 2 == 0, "north", "south")),
            "employees": rows * 1.5,
            "is_key_account": rows % 7 == 0,
            "owner": "someone",
        }
    )


@pytest.fixture(scope="session")
def make_history() -> MakeHistory:
    return history_of


@pytest.fixture(scope="session")
def drawn() -> History:
    return draw_history(1)


@pytest.fixture(scope="session")
def drawn_products(drawn: History) -> pd.DataFrame:
    return product_frame(drawn)


@pytest.fixture(scope="session")
def drawn_accounts(drawn: History) -> pd.DataFrame:
    return account_frame(drawn)


@pytest.fixture(scope="session")
def drawn_as_of() -> datetime:
    return START + timedelta(days=200)
