"""A heavy-tailed population of accounts, samples of it as moments, and the exact bands of error rates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.stats import binom

from recsys.evaluation.statistics.metric import Metric, Ratio
from recsys.evaluation.statistics.moments import Moments

N_POOL = 200_000
BLOCK = 50

COLUMNS = (
    "revenue",
    "orders",
    "buyer",
    "revenue_before",
    "orders_before",
    "capped",
    "presented",
    "accepted",
    "attributed",
    "attrited",
    "squares",
)

METRICS = (
    Metric("revenue per account", Ratio("revenue"), role="primary"),
    Metric("revenue per account, CUPED", Ratio("revenue"), Ratio("revenue_before")),
    Metric("revenue per account, capped", Ratio("capped")),
    Metric("orders per account", Ratio("orders")),
    Metric("buyer rate", Ratio("buyer")),
    Metric("AOV", Ratio("revenue", "orders")),
    Metric("AOV, CUPED", Ratio("revenue", "orders"), Ratio("revenue_before", "orders_before")),
    Metric("orders per buyer", Ratio("orders", "buyer")),
    Metric("offer conversion", Ratio("accepted", "presented")),
    Metric("upsell and cross-sell rate", Ratio("attributed", "orders")),
    Metric("attrition", Ratio("attrited"), direction="lower_is_better"),
)


@dataclass(frozen=True)
class Population:
    """Accounts as rows of `COLUMNS`, shape `(N_POOL, k)`: the truth that samples are drawn from."""

    rows: np.ndarray

    def mean(self, metric: Metric) -> float:
        """The true value of a metric."""
        top = self.rows[:, COLUMNS.index(metric.value.numerator)].mean()
        if metric.value.denominator is None:
            return float(top)
        return float(top / self.rows[:, COLUMNS.index(metric.value.denominator)].mean())

    def blocks(self, rng: np.random.Generator, n_simulations: int, n: int) -> Iterator[np.ndarray]:
        """Samples of `n` accounts, shape `(BLOCK, n, k)` a block."""
        for start in range(0, n_simulations, BLOCK):
            size = min(BLOCK, n_simulations - start)
            yield self.rows[rng.integers(0, len(self.rows), (size, n))]

    def moments(self, rng: np.random.Generator, n_simulations: int, n: int) -> Moments:
        """Moments of `n_simulations` samples: leading axis `(n_simulations,)`."""
        means, covs = [], []
        for rows in self.blocks(rng, n_simulations, n):
            mean = rows.mean(axis=1)
            rows -= mean[:, None, :]
            means.append(mean)
            covs.append(np.matmul(rows.transpose(0, 2, 1), rows) / (n - 1))
        return Moments(COLUMNS, np.full(n_simulations, float(n)), np.concatenate(means), np.concatenate(covs))


def _orders_of(rng: np.random.Generator, level: np.ndarray, spend: np.ndarray) -> tuple[np.ndarray, ...]:
    """Orders, revenue and sum of squared order values of one period."""
    bought = rng.random(len(level)) < 1 / (1 + np.exp(0.8 - 0.9 * level))
    orders = bought * (1 + rng.poisson(np.exp(0.1 + 0.6 * level)))
    owner = np.repeat(np.arange(len(level)), orders)
    values = np.exp(3.4 + 0.7 * spend[owner] + 0.7 * rng.standard_normal(len(owner)))
    total = np.bincount(owner, values, len(level))
    return orders.astype(float), total, np.bincount(owner, values**2, len(level))


@pytest.fixture(scope="session")
def population() -> Population:
    """Accounts whose revenue has a coefficient of variation near 3 and depends on their own past."""
    rng = np.random.default_rng(20260101)
    level, spend = rng.standard_normal(N_POOL), rng.standard_normal(N_POOL)
    orders_before, revenue_before, _ = _orders_of(rng, level, spend)
    orders, revenue, squares = _orders_of(rng, level, spend)
    presented = rng.poisson(2 + 2 * (level > 0)).astype(float)
    accepted = rng.binomial(presented.astype(int), 1 / (1 + np.exp(3 - 0.8 * level))).astype(float)
    attributed = rng.binomial(orders.astype(int), 0.2).astype(float)
    attrited = (rng.random(N_POOL) < 0.15).astype(float)
    cap = np.quantile(revenue[revenue > 0], 0.99)
    columns = (
        revenue,
        orders,
        (orders > 0).astype(float),
        revenue_before,
        orders_before,
        np.minimum(revenue, cap),
        presented,
        accepted,
        attributed,
        attrited,
        squares,
    )
    return Population(np.column_stack(columns))


@pytest.fixture(scope="session")
def band() -> Callable[[float, int], tuple[float, float]]:
    """The exact binomial band that holds a rate estimated by `n` simulations with 99.9 %."""

    def limits(rate: float, n: int) -> tuple[float, float]:
        low, high = binom.interval(0.999, n, rate)
        return float(low / n), float(high / n)

    return limits


@pytest.fixture(scope="session")
def metrics() -> tuple[Metric, ...]:
    """Every metric that a readout of offers reports."""
    return METRICS
