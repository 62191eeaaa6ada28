"""The whole configuration of a fit: one section a room, each with its own defaults."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator

from recsys.contracts.config import Config
from recsys.fitting.assembly import OfferModelConfig
from recsys.ladder.edges import LadderConfig
from recsys.mining.rules import RuleConfig
from recsys.models.cart import CartConfig
from recsys.models.next_product.cold_start import ColdStartConfig
from recsys.models.next_product.model import NextProductConfig
from recsys.models.upgrade.model import UpgradeConfig
from recsys.ranking.config import RankingConfig

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
