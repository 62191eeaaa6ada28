"""How alive an account is: parameters found again, silence counted, seasons seen only with a year behind."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from recsys.data.history import History
from recsys.models.order_process import (
    MbgNbd,
    OrderActivity,
    expected_log_orders,
    fit_order_law,
    log_orders,
    measure_activity,
)

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
    n, truth = 6_000, MbgNbd(2.0, 80.0, 0.6, 4.0)
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
    assert activity.idle_days[[busy, slow]] == pytest.approx([105, 105], rel=0.01)  # in busy days
    assert activity.alive[busy] < activity.alive[slow]


def test_seasons_need_a_year() -> None:
    rows = [(f"a{i}", 400.0 + i % 30) for i in range(3_000)] + [(f"b{i}", 430.0 + i % 335) for i in range(3_000)]
    history = history_of([*rows, ("first", 395.0)])
    assert expected_log_orders(history, 765 * DAY, 30) == pytest.approx(np.log(3_000 + 100), abs=1e-9)
    assert expected_log_orders(history, 700 * DAY, 30) is None
    assert log_orders(history, 400 * DAY, 30) == pytest.approx(np.log(3_000 + 100), abs=1e-9)


def test_growth_of_the_last_quarter_is_expected_to_last() -> None:
    first_year, second_year = range(365), range(365, 470)
    rows = [(f"a{day}{i}", float(day)) for day in first_year for i in range(10)]
    rows += [(f"b{day}{i}", float(day)) for day in second_year for i in range(20)]
    seen = expected_log_orders(history_of(rows), 470 * DAY, 30)
    # 300 orders a year ago; the last 90 days had 1800, those a year before 900; 100 is added to each count
    assert seen == pytest.approx(np.log(300 + 100) + np.log(1_800 + 100) - np.log(900 + 100), abs=1e-9)


def test_the_chance_of_an_order_by_hand() -> None:
    activity = OrderActivity(*(np.array([value]) for value in (4.0, 100.0, 10.0, 0.05, 2.0, 0.9)))
    # a Gamma(2, 40) rate: no order of the kind in 30 days with (40 / (40 + 0.5 * 30))^2
    expected = 0.9 * (1 - (40 / 55) ** 2)
    assert activity.chance(np.array([0.5]), 30, np.array([0], dtype=np.int32)) == pytest.approx([expected])
