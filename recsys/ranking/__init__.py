"""From candidates to a slate: eligibility, value, diversity, reasons."""

from recsys.offer_model.tables import ModelFacts, OfferModel
from recsys.ranking.engine import OfferEngine, RankingConfig
from recsys.ranking.live_catalogue import AccountState, ProductChange

__all__ = ["AccountState", "ModelFacts", "OfferEngine", "OfferModel", "ProductChange", "RankingConfig"]
