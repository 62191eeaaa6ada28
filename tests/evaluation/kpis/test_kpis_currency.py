"""Order lines of several currencies are never added up."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from recsys.cli.kpis import kpis_command
from recsys.contracts import columns as c
from recsys.contracts.events import PostedLine
from recsys.errors import CurrencyError
from recsys.evaluation.kpis.report import kpis_from_tables
from recsys.evaluation.kpis.tables import EventTables, read_events
from recsys.events.memory import MemoryStore
from recsys.events.store import open_store

START = datetime(2024, 1, 8, tzinfo=UTC)
AS_OF = START + timedelta(days=60)


def lines(*orders: tuple[str, float, str | None]) -> pd.DataFrame:
    """One line an order: id, money, currency."""
    return pd.DataFrame(
        {
            c.ORDER_ID: [order for order, _, _ in orders],
            c.LINE_ID: "1",
            c.ACCOUNT_ID: [f"A{i}" for i in range(len(orders))],
            c.PRODUCT_ID: "p1",
            c.ORDERED_AT: [START + timedelta(days=day) for day in range(len(orders))],
            c.QUANTITY: 1.0,
            c.UNIT_PRICE: [money for _, money, _ in orders],
            c.CURRENCY: pd.Series([currency for _, _, currency in orders], dtype=object),
        }
    )


def posted(*orders: tuple[str, float, str | None]) -> EventTables:
    store = MemoryStore()
    store.append(
        [
            PostedLine(
                order_id=order,
                line_id="1",
                product_id="p1",
                quantity=1.0,
                ordered_at=START,
                recorded_at=START,
                account_id="B",
                unit_price=money,
                currency=currency,
            )
            for order, money, currency in orders
        ]
    )
    return read_events(store)


def test_posted_lines_of_another_currency_are_left_out_and_counted() -> None:
    events = posted(("b1", 1e6, "USD"), ("b2", 1e6, "USD"), ("b3", 1e6, "SEK"), ("b4", 7.0, "EUR"))
    found = kpis_from_tables(lines(("o1", 5.0, "EUR")), as_of=AS_OF, events=events, currency="EUR")
    assert (found.n_orders, found.currency) == (2, "EUR")
    assert found.get("aov", "history").figure.numerator == 5 + 7
    assert found.notes[0] == "Order lines that are not known to be in EUR are left out: 1 in SEK, 2 in USD."


def test_a_line_that_says_no_currency_is_in_the_only_one() -> None:
    events = posted(("b1", 7.0, None))
    found = kpis_from_tables(lines(("o1", 5.0, "EUR")), as_of=AS_OF, events=events)
    assert (found.get("aov", "history").figure.numerator, found.currency) == (5 + 7, "EUR")
    assert not any("left out" in note for note in found.notes)
    mixed = posted(("b1", 7.0, None), ("b2", 1e6, "USD"))
    found = kpis_from_tables(lines(("o1", 5.0, "EUR")), as_of=AS_OF, events=mixed, currency="EUR")
    assert found.get("aov", "history").figure.numerator == 5
    assert "left out: 1 in USD, 1 that say no currency." in found.notes[0]


def test_several_currencies_and_none_chosen_are_refused() -> None:
    orders = lines(("o1", 5.0, "EUR"), ("o2", 6.0, "USD"), ("o3", 7.0, "USD"))
    with pytest.raises(CurrencyError, match=r"currencies EUR \(1 lines\), USD \(2 lines\), must be one; choose"):
        kpis_from_tables(orders, as_of=AS_OF)
    with pytest.raises(CurrencyError, match="currency == 'SEK', must be one of EUR, USD"):
        kpis_from_tables(orders, as_of=AS_OF, currency="SEK")


def test_lines_at_or_after_as_of_say_nothing_about_the_currency() -> None:
    orders = lines(("o1", 5.0, "EUR"), ("o2", 6.0, "USD"))
    assert kpis_from_tables(orders, as_of=START + timedelta(hours=1)).currency == "EUR"


def test_the_command_keeps_the_currency_of_the_orders(tmp_path: Path) -> None:
    lines(("o1", 5.0, "EUR")).to_csv(tmp_path / "orders.csv", index=False)
    store = open_store(f"sqlite:///{tmp_path}/e.db")
    store.append(
        [
            PostedLine(
                order_id="b1",
                line_id="1",
                product_id="p1",
                quantity=1.0,
                ordered_at=START,
                recorded_at=START,
                unit_price=1e6,
                currency="USD",
            )
        ]
    )
    store.close()
    out = tmp_path / "kpis.json"
    kpis_command(
        orders=str(tmp_path / "orders.csv"), events=f"sqlite:///{tmp_path}/e.db", as_of="2024-03-01", format_="json",
        out=out,
    )  # fmt: skip
    document = json.loads(out.read_text("utf-8"))
    assert (document["currency"], document["n_orders"]) == ("EUR", 1)
    assert "1 in USD" in document["notes"][0]
