"""Tables of a small shop and of an experiment in it, drawn by the standard library alone."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

START = datetime(2025, 1, 6, tzinfo=UTC)
AS_OF = datetime(2025, 7, 1, tzinfo=UTC)
ASSIGNED_DAY = 90
N_ACCOUNTS = 160
N_PRODUCTS = 24


def write_shop(folder: Path) -> Path:
    """Write orders, products, accounts, upgrades, arms and values of units as CSV files and return their folder."""
    rng = Random(20250106)
    accounts = [f"K{i:03}" for i in range(N_ACCOUNTS)]
    arms = {account: rng.choice(("control", "engine", "popular")) for account in accounts}
    regions = {account: rng.choice(("north", "south", "west")) for account in accounts}
    prices = {f"S{i:02}": round(1.5 + i * 0.75, 2) for i in range(N_PRODUCTS)}
    assigned = {account: START + timedelta(days=ASSIGNED_DAY, hours=rng.randrange(200)) for account in accounts}
    lines = _lines(rng, accounts, arms, prices)
    _write(folder / "orders.csv", ORDER_COLUMNS, lines)
    _write(
        folder / "products.csv",
        ("product_id", "name", "category", "family", "price", "cost"),
        (
            (item, f"Thing {item}", f"Group {i % 4}", f"F{i // 3}", price, round(price * 0.6, 2))
            for i, (item, price) in enumerate(prices.items())
        ),
    )
    _write(
        folder / "accounts.csv",
        ("account_id", "segment", "region", "created_at"),
        ((one, ("trade", "retail")[i % 2], regions[one], START.isoformat()) for i, one in enumerate(accounts)),
    )
    pairs = [(f"S{i:02}", f"S{i + 1:02}") for i in range(N_PRODUCTS - 1) if i % 3 != 2]
    _write(folder / "upgrades.csv", ("from_product_id", "to_product_id"), pairs)
    _write(
        folder / "arms.csv",
        ("account_id", "arm", "assigned_at", "region"),
        ((one, arms[one], assigned[one].isoformat(), regions[one]) for one in accounts),
    )
    _write(folder / "units.csv", UNIT_COLUMNS, _units(lines, accounts, arms, regions))
    return folder


ORDER_COLUMNS = (
    *("order_id", "line_id", "account_id", "product_id", "ordered_at", "quantity", "unit_price", "discount"),
    *("channel", "currency"),
)
UNIT_COLUMNS = ("account_id", "arm", "region", "revenue", "orders", "buyers", "before", "returns", "exposed")


def _lines(
    rng: Random, accounts: Sequence[str], arms: dict[str, str], prices: dict[str, float]
) -> list[tuple[object, ...]]:
    lines: list[tuple[object, ...]] = []
    for account in accounts:
        for number in range(rng.choice((1, 2, 3, 4, 6, 9))):
            day = rng.randrange((AS_OF - START).days)
            when = START + timedelta(days=day, minutes=rng.randrange(540, 1_000))
            channel = rng.choice(("web", "phone", "rep"))
            lifted = arms[account] == "engine" and day > ASSIGNED_DAY
            for line, item in enumerate(rng.sample(sorted(prices), rng.choice((1, 2, 3))), 1):
                quantity = rng.choice((1, 2, 5)) + (2 if lifted else 0)
                price, discount = prices[item], rng.choice((0.0, 0.0, 0.25))
                order = f"{account}-{number}"
                lines.append((order, line, account, item, when.isoformat(), quantity, price, discount, channel, "EUR"))
    return lines


def _units(
    lines: Iterable[tuple[object, ...]], accounts: Sequence[str], arms: dict[str, str], regions: dict[str, str]
) -> list[tuple[object, ...]]:
    after: dict[str, float] = dict.fromkeys(accounts, 0.0)
    before: dict[str, float] = dict.fromkeys(accounts, 0.0)
    orders: dict[str, set[object]] = {account: set() for account in accounts}
    limit = (START + timedelta(days=ASSIGNED_DAY)).isoformat()
    for order, _, account, _, when, quantity, price, *_ in lines:
        spent = after if str(when) >= limit else before
        spent[str(account)] += float(str(quantity)) * float(str(price))
        if spent is after:
            orders[str(account)].add(order)
    return [
        (
            *(one, arms[one], regions[one], round(after[one], 2), len(orders[one]), int(bool(orders[one]))),
            *(round(before[one], 2), (i % 7 == 0 and 1) or 0, int(i % 5 != 0)),
        )
        for i, one in enumerate(accounts)
    ]


def _write(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows((columns, *rows))
