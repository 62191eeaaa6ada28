"""The baselines in the order in which reports print them."""

from __future__ import annotations

from training.baselines.account_cosine import AccountCosine
from training.baselines.ease import Ease
from training.baselines.popular import Popular, RecentlyPopular
from training.baselines.protocol import Baseline
from training.baselines.rule_confidence import RuleConfidence
from training.baselines.user_knn import UserKnn

HALF_LIVES_DAYS = (None, 90.0)


def lineup() -> tuple[Baseline, ...]:
    """Return one of each baseline, not fitted."""
    return (
        Popular(),
        RecentlyPopular(window_days=30),
        RuleConfidence(),
        *(AccountCosine(alpha, half_life) for half_life in HALF_LIVES_DAYS for alpha in (0.5, 0.7)),
        *(UserKnn(n, half_life) for half_life in HALF_LIVES_DAYS for n in (100, 300)),
        Ease(penalty=500.0),
        Ease(penalty=2_000.0),
    )
