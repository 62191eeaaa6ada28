"""The baselines in the order in which reports print them."""

from __future__ import annotations

from recsys.backtesting.account_cosine import AccountCosine
from recsys.backtesting.baseline import Baseline, Counted
from recsys.backtesting.ease import Ease
from recsys.backtesting.popular import Popular, RecentlyPopular
from recsys.backtesting.rule_confidence import RuleConfidence
from recsys.backtesting.user_knn import UserKnn

DECAYS: tuple[tuple[float | None, Counted], ...] = ((None, "every"), (90.0, "every"), (90.0, "latest"))
"""Half-life and what counts under it. The latest purchase alone makes the strongest rivals on Online Retail II."""


def lineup() -> tuple[Baseline, ...]:
    """Return one of each baseline, not fitted."""
    return (
        Popular(),
        RecentlyPopular(window_days=30),
        RuleConfidence(),
        *(AccountCosine(alpha, *decay) for decay in DECAYS for alpha in (0.5, 0.7)),
        *(UserKnn(n, *decay) for decay in DECAYS for n in (100, 300)),
        Ease(penalty=500.0),
        Ease(penalty=2_000.0),
    )
