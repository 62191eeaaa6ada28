"""The figures of paired rounds: their interval by hand, and what counts as worse."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from tests.benchmarks.paired_releases import RatioInterval, is_within_bound, ratio_interval, summary


def test_the_interval_is_that_of_a_paired_t_test_on_logarithms() -> None:
    before, after = [100.0, 200.0, 50.0, 80.0], [90.0, 210.0, 40.0, 80.0]
    found = ratio_interval(before, after)
    test = stats.ttest_rel([math.log(one) for one in after], [math.log(one) for one in before])
    low, high = test.confidence_interval(0.95)
    assert found.ratio == pytest.approx((90 / 100 * 210 / 200 * 40 / 50 * 80 / 80) ** (1 / 4))
    assert (found.low, found.high) == pytest.approx((math.exp(low), math.exp(high)))


def test_equal_releases_have_a_ratio_of_one() -> None:
    assert ratio_interval([3.0, 5.0], [3.0, 5.0]) == RatioInterval(1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("measure", "interval", "within"),
    [
        ("POST: requests a second", RatioInterval(1.0, 0.91, 1.2), True),
        ("POST: requests a second", RatioInterval(1.0, 0.89, 1.2), False),
        ("POST: p99 ms at 200 a second", RatioInterval(1.0, 0.5, 1.09), True),
        ("POST: p99 ms at 200 a second", RatioInterval(1.0, 0.9, 1.11), False),
        ("recommend, account and cart: µs", RatioInterval(0.5, 0.4, 0.6), True),
    ],
)
def test_fewer_requests_and_more_time_are_worse(measure: str, interval: RatioInterval, within: bool) -> None:
    assert is_within_bound(measure, interval) is within


def test_a_measure_is_summed_up_over_its_rounds() -> None:
    figures = [(10.0, 5.0), (40.0, 20.0)]
    rounds = [{"before": {"a: µs": early}, "after": {"a: µs": late}} for early, late in figures]
    (found,) = summary(rounds).values()
    assert found == {"before": 20.0, "after": 10.0, "ratio": 0.5, "low": 0.5, "high": 0.5, "is_within_bound": True}
