"""The simulated market: a seeded wholesaler whose planted truth is known."""

from recsys.simulation.config import MarketConfig
from recsys.simulation.market import Market, simulate_market, write_market
from recsys.simulation.truth import PlantedTruth, climb_probabilities

__all__ = [
    "Market",
    "MarketConfig",
    "PlantedTruth",
    "climb_probabilities",
    "simulate_market",
    "write_market",
]
