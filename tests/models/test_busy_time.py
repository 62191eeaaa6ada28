"""Busy time: quiet weeks are short, growth and lapses bend nothing, an empty history has days as they are."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from recsys.data.history import History
from recsys.models.order_process import ActivityClock

DAY = 86_400
NOW = 420 * DAY


def poisson_history(rng: np.random.Generator, intensity: np.ndarray, n: int, start: np.ndarray) -> History:
    """Orders of n accounts, each at one in ten days times the day's intensity, from its own first day on."""
    ordered = rng.random((n, len(intensity))) < 0.1 * intensity
    ordered &= np.arange(len(intensity)) >= start[:, None]
    account, day = np.nonzero(ordered)
    return History.from_frame(
        pd.DataFrame(
            {
                "order_id": np.arange(len(account)).astype(str),
                "account_id": account.astype(str),
                "product_id": "p",
                "ordered_at": pd.to_datetime(day * DAY + 3_600, unit="s", utc=True),
                "quantity": 1.0,
                "unit_price": 1.0,
            }
        )
    )


def test_a_quiet_quarter_is_half_as_long() -> None:
    intensity = np.ones(420)
    intensity[140:238] = 0.5
    history = poisson_history(np.random.default_rng(0), intensity, 800, np.zeros(800))
    clock = ActivityClock.of(history, NOW)
    quiet = np.diff(clock.days_since(np.array([238, 140]) * DAY))[0]
    usual = np.diff(clock.days_since(np.array([378, 280]) * DAY))[0]
    assert quiet / usual == pytest.approx(0.5, abs=0.05)
    assert clock.days_since(np.array([NOW - 420 * DAY]))[0] == pytest.approx(420, abs=0.01)


def test_accounts_that_arrive_late_make_no_day_longer() -> None:
    rng = np.random.default_rng(1)
    history = poisson_history(rng, np.ones(420), 800, rng.uniform(0, 400, 800))
    clock = ActivityClock.of(history, NOW)
    halves = np.diff(clock.days_since(np.array([NOW, NOW - 210 * DAY, NOW - 420 * DAY])))
    assert halves == pytest.approx([210, 210], rel=0.04)


def test_few_orders_leave_days_as_they_are() -> None:
    history = poisson_history(np.random.default_rng(2), np.ones(420), 1, np.zeros(1))
    days = ActivityClock.of(history, NOW).days_since(np.array([NOW - 100 * DAY]))
    assert days == pytest.approx([100], rel=0.1)
    nothing = ActivityClock.of(history.before(pd.Timestamp(0, unit="s", tz="UTC").to_pydatetime()), NOW)
    assert nothing.days_since(np.array([NOW - 3 * DAY, NOW])) == pytest.approx([3.0, 0.0])
