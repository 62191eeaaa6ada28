"""How alive an account is: parameters found again, silence counted, seasons seen only with a year behind."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from recsys.data.history import History
from recsys.propensity.ordering import OrderLaw, fit_order_law, measure_activity, season_shift

DAY = 86_400


def history_of(rows: list[tuple[str, float]]) -> History:
    """A history of (account, day since 1970), each line an order of its own."""
    return History.from_frame(
        pd.DataFrame(
            {
                "order_id": [str(i) for i in range(len(rows))],
                "account_id": [row[0] for row in rows],
                "product_id": "p",
                "ordered_at": pd.to_datetime([row[1] * DAY for row in rows], unit="s", utc=True),
                "quantity": 1.0,
                "unit_price": 1.0,
            }
        )
    )


def test_the_law_of_simulated_orders_is_found_again() -> None:
    rng = np.random.default_rng(0)
    n, truth = 6_000, OrderLaw(2.0, 80.0, 0.6, 4.0)
    rate, lapse = rng.gamma(truth.r, 1 / truth.alpha, n), rng.beta(truth.a, truth.b, n)
    tenure = np.full(n, 500.0)
    repeats, last = np.zeros(n), np.zeros(n)
    alive = rng.random(n) > lapse
    moment = rng.exponential(1 / rate)
    while (going := alive & (moment < tenure)).any():
        repeats[going] += 1
        last[going] = moment[going]
        alive &= ~going | (rng.random(n) > lapse)
        moment = np.where(going, moment + rng.exponential(1 / rate), moment)
    law = fit_order_law(repeats, tenure, tenure - last)
    assert law.r / law.alpha == pytest.approx(truth.r / truth.alpha, rel=0.12)
    assert law.a / (law.a + law.b) == pytest.approx(0.6 / 4.6, abs=0.03)
    believed = law.alive(repeats, tenure, tenure - last)
    assert believed.mean() == pytest.approx(alive.mean(), abs=0.04)


def test_a_long_silence_of_a_frequent_account_looks_like_a_lapse() -> None:
    rows = [("busy", day) for day in range(0, 100, 5)] + [("slow", 0.0), ("slow", 95.0)]
    rows += [(f"other{i}", day) for i in range(20) for day in range(i, 200, 20 + i)]
    activity = measure_activity(history_of(rows), 200 * DAY)
    busy, slow = 0, len(activity.orders) - 1
    assert activity.orders[[busy, slow]].tolist() == [20, 2]
    assert activity.idle_days[[busy, slow]].tolist() == [105, 105]
    assert activity.alive[busy] < activity.alive[slow]


def test_seasons_need_a_year() -> None:
    rows = [(f"a{i}", 400.0 + i % 30) for i in range(3_000)] + [(f"b{i}", 430.0 + i % 335) for i in range(3_000)]
    history = history_of([*rows, ("first", 395.0)])
    now = 765 * DAY
    busy = season_shift(history, now, 30)
    assert busy == pytest.approx(np.log((3_000 + 100) / (6_000 * 30 / 365 + 100)), abs=0.01)
    assert season_shift(history, 700 * DAY, 30) is None
