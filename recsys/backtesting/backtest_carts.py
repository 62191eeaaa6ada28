"""Cart completion in the backtest: the engine of the saved bundle beside the pair measures, at each cutoff."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import numpy as np

from recsys.backtesting.backtest import BacktestConfig, CartScorer
from recsys.backtesting.cart_baselines import CartMethod, cart_lineup
from recsys.backtesting.cart_completion import CartCompletion, EngineCart, complete_carts
from recsys.backtesting.cart_task import split_carts
from recsys.data.history import History
from recsys.errors import EmptyDataError
from recsys.ranking.engine import OfferEngine

EngineAt = Callable[[datetime], OfferEngine]
"""Loads the engine of the bundle that was saved at a cutoff."""

CART_ALONE, CART_AND_ACCOUNT, CART_AS_SERVED = "engine: cart alone", "engine: cart and account", "engine: as served"


def cart_scorer(history: History, config: BacktestConfig, engine_at: EngineAt | None) -> CartScorer:
    """Return what scores cart completion at a cutoff: None where no later order holds two products.

    Args:
        history: the whole history.
        config: horizon, k, most carts, seed and bootstrap are taken from it.
        engine_at: the engine to score beside the pair measures; None: the pair measures alone.
    """

    def score(cutoff: datetime) -> CartCompletion | None:
        # A stream of its own: that carts are scored moves no other interval.
        rng = np.random.default_rng([config.seed, *b"carts"])
        try:
            split = split_carts(history, cutoff, config.horizon_days, config.max_carts, rng)
        except EmptyDataError:
            return None
        engine = () if engine_at is None else engine_methods(engine_at(cutoff), history)
        return complete_carts(split.task, (*cart_lineup(split.orders), *engine), config.k, rng, config.bootstrap)

    return score


def engine_methods(engine: OfferEngine, history: History) -> tuple[CartMethod, ...]:
    """Return the engine asked with the cart alone, with the account too, and as it serves: value and diversity on."""
    ids = history.account_ids, history.product_ids
    return (
        EngineCart(engine, *ids, name=CART_ALONE, with_account=False),
        EngineCart(engine, *ids, name=CART_AND_ACCOUNT),
        EngineCart(engine, *ids, name=CART_AS_SERVED, raw=False),
    )
