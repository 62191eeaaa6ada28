"""From cleaned purchase history to an offer model: each step of training as a short function, in order.

`fit` is the whole of learning; it looks at nothing at or after `as_of`. This module is the composition root of
training: nothing else puts miners, models and the bundle together. `training.run` registers what it makes.

`FitConfig` is the whole configuration of a fit: one section a room, each with its own defaults.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from recsys.bundle.save import BundleDetails, save_bundle
from recsys.contracts.config import Config
from recsys.data.dataset import Dataset
from recsys.data.history import SECONDS_A_DAY, History, binary, epoch_seconds
from recsys.errors import EmptyDataError
from recsys.fitting.assembly import LearnedParts, OfferModelConfig, build_offer_model
from recsys.fitting.links import CartWeights
from recsys.fitting.scoring_models import ScoringModels
from recsys.ladder.edges import Ladder, LadderConfig, build_ladder
from recsys.mining.rules import RuleConfig, mine_rules
from recsys.models.candidates import Candidates
from recsys.models.cart import CartConfig, CartModel, fit_cart_curve
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
        "n_classifiers": 2,
        "cutoffs": {"n_cutoffs": 4, "step_days": 15.0},
        "sampling": {"train_accounts": 500, "calibration_accounts": 1_500},
        "features": {"per_channel": 30},
        "ranker": {"n_trees": 60, "learning_rate": 0.15},
    },
    "upgrades": {"enough_climbs": 2_000},
}
"""What a training run takes where a file says nothing else: less of the past than the models' own defaults, for a
first model in minutes. `training/configs/thorough.toml` gives the models all that they gain from."""


class FitConfig(Config):
    """How an offer model is learned; every section may be left out.

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


def deep_merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Return `base` with what `over` says, section by section.

    >>> deep_merge({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}, "b": 4})
    {'a': {'x': 1, 'y': 3}, 'b': 4}
    """
    both = dict(base)
    for key, value in over.items():
        known = both.get(key)
        both[key] = deep_merge(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return both


Step = Callable[[str], AbstractContextManager[object]]
"""Announces a step by name for as long as it runs."""


@dataclass(frozen=True)
class FittedModels:
    """All that one training run learned.

    Attributes:
        history: the order lines it learned from.
        rules: mined pairs, both directions.
        ladder: the upgrade edges.
        models: what scores accounts, now or at a later moment.
        cross: scored cross-sell candidates.
        up: scored upgrade candidates.
        model: the tables that serve.
    """

    history: History
    rules: pd.DataFrame
    ladder: Ladder
    models: ScoringModels
    cross: Candidates
    up: Candidates
    model: OfferModel


def no_progress(_name: str) -> AbstractContextManager[object]:
    """Announce nothing."""
    return nullcontext()


@single_threaded()
def fit(
    data: Dataset,
    config: FitConfig,
    *,
    step: Step = no_progress,
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
        ladder: a frozen ladder to use; default: built from the data.
        retrievers: what proposes candidates; default: what `config.next_product.sources` names.
        ranker: what orders them, any scikit-learn classifier; default: what `config.next_product.ranker` names.
        features: what describes them beside the engine's own features.

    Raises:
        EmptyDataError: no line has an account.
        PluginError: a retriever, the ranker or a feature maker is not what it must be; said before anything is learned.
    """
    next_product = NextProductModel(config.next_product, retrievers, ranker, features)
    next_product.check_parts()
    with step("history"):
        history = known_history(data)
    with step("complements"):
        rules = mine_rules(data.orders, config.rules, data.products)
    with step("cart weights"):
        cart = fit_cart(history, data.as_of, config)
    with step("ladder"):
        edges = build_ladder(data.products, history, data.upgrades, config.ladder) if ladder is None else ladder
    with step("propensity to buy something new"):
        next_product.fit(history, data.products, data.accounts, data.as_of, part_rng(config, "next_product"))
        cold_start = ColdStartModel(config.next_product.horizon_days, config.launches)
        cold_start.fit(history, data.products, data.as_of, part_rng(config, "launches"))
    with step("propensity to upgrade"):
        upgrades = UpgradeModel(config.upgrades)
        upgrades.fit(history, data.products, data.accounts, edges, data.as_of, part_rng(config, "upgrades"))
    with step("candidates of each account"):
        models = ScoringModels(next_product, cold_start, upgrades)
        cross, up = models.cross_sell(history, data.as_of), models.upsell(history, data.as_of)
    with step("offers and their reasons"):
        learned = LearnedParts(cross=cross, up=up, rules=rules, ladder=edges.edges, cart=cart)
        model = build_offer_model(
            history,
            data.products,
            data.accounts,
            learned,
            config.offers,
            as_of=data.as_of,
            horizon_days=config.horizon_days,
            currency=data.currency,
        )
    return FittedModels(history, rules, edges, models, cross, up, model)


def fit_cart(history: History, as_of: datetime, config: FitConfig) -> CartWeights | None:
    """Return the weights that rank what goes with a cart, learned from all orders, of known accounts or not.

    None where too few orders hold two products; the confidences of the rules stand in then.
    """
    orders = binary(history.order, history.product, (history.n_orders, history.n_products))
    placed = np.zeros(history.n_orders)
    placed[history.order] = history.seconds
    age_days = (epoch_seconds(as_of) - placed) / SECONDS_A_DAY
    curve = fit_cart_curve(orders, age_days, config.cart, part_rng(config, "cart"))
    if curve is None:
        return None
    cart = CartModel(config.cart).fit(orders, age_days)
    return CartWeights(cart.weights_, cart.prior_, curve)


def write_bundle(
    folder: Path, fitted: FittedModels, data: Dataset, config: FitConfig, metrics: Mapping[str, float] | None = None
) -> None:
    """Write what was learned as a bundle, with the figures that it should carry."""
    save_bundle(
        folder,
        fitted.model,
        frames={"rules": fitted.rules, "ladder": fitted.ladder.edges},
        details=BundleDetails(
            data_fingerprint=data.fingerprint,
            config=config.model_dump(mode="json"),
            ranking=config.ranking,
            metrics=dict(metrics or {}),
        ),
    )


def known_history(data: Dataset) -> History:
    """Return the order lines before `data.as_of`.

    Raises:
        EmptyDataError: no line has an account.
    """
    history = data.history().before(data.as_of)
    if not len(history.known()):
        raise EmptyDataError(
            "no order line has an account, so there is nobody to make offers to; map the column with "
            "--map account_id=COLUMN"
        )
    return history


def part_rng(config: FitConfig, part: str) -> np.random.Generator:
    """Each part draws from a stream of its own, so that one part's draws never move another's."""
    return np.random.default_rng([config.seed, *part.encode()])
