from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from recsys.contracts import columns as c
from recsys.data.history import History
from recsys.errors import EmptyDataError
from recsys.mining.follow_ons import FOLLOW_ON_COLUMNS, FollowOnConfig, follow_ons

DAY_0 = pd.Timestamp("2026-01-01", tz="UTC")
LINE = st.tuples(st.sampled_from(["x", "y", "z", None]), st.sampled_from("abcd"), st.integers(0, 30))


def history(lines):
    """Lines are (account, product, day); each day of an account is one order."""
    frame = pd.DataFrame(lines, columns=[c.ACCOUNT_ID, c.PRODUCT_ID, "day"])
    return History.from_frame(
        pd.DataFrame(
            {
                c.ORDER_ID: [f"{account}-{day}" for account, _, day in lines],
                c.ACCOUNT_ID: frame[c.ACCOUNT_ID].astype(object),
                c.PRODUCT_ID: frame[c.PRODUCT_ID],
                c.ORDERED_AT: DAY_0 + pd.to_timedelta(frame["day"].to_numpy(), unit="D"),
                c.QUANTITY: 1.0,
                c.UNIT_PRICE: 1.0,
            }
        )
    )


def brute_force(lines, within_days):
    """Count every step in plain Python: {(a, b): (at risk, made, base rate)}."""
    last = max(day for _, _, day in lines)
    first: dict[tuple[Any, Any], Any] = {}
    for account, product, day in sorted(lines, key=lambda line: line[2]):
        if account is not None:
            first.setdefault((account, product), day)
    anchors = [(account, a, day) for (account, a), day in first.items() if day + within_days <= last]

    def share(b, anchors):
        at_risk = [(u, day) for u, a, day in anchors if a != b and first.get((u, b), last + 1) > day]
        made = [1 for u, day in at_risk if (u, b) in first and first[u, b] <= day + within_days]
        return len(at_risk), len(made)

    products = sorted({product for _, product, _ in lines})
    found = {}
    for a in products:
        for b in products:
            at_risk, made = share(b, [anchor for anchor in anchors if anchor[1] == a])
            if a != b and made:
                found[a, b] = (at_risk, made, share(b, anchors)[1] / share(b, anchors)[0])
    return found


def test_a_step_written_out():
    # Five accounts buy a on day 0; v and w then b within 10 days, x too late, y had it before, z never.
    starts = [(account, "a", 5) for account in "vwxyz"]
    lines = [*starts, ("v", "b", 8), ("w", "b", 15), ("x", "b", 16), ("y", "b", 1), ("q", "c", 40)]
    found = follow_ons(history(lines), FollowOnConfig(within_days=10, min_accounts=2))
    row = found[(found[c.ANTECEDENT_ID] == "a") & (found[c.CONSEQUENT_ID] == "b")].iloc[0]
    assert (row[c.N_ANTECEDENT], row[c.N_BOTH], row[c.CONFIDENCE]) == (4, 2, 2 / 4)
    assert row[c.BASE_RATE] == 2 / 4  # only a's first purchases come before b
    assert row[c.LIFT] == 1.0
    assert row[c.HORIZON_DAYS] == 10
    known = binomtest(2, 4).proportion_ci(0.95, method="wilson")
    assert (row[c.CONFIDENCE_LOW], row[c.CONFIDENCE_HIGH]) == pytest.approx((known.low, known.high), abs=1e-12)
    assert list(found) == list(FOLLOW_ON_COLUMNS)


@settings(max_examples=40, deadline=None)
@given(lines=st.lists(LINE, min_size=1, max_size=30), within_days=st.integers(1, 12))
def test_steps_equal_those_counted_by_hand(lines, within_days):
    if all(account is None for account, _, _ in lines):
        return
    found = follow_ons(history(lines), FollowOnConfig(within_days=within_days, min_accounts=1))
    rows = zip(
        zip(found[c.ANTECEDENT_ID], found[c.CONSEQUENT_ID], strict=True),
        zip(found[c.N_ANTECEDENT], found[c.N_BOTH], found[c.BASE_RATE].round(12), strict=True),
        strict=True,
    )
    known = brute_force(lines, within_days)
    assert dict(rows) == {pair: (risk, made, round(base, 12)) for pair, (risk, made, base) in known.items()}


def test_fewer_accounts_than_asked_for_are_no_step():
    lines = [(account, product, day) for account in "vwxyz" for product, day in (("a", 1), ("b", 3))]
    lines.append(("q", "c", 99))
    assert len(follow_ons(history(lines), FollowOnConfig())) == 1
    assert len(follow_ons(history(lines), FollowOnConfig(min_accounts=6))) == 0


def test_what_stands_in_one_order_is_no_step():
    lines = [(account, product, 1) for account in "vwxyz" for product in "ab"] + [("q", "c", 99)]
    assert len(follow_ons(history(lines), FollowOnConfig())) == 0


def test_a_window_that_has_not_ended_does_not_count():
    lines = [(account, product, day) for account in "vwxyz" for product, day in (("a", 1), ("b", 3))]
    assert len(follow_ons(history([*lines, ("q", "c", 60)]), FollowOnConfig(within_days=60))) == 0
    assert len(follow_ons(history([*lines, ("q", "c", 61)]), FollowOnConfig(within_days=60))) == 1


def test_the_interval_is_of_the_level_asked_for():
    lines = [(account, product, day) for account in "vwxyz" for product, day in (("a", 1), ("b", 3))]
    lines.append(("q", "c", 99))
    wide, narrow = (
        follow_ons(history(lines), FollowOnConfig(confidence_level=level))[c.CONFIDENCE_LOW][0] for level in (0.99, 0.5)
    )
    assert wide < narrow


def test_one_product_gives_an_empty_frame_of_the_same_types():
    empty = follow_ons(history([("v", "a", 1), ("v", "a", 90)]), FollowOnConfig())
    lines = [(account, product, day) for account in "vwxyz" for product, day in (("a", 1), ("b", 3))]
    full = follow_ons(history([*lines, ("q", "c", 99)]), FollowOnConfig())
    assert len(empty) == 0
    assert empty.dtypes.to_dict() == full.dtypes.to_dict()


def test_without_accounts_there_is_nothing_to_follow():
    with pytest.raises(EmptyDataError, match="at least one is needed"):
        follow_ons(history([(None, "a", 1)]), FollowOnConfig())
