"""What accounts are expected to spend in a year: the law of orders by simulation, totals, limits, hard histories."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from recsys.data.history import SECONDS_A_DAY, History, epoch_seconds
from recsys.models.lifetime_value import COVERAGE, YEAR_DAYS, LifetimeValues, expected_orders, lifetime_values
from recsys.models.order_process import MbgNbd
from recsys.simulation.market import simulate_market

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PROOF = Path(__file__).resolve().parents[2] / "docs" / "proof" / "lifetime_value.json"
LAW = MbgNbd(r=0.8, alpha=40.0, a=0.6, b=4.0)


def drawn_orders(seed: int, n: int, seen: float, ahead: float) -> tuple[np.ndarray, ...]:
    """Return orders after the first, days since the first and the last, and orders ahead, drawn from `LAW`."""
    random = np.random.default_rng(seed)
    rate, lapse = random.gamma(LAW.r, 1 / LAW.alpha, n), random.beta(LAW.a, LAW.b, n)
    lifetime = random.geometric(lapse) - 1  # orders after the first; one may lapse after the first too
    gaps = random.exponential(1 / rate[:, None], (n, 400))
    times = np.cumsum(gaps, axis=1)
    alive = np.arange(400) < lifetime[:, None]
    repeats = ((times < seen) & alive).sum(axis=1)
    last = np.where(repeats > 0, times[np.arange(n), np.maximum(repeats - 1, 0)], 0.0)
    later = ((times >= seen) & (times < seen + ahead) & alive).sum(axis=1)
    return repeats.astype(float), np.full(n, seen), seen - last, later.astype(float)


def test_expected_orders_are_the_mean_of_what_comes_under_the_law() -> None:
    repeats, tenure, idle, later = drawn_orders(1, 30_000, 300.0, 365.0)
    expected = expected_orders(LAW, repeats, tenure, idle, 365.0)
    for few, many in ((0, 0), (1, 2), (3, 6), (7, 400)):
        part = (repeats >= few) & (repeats <= many)
        error = later[part].std() / np.sqrt(part.sum())
        assert abs(later[part].mean() - expected[part].mean()) < 4 * error + 0.01 * later[part].mean(), (few, many)


def test_hundreds_of_orders_and_a_century_overflow_nothing() -> None:
    many = expected_orders(LAW, np.array([0.0, 900.0]), np.array([0.0, 900.0]), np.array([0.0, 0.0]), 36_500.0)
    assert np.isfinite(many).all()
    assert many[1] > many[0] > 0


@pytest.fixture(scope="module")
def market() -> History:
    return market_history(3)


def market_history(seed: int, n_accounts: int = 1_000) -> History:
    """Return two years before `NOW` and the one after it."""
    made = simulate_market(n_accounts=n_accounts, n_products=200, seed=seed, days=731 + YEAR_DAYS, lines_per_order=4)
    return History.from_frame(made.orders)


def spent_after(history: History, now: datetime) -> np.ndarray:
    """Return what each account spent in the year after a moment."""
    later = history.between(now, YEAR_DAYS).known()
    return np.bincount(later.account, weights=later.revenue, minlength=history.n_accounts)


def judged(history: History, now: datetime) -> dict[str, Any]:
    """Return the forecast at a moment beside what came, and beside last year's revenue carried forward."""
    found, came = lifetime_values(history, epoch_seconds(now)), spent_after(history, now)
    known = ~np.isnan(found.expected)
    expected, came = found.expected[known], came[known]
    past = history.before(now).known()
    days = min((epoch_seconds(now) - int(past.seconds.min())) / SECONDS_A_DAY, YEAR_DAYS)
    latest = past.select(past.seconds >= epoch_seconds(now) - YEAR_DAYS * SECONDS_A_DAY)
    carried = np.bincount(latest.account, weights=latest.revenue * (YEAR_DAYS / days), minlength=len(known))[known]
    return {
        "accounts": int(known.sum()),
        "total": {"came": came.sum(), "expected": found.total, "low": found.total_low, "high": found.total_high},
        "carried_total": carried.sum(),
        "came_over_expected_by_tenth": tenths(expected, came),
        "came_over_carried_by_tenth": tenths(carried, came),
        "mean_absolute_error": {"expected": np.abs(expected - came).mean(), "carried": np.abs(carried - came).mean()},
        "root_mean_square_error": {
            "expected": np.sqrt(np.square(expected - came).mean()),
            "carried": np.sqrt(np.square(carried - came).mean()),
        },
        "accounts_within_their_limits": float(((came >= found.low[known]) & (came <= found.high[known])).mean()),
    }


def tenths(forecast: np.ndarray, came: np.ndarray) -> list[float]:
    """Return what came over what was foretold, by tenth of the forecast."""
    parts = np.array_split(np.argsort(forecast, kind="stable"), 10)
    return [round(float(came[part].sum() / max(forecast[part].sum(), 1e-9)), 3) for part in parts]


def test_a_market_of_known_truth_spends_what_was_expected(market: History) -> None:
    found = judged(market, NOW)
    assert found["total"]["low"] <= found["total"]["came"] <= found["total"]["high"]
    # Limits of single accounts hold at least the stated share: whole orders leave room (four standard errors).
    slack = 4 * np.sqrt(COVERAGE * (1 - COVERAGE) / found["accounts"])
    assert found["accounts_within_their_limits"] > COVERAGE - slack
    errors = found["root_mean_square_error"]
    assert errors["expected"] < errors["carried"]


def test_the_same_history_gives_the_same_values_and_later_lines_give_none(market: History) -> None:
    now = epoch_seconds(NOW)
    first, again = lifetime_values(market, now), lifetime_values(market.before(NOW), now)
    assert (first.total, first.total_low, first.total_high) == (again.total, again.total_low, again.total_high)
    for column in ("expected", "low", "high"):
        assert np.array_equal(getattr(first, column), getattr(again, column), equal_nan=True)
    assert np.isnan(first.expected).any(), "accounts that come only after the moment are among the rows"


def lines(*rows: tuple[str, str, float, float]) -> History:
    """Return a history of `(account, order, days before NOW, money)`."""
    frame = pd.DataFrame(rows, columns=["account_id", "order_id", "days", "unit_price"])
    frame["ordered_at"] = [NOW - timedelta(days=days) for days in frame.pop("days")]
    return History.from_frame(frame.assign(product_id="P", quantity=1.0))


def of(history: History) -> LifetimeValues:
    return lifetime_values(history, epoch_seconds(NOW))


@pytest.mark.parametrize(
    "make",
    [
        lambda: lines(("A", "1", 10, 20.0)),
        lambda: lines(("A", "1", 10, 20.0), ("A", "2", 10, 0.0), ("B", "3", 10, 30.0)),
        lambda: lines(*(("A", str(day), day, 50.0) for day in range(1, 200))),
        lambda: lines(("A", "1", 400, 0.0), ("B", "2", 20, 0.0)),
    ],
    ids=["one order", "all at one moment", "one account", "all for nothing"],
)
def test_hard_histories_have_finite_values_within_their_limits(make: Callable[[], History]) -> None:
    found = of(make())
    assert np.isfinite(found.expected).all()
    assert (found.low <= found.expected).all()
    assert (found.expected <= found.high).all()
    assert found.total == pytest.approx(found.expected.sum())


def test_without_an_order_there_is_no_value() -> None:
    later = lines(("A", "1", -10, 20.0))
    found = of(later)
    assert np.isnan(found.expected).all()
    assert (found.total, found.total_low, found.total_high) == (0.0, 0.0, 0.0)


def test_who_orders_often_and_for_much_is_worth_more_and_who_left_less() -> None:
    usual = [(f"C{n}", f"C{n}-{day}", day + n / 7, 100.0) for n in range(40) for day in range(5 + n, 500, 20 + 3 * n)]
    often = [("OFTEN", f"O{day}", day, 100.0) for day in range(5, 500, 15)]
    dear = [("DEAR", f"D{day}", day, 900.0) for day in range(20, 500, 77)]
    left = [("LEFT", f"L{day}", day, 100.0) for day in range(320, 500, 30)]
    history = lines(*usual, *often, *dear, *left)
    value = dict(zip(history.account_ids, of(history).expected, strict=True))
    assert value["OFTEN"] > 2 * value["C19"]  # every 77 days
    assert value["DEAR"] > 4 * value["C19"]
    assert value["LEFT"] < 0.7 * value["C3"]  # who ordered as often and goes on


@pytest.mark.proof
@pytest.mark.timeout(1_800)
def test_lifetime_values_beside_what_came(online_retail_history: History) -> None:
    found = judged(online_retail_history, datetime(2010, 8, 31, tzinfo=UTC))
    markets = [judged(market_history(seed, 1_500), NOW) for seed in range(20, 40)]
    covered = sum(each["total"]["low"] <= each["total"]["came"] <= each["total"]["high"] for each in markets)
    shares = [each["accounts_within_their_limits"] for each in markets]
    kept = {
        "machine": {
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
            "cores": os.cpu_count(),
        },
        "stated_coverage": COVERAGE,
        "online_retail_ii_from_2010_08_31": found,
        "simulated_markets": {
            "markets": len(markets),
            "totals_within_their_limits": covered,
            "accounts_within_their_limits": [min(shares), max(shares)],
            "came_over_expected": [round(each["total"]["came"] / each["total"]["expected"], 3) for each in markets],
        },
    }
    PROOF.write_text(json.dumps(kept, indent=1, default=float) + "\n", "utf-8")
    total = found["total"]
    assert total["low"] <= total["came"] <= total["high"], total
    assert found["root_mean_square_error"]["expected"] < found["root_mean_square_error"]["carried"]
    assert covered >= 11, covered  # of 20 at .8, one in a thousand has fewer
    assert min(shares) > COVERAGE - 0.05
