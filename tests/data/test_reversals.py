"""Reversals matched by window functions against a loop that keeps a stack of sales."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta

import ibis
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.contracts import columns as c
from recsys.data.checks import REMAINING, UNMATCHED, net_reversals
from recsys.data.sources import connect

START = pd.Timestamp(2024, 1, 1)
COLUMNS = [c.SOURCE_ROW, c.ORDER_ID, c.ACCOUNT_ID, c.PRODUCT_ID, c.ORDERED_AT, c.QUANTITY, c.UNIT_PRICE]


def frame(events: list[tuple[str | None, str, int, float]]) -> pd.DataFrame:
    """Lines of `(account, product, day, quantity)`."""
    rows = [
        (row, f"o{row}", account, product, START + timedelta(days=day), quantity, 1.0)
        for row, (account, product, day, quantity) in enumerate(events, start=1)
    ]
    return pd.DataFrame(rows, columns=COLUMNS).astype({c.ACCOUNT_ID: "str"})


@pytest.fixture(scope="module")
def connection():
    return connect()


def netted(connection, lines: pd.DataFrame) -> dict[int, tuple[float, float]]:
    table = connection.create_table("lines", ibis.memtable(lines), temp=True, overwrite=True)
    result = net_reversals(table).to_pandas()
    return {row[c.SOURCE_ROW]: (row[REMAINING], row[UNMATCHED]) for row in result.to_dict("records")}


def by_hand(lines: pd.DataFrame) -> dict[int, tuple[float, float]]:
    """A stack of sales for each account and product; a reversal pops from its top."""
    left: dict[int, float] = {}
    unmatched: dict[int, float] = {}
    stacks: dict[tuple[str, str], list[int]] = defaultdict(list)
    known = lines[lines[c.ACCOUNT_ID].notna()].copy()
    known["reversal"] = known[c.QUANTITY] < 0
    known = known.sort_values([c.ORDERED_AT, "reversal", c.ORDER_ID, c.UNIT_PRICE, c.QUANTITY, c.SOURCE_ROW])
    for row in known.to_dict("records"):
        stack = stacks[row[c.ACCOUNT_ID], row[c.PRODUCT_ID]]
        if row[c.QUANTITY] > 0:
            left[row[c.SOURCE_ROW]] = row[c.QUANTITY]
            stack.append(row[c.SOURCE_ROW])
            continue
        wanted = -row[c.QUANTITY]
        while wanted > 0 and stack:
            taken = min(wanted, left[stack[-1]])
            left[stack[-1]] -= taken
            wanted -= taken
            if left[stack[-1]] == 0:
                stack.pop()
        unmatched[row[c.SOURCE_ROW]] = wanted
    return {row: (left.get(row, 0.0), unmatched.get(row, 0.0)) for row in {**left, **unmatched}}


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c", "d", None]),
        st.sampled_from(["p", "q"]),
        st.integers(0, 9),
        st.integers(-4, 6).filter(bool).map(float),
    ),
    min_size=1,
    max_size=120,
)


@settings(max_examples=25, deadline=None)
@given(events=EVENTS)
def test_windows_agree_with_a_stack(connection, events) -> None:
    lines = frame(events)
    found = netted(connection, lines)
    expected = by_hand(lines)
    assert {row: expected[row] for row in found} == found
    untouched = {row: value for row, value in expected.items() if row not in found}
    whole = dict(zip(lines[c.SOURCE_ROW], lines[c.QUANTITY], strict=True))
    assert all(value == (whole[row], 0.0) for row, value in untouched.items())


@settings(max_examples=15, deadline=None)
@given(events=EVENTS)
def test_units_are_conserved_and_never_negative(connection, events) -> None:
    lines = frame(events)
    found = netted(connection, lines)
    whole = dict(zip(lines[c.SOURCE_ROW], lines[c.QUANTITY], strict=True))
    assert all(0 <= remaining <= max(whole[row], 0) for row, (remaining, _) in found.items())
    kept = sum(remaining for remaining, _ in found.values())
    unmatched = sum(units for _, units in found.values())
    assert kept - unmatched == sum(whole[row] for row in found)


def test_the_latest_sale_gives_first(connection) -> None:
    lines = frame([("a", "p", 0, 5.0), ("a", "p", 1, 3.0), ("a", "p", 2, -4.0)])
    assert netted(connection, lines) == {1: (5.0 - (4.0 - 3.0), 0.0), 2: (0.0, 0.0), 3: (0.0, 0.0)}


def test_a_reversal_takes_nothing_from_a_later_sale(connection) -> None:
    lines = frame([("a", "p", 1, -2.0), ("a", "p", 2, 2.0)])
    assert netted(connection, lines) == {1: (0.0, 2.0), 2: (2.0, 0.0)}


def test_a_reversal_takes_nothing_from_another_account_or_product(connection) -> None:
    lines = frame([("a", "p", 0, 2.0), ("b", "q", 0, 2.0), ("a", "q", 1, -1.0)])
    assert netted(connection, lines) == {3: (0.0, 1.0)}


def test_dates_without_a_clock_put_the_sale_before_its_return(connection) -> None:
    lines = frame([("a", "p", 1, -2.0), ("a", "p", 1, 2.0)])
    assert netted(connection, lines) == {1: (0.0, 0.0), 2: (0.0, 0.0)}


def test_fractions_that_cancel_leave_nothing(connection) -> None:
    lines = frame([("a", "p", 0, 0.1), ("a", "p", 1, 0.2), ("a", "p", 2, -0.3)])
    assert netted(connection, lines) == {1: (0.0, 0.0), 2: (0.0, 0.0), 3: (0.0, 0.0)}


def test_a_sale_that_keeps_its_units_keeps_them_exactly(connection) -> None:
    third = 1 / 3
    lines = frame([("a", "p", 0, third), ("a", "p", 1, 2.0), ("a", "p", 2, -2.0)])
    assert netted(connection, lines)[1] == (third, 0.0)
