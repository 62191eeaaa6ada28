"""From cleaned purchase history to an offer model: each step of training as a short function, in order.

`fit` is the whole of learning; it looks at nothing at or after `as_of`. This module is the composition root of
training: nothing else puts miners, models and the bundle together. `training.run` registers what it makes.

`FitConfig` is the whole configuration of a fit: one section a room, each with its own defaults.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from recsys.bundle.save import BundleDetails, save_bundle
from recsys.contracts.config import Config, deep_merge
from recsys.data.dataset import Dataset
from recsys.data.history import SECONDS_A_DAY, UNKNOWN_ACCOUNT, History, binary, epoch_seconds
from recsys.errors import EmptyDataError
from recsys.fitting.assembly import LearnedParts, OfferModelConfig, build_offer_model
from recsys.fitting.catalogue import check_catalogue
from recsys.fitting.links import CartWeights
from recsys.fitting.scoring_models import ScoringModels
from recsys.fitting.steps import (
    CANDIDATES_FORM,
    FRAME_FORM,
    LEARNED_FORM,
    OFFER_MODEL_FORM,
    Keep,
    Step,
    keep_nothing,
    no_progress,
)
from recsys.fitting.time_scales import TimeScales, with_time_scales
from recsys.ladder.edges import Ladder, LadderConfig, build_ladder
from recsys.mining.rules import RuleConfig, rules_frame
from recsys.models.candidates import Candidates
from recsys.models.cart import CartConfig, CartModel
from recsys.models.cart_curve import PlacedOrders, fit_cart_curve
from recsys.models.next_product.cold_start import ColdStartConfig, ColdStartModel
from recsys.models.next_product.model import NextProductConfig, NextProductModel
from recsys.models.next_product.pair_features import FeatureMaker
from recsys.models.next_product.ranker import PairRanker
from recsys.models.retrieval.retriever import Retriever
from recsys.models.upgrade.model import UpgradeConfig, UpgradeModel
from recsys.offer_model.tables import OfferModel
from recsys.ranking.config import RankingConfig
from recsys.threads import single_threaded

QUICK: dict[str, Any] = {
    "next_product": {
        "n_classifiers": 3,
        "cutoffs": {"n_cutoffs": 6},
        "sampling": {"train_accounts": 1_000, "calibration_accounts": 1_500},
        "features": {"per_channel": 30},
        "ranker": {"n_trees": 60, "learning_rate": 0.15},
    },
    "upgrades": {"enough_climbs": 2_000},
}
"""What a training run takes where a file says nothing else: less of the past than the models' own defaults, for a
first model in minutes. `training/configs/thorough.toml` gives the models all that they gain from."""


class FitStep(StrEnum):
    """The steps of a fit, by the names that people and metrics see."""

    HISTORY = "history"
    COMPLEMENTS = "complements"
    CART = "cart weights"
    LADDER = "ladder"
    NEXT_PRODUCT = "propensity to buy something new"
    UPGRADES = "propensity to upgrade"
    CANDIDATES = "candidates of each account"
    OFFERS = "offers and their reasons"


class FitConfig(Config):
    """How an offer model is learned; every section may be left out.

    Windows, half-lives, steps and the horizon that are not stated follow the data: see `recsys.fitting.time_scales`.

    Attributes:
        seed: of everything drawn at random; the same data, configuration and seed give the same bundle.
        rules: which pairs of products are complements.
        cart: what goes with a cart.
        ladder: which products are higher versions of which.
        next_product: who buys which new product next.
        launches: who buys what nobody has bought yet.
        upgrades: who climbs which rung next.
        offers: what of it all a bundle keeps.
        ranking: how its candidates become a slate.
    """

    seed: int = Field(default=0, ge=0)
    rules: RuleConfig = RuleConfig()
    cart: CartConfig = CartConfig()
    ladder: LadderConfig = LadderConfig()
    next_product: NextProductConfig = NextProductConfig()
    launches: ColdStartConfig = ColdStartConfig()
    upgrades: UpgradeConfig = UpgradeConfig()
    offers: OfferModelConfig = OfferModelConfig()
    ranking: RankingConfig = RankingConfig()

    @model_validator(mode="before")
    @classmethod
    def _quick(cls, given: Any) -> Any:  # noqa: ANN401 - anything may stand in a file
        return deep_merge(QUICK, given) if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _one_horizon(self) -> Self:
        if self.next_product.horizon_days != self.upgrades.horizon_days:
            raise ValueError(
                f"next_product.horizon_days == {self.next_product.horizon_days:g} and upgrades.horizon_days == "
                f"{self.upgrades.horizon_days}, must be equal: a bundle has one horizon; set both"
            )
        return self

    @property
    def horizon_days(self) -> int:
        """Days within which a purchase or a climb counts."""
        return self.upgrades.horizon_days


_C = TypeVar("_C", bound=FitConfig)


def with_horizon(config: _C, horizon_days: int) -> _C:
    """Return a configuration with every model learning one horizon, stated."""
    return config.model_copy(
        update={
            "next_product": config.next_product.model_copy(update={"horizon_days": horizon_days}),
            "upgrades": config.upgrades.model_copy(update={"horizon_days": horizon_days}),
        }
    )


@dataclass(frozen=True)
class FittedModels:
    """All that one training run learned.

    Attributes:
        config: every option, with the time scales of the data.
        history: the order lines it learned from.
        rules: mined pairs, both directions.
        ladder: the upgrade edges.
        models: what scores accounts, now or at a later moment.
        cross: scored cross-sell candidates.
        up: scored upgrade candidates.
        model: the tables that serve.
    """

    config: FitConfig
    history: History
    rules: pd.DataFrame
    ladder: Ladder
    models: ScoringModels
    cross: Candidates
    up: Candidates
    model: OfferModel


@single_threaded()
def fit(
    data: Dataset,
    config: FitConfig,
    *,
    step: Step = no_progress,
    keep: Keep = keep_nothing,
    ladder: Ladder | None = None,
    retrievers: Sequence[Retriever] | None = None,
    ranker: PairRanker | None = None,
    features: Sequence[FeatureMaker] | None = None,
) -> FittedModels:
    """Return what the order lines before `data.as_of` teach.

    Args:
        data: cleaned purchase history.
        config: every option.
        step: told of each step, for progress bars.
        keep: keeps the result of each step.
        ladder: a frozen ladder to use; default: built from the data.
        retrievers: what proposes candidates; default: what `config.next_product.sources` names.
        ranker: what orders them, any scikit-learn classifier; default: what `config.next_product.ranker` names.
        features: what describes them beside the engine's own features.

    Raises:
        EmptyDataError: no line has an account.
        ConfigError, DataError: an attribute, an address or a language of a table is none; see `check_catalogue`.
        PluginError: a retriever, the ranker or a feature maker is not what it must be; said before anything is learned.
    """
    NextProductModel(config.next_product, retrievers, ranker, features).check_parts()
    check_catalogue(data.products, data.accounts, config.offers.attributes)
    with step(FitStep.HISTORY):
        history = known_history(data)
        config = with_time_scales(config, TimeScales.of(history))
    ranking = NextProductModel(config.next_product, retrievers, ranker, features)
    with step(FitStep.COMPLEMENTS):
        rules = keep(FitStep.COMPLEMENTS, lambda: rules_frame(data.orders, config.rules, data.products), FRAME_FORM)
    with step(FitStep.CART):
        cart = keep(FitStep.CART, lambda: fit_cart(history, data.as_of, config), LEARNED_FORM)
    with step(FitStep.LADDER):
        edges = Ladder(keep(FitStep.LADDER, lambda: _ladder(data, history, config, ladder).edges, FRAME_FORM))
    with step(FitStep.NEXT_PRODUCT):
        next_product = keep(
            FitStep.NEXT_PRODUCT, lambda: fit_next_product(ranking, data, history, config), LEARNED_FORM
        )
        cold_start = keep(
            f"{FitStep.NEXT_PRODUCT}: launches", lambda: _fit_cold_start(data, history, config), LEARNED_FORM
        )
        next_product.products_ = cold_start.products_ = data.products
        next_product.accounts_ = data.accounts
    with step(FitStep.UPGRADES):
        upgrades = keep(FitStep.UPGRADES, lambda: fit_upgrades(data, history, edges, config), LEARNED_FORM)
        upgrades.ladder_, upgrades.accounts_ = edges, data.accounts
    models = ScoringModels(next_product, cold_start, upgrades)
    with step(FitStep.CANDIDATES):
        cross = keep(FitStep.CANDIDATES, lambda: models.cross_sell(history, data.as_of), CANDIDATES_FORM)
        up = keep(f"{FitStep.CANDIDATES}: upsell", lambda: models.upsell(history, data.as_of), CANDIDATES_FORM)
    with step(FitStep.OFFERS):
        learned = LearnedParts(cross=cross, up=up, rules=rules, ladder=edges.edges, cart=cart)
        model = keep(FitStep.OFFERS, lambda: _offer_model(data, history, learned, config), OFFER_MODEL_FORM)
    return FittedModels(config, history, rules, edges, models, cross, up, model)


def fit_next_product(model: NextProductModel, data: Dataset, history: History, config: FitConfig) -> NextProductModel:
    """Return the model of who buys which new product next after it learned from all lines of a history."""
    model.fit(history, data.products, data.accounts, data.as_of, part_rng(config, "next_product"))
    return model


def fit_upgrades(data: Dataset, history: History, ladder: Ladder, config: FitConfig) -> UpgradeModel:
    """Return who climbs which rung of a ladder next, learned from all lines of a history."""
    model = UpgradeModel(config.upgrades)
    model.fit(history, data.products, data.accounts, ladder, data.as_of, part_rng(config, "upgrades"))
    return model


def _fit_cold_start(data: Dataset, history: History, config: FitConfig) -> ColdStartModel:
    model = ColdStartModel(config.next_product.horizon_days, config.launches)
    model.fit(history, data.products, data.as_of, part_rng(config, "launches"))
    return model


def _ladder(data: Dataset, history: History, config: FitConfig, given: Ladder | None) -> Ladder:
    return build_ladder(data.products, history, data.upgrades, config.ladder) if given is None else given


def _offer_model(data: Dataset, history: History, learned: LearnedParts, config: FitConfig) -> OfferModel:
    return build_offer_model(
        history,
        data.products,
        data.accounts,
        learned,
        config.offers,
        as_of=data.as_of,
        horizon_days=config.horizon_days,
        currency=data.currency,
    )


def fit_cart(history: History, as_of: datetime, config: FitConfig) -> CartWeights | None:
    """Return the weights that rank what goes with a cart, learned from all orders, of known accounts or not.

    None where too few orders hold two products; the confidences of the rules stand in then.
    """
    shape = (history.n_orders, history.n_products)
    placed, account = np.zeros(shape[0]), np.full(shape[0], UNKNOWN_ACCOUNT)
    placed[history.order], account[history.order] = history.seconds, history.account
    age_days = (epoch_seconds(as_of) - placed) / SECONDS_A_DAY
    orders = PlacedOrders(binary(history.order, history.product, shape), age_days, account)
    curve = fit_cart_curve(orders, config.horizon_days, config.cart, part_rng(config, "cart"))
    if curve is None:
        return None
    cart = CartModel(config.cart).fit(orders.products, age_days)
    return CartWeights(cart.weights_, cart.lifts_, cart.prior_, curve)


def write_bundle(
    folder: Path, fitted: FittedModels, data: Dataset, config: FitConfig, metrics: Mapping[str, float] | None = None
) -> None:
    """Write what was learned as a bundle, with the figures that it should carry."""
    frames = {"rules": fitted.rules, "ladder": fitted.ladder.edges}
    save_bundle(folder, fitted.model, frames=frames, details=bundle_details(data, config, metrics))


def bundle_details(data: Dataset, config: FitConfig, metrics: Mapping[str, float] | None = None) -> BundleDetails:
    """Return what a bundle says of what it was learned from."""
    return BundleDetails(
        data_fingerprint=data.fingerprint,
        config=config.model_dump(mode="json"),
        ranking=config.ranking,
        metrics=dict(metrics or {}),
    )


def known_history(data: Dataset) -> History:
    """Return the order lines before `data.as_of`.

    Raises:
        EmptyDataError: no line has an account.
    """
    history = data.history().before(data.as_of)
    if not len(history.known()):
        raise EmptyDataError(
            "no order line has an account, so there is nobody to make offers to; name its column in "
            "columns= or the map, as account_id=COLUMN"
        )
    return history


def part_rng(config: FitConfig, part: str) -> np.random.Generator:
    """Each part draws from a stream of its own, so that one part's draws never move another's."""
    return np.random.default_rng([config.seed, *part.encode()])
