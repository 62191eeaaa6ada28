"""Small tables of order lines, written the way other people write them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

HEADER = ("order_id", "account_id", "product_id", "ordered_at", "quantity", "unit_price")
ROWS = (
    ("o1", "a1", "p1", "2024-01-01 10:00:00", "2", "10.0"),
    ("o1", "a1", "p2", "2024-01-01 10:00:00", "1", "5.5"),
    ("o2", "a2", "p1", "2024-01-03 09:30:00", "4", "9.0"),
    ("o3", "", "p3", "2024-01-05 12:00:00", "1", "1.25"),
)

WriteOrders = Callable[..., str]


@pytest.fixture
def write_orders(tmp_path: Path) -> WriteOrders:
    """Write a CSV of order lines: `write_orders(rows, header=..., name=...)` returns its path."""

    def write(rows: Sequence[Sequence[str]] = ROWS, header: Sequence[str] = HEADER, name: str = "orders.csv") -> str:
        path = tmp_path / name
        path.write_text("\n".join(",".join(line) for line in (header, *rows)) + "\n", encoding="utf-8")
        return str(path)

    return write
