"""From candidates to a slate: eligibility, value, diversity, reasons."""

from recsys.ranking.engine import OfferEngine, RankingConfig
from recsys.ranking.model import ModelFacts, OfferModel
from recsys.ranking.state import AccountState, ProductChange

__all__ = ["AccountState", "ModelFacts", "OfferEngine", "OfferModel", "ProductChange", "RankingConfig"]
