"""The simulated market: a seeded wholesaler whose planted truth is known."""

from recsys.data.market.config import MarketConfig
from recsys.data.market.inference import inferred_climb_probabilities
from recsys.data.market.oracle import climb_probabilities
from recsys.data.market.simulate import Market, simulate_market, write_market
from recsys.data.market.truth import Truth

__all__ = [
    "Market",
    "MarketConfig",
    "Truth",
    "climb_probabilities",
    "inferred_climb_probabilities",
    "simulate_market",
    "write_market",
]
