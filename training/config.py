"""The whole configuration of a training run: one section a room, each with its own defaults."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from recsys.contracts.config import Config
from recsys.mining.cart import CartConfig
from recsys.mining.ladder import LadderConfig
from recsys.mining.rules import RuleConfig
from recsys.propensity.climbs import UpgradeConfig
from recsys.propensity.next_product import NextProductConfig
from recsys.ranking.assembly import OfferModelConfig
from recsys.ranking.engine import RankingConfig


class TrainConfig(Config):
    """What `offers train --config FILE` reads (TOML); every section may be left out.

    Attributes:
        seed: of everything drawn at random; the same data, configuration and seed give the same bundle.
        rules: which pairs of products are complements.
        cart: what goes with a cart.
        ladder: which products are higher versions of which.
        next_product: who buys which new product next.
        upgrades: who climbs which rung next.
        offers: what of it all a bundle keeps.
        ranking: how its candidates become a slate.
    """

    seed: int = Field(default=0, ge=0)
    rules: RuleConfig = RuleConfig()
    cart: CartConfig = CartConfig()
    ladder: LadderConfig = LadderConfig()
    next_product: NextProductConfig = NextProductConfig()
    upgrades: UpgradeConfig = UpgradeConfig()
    offers: OfferModelConfig = OfferModelConfig()
    ranking: RankingConfig = RankingConfig()

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
