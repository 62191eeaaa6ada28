"""Trains the engine at a cutoff of the backtest and lets the saved bundle answer, also for cart completion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from recsys.arrays import RowArray
from recsys.backtesting.backtest import BacktestConfig, CartScorer, Trainer
from recsys.backtesting.cart_completion import CartCompletion, EngineCart, complete_carts
from recsys.backtesting.cart_task import CartMethod, cart_lineup, split_carts
from recsys.bundle.load import load_bundle
from recsys.contracts.offers import OfferRequest
from recsys.data.dataset import Dataset
from recsys.data.history import History, codes_of
from recsys.errors import EmptyDataError
from recsys.fitting.pipeline import FitConfig, fit, write_bundle
from recsys.fitting.steps import Step, no_progress
from recsys.ladder.edges import Ladder
from recsys.models.candidates import NO_PRODUCT, Candidates
from recsys.ranking.engine import OfferEngine

Read = Callable[[datetime], Dataset]
"""Reads the same sources with nothing at or after a moment."""


@dataclass(frozen=True)
class BundleTrained:
    """What one training run hands to the backtest, over the vocabularies of the whole history.

    Attributes:
        raw: the ranker's cross-sell candidates.
        upgrades: the upgrade model's candidates.
        engine: over the model of the saved bundle.
        history: the whole history, whose rows everything names.
    """

    raw: Candidates
    upgrades: Candidates
    engine: OfferEngine
    history: History

    def served(self, accounts: RowArray, k: int) -> RowArray:
        """Return the cross-sell that the engine answers, value and diversity on, `(n, k)`, -1 where there is less."""
        row_of = {product_id: row for row, product_id in enumerate(self.history.product_ids.tolist())}
        lists = np.full((len(accounts), k), -1, dtype=np.int32)
        for place, account in enumerate(accounts):
            request = OfferRequest(
                account_id=str(self.history.account_ids[account]), kinds=("cross_sell",), limit=k, explain="none"
            )
            offers = self.engine.recommend(request).offers
            lists[place, : len(offers)] = [row_of[offer.product_id] for offer in offers]
        return lists


def freeze_ladder(read: Read, first_cutoff: datetime, config: FitConfig) -> Ladder:
    """Return the ladder of the data before the first cutoff: later families and prices may not leak into it."""
    return Ladder.build(read(first_cutoff), config.ladder)


def pipeline_trainer(
    read: Read, history: History, config: FitConfig, ladder: Ladder, folder: Path, step: Step = no_progress
) -> Trainer:
    """Return what trains at a cutoff, saves the bundle under `folder` and loads it again to serve from.

    Args:
        read: reads the sources with nothing at or after a moment.
        history: the whole history; its accounts and products contain those of every earlier reading.
        config: of the training runs.
        ladder: frozen before the first cutoff.
        folder: gets one bundle a cutoff.
        step: told of each step of each training run.
    """

    def train(cutoff: datetime) -> BundleTrained:
        data = read(cutoff)
        fitted = fit(data, config, step=step, ladder=ladder)
        path = bundle_at(folder, cutoff)
        write_bundle(path, fitted, data, fitted.config)
        return BundleTrained(
            raw=over_history(fitted.cross, fitted.history, history),
            upgrades=over_history(fitted.up, fitted.history, history),
            engine=load_bundle(path).engine(),
            history=history,
        )

    return train


def bundle_at(folder: Path, cutoff: datetime) -> Path:
    """Return where the bundle of a cutoff stands."""
    return folder / f"{cutoff:%Y-%m-%d}"


def over_history(candidates: Candidates, learned: History, whole: History) -> Candidates:
    """Return candidates whose rows point into `whole` instead of into the history they were learned from.

    Both vocabularies are sorted, so that the order of accounts, and with it the order of candidates, stays.
    """
    accounts = codes_of(learned.account_ids, whole.account_ids)
    products = codes_of(learned.product_ids, whole.product_ids)
    lower = candidates.from_product
    return replace(
        candidates,
        account=accounts[candidates.account],
        product=products[candidates.product],
        from_product=np.where(lower == NO_PRODUCT, NO_PRODUCT, products[lower]).astype(np.int32),
    )


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
