"""What can be chosen about a simulated market."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import Field

from recsys.contracts.config import Config


class MarketConfig(Config):
    """Size, period and switches of a simulated market; the defaults resemble Online Retail II.

    With `needs`, `seasonality` and `drift` off, and given the sizes of the orders, the planted complement pairs are
    the only reason why two products stand in one order more often than chance, and the planted substitutes the only
    reason why two stand together less often.
    """

    # Accounts of the market, some of them without an order; 5,000 as in Online Retail II.
    n_accounts: int = Field(default=5_000, ge=1, le=10_000_000)
    # Products of the catalogue; 4,000 as in Online Retail II.
    n_products: int = Field(default=4_000, ge=100, le=200_000)
    # Same seed, same market; an account's own draws derive from the seed and its number alone.
    seed: int = Field(default=0, ge=0)
    # First moment of the market, UTC; the default makes the two years of a market whole calendar years.
    start: datetime = datetime(2024, 1, 1, tzinfo=UTC)
    # Length in days; two years, so that each season is seen twice.
    days: int = Field(default=731, ge=30, le=3_650)
    # Multiplies every account's order rate; 1 gives the orders per account of Online Retail II.
    activity: float = Field(default=1.0, gt=0, le=20)
    # Mean distinct products in an order; 20.3 in Online Retail II.
    lines_per_order: float = Field(default=20.3, ge=1.5, le=200)
    # Accounts have tastes of their own: needed categories, repeat purchases, brands, and ladders that they climb.
    needs: bool = True
    # Orders and some products follow the months.
    seasonality: bool = True
    # Products are launched, retired, and gain or lose popularity.
    drift: bool = True
    # Share of the catalogue that stands in a planted complement pair; each product in one pair at the most.
    complement_share: float = Field(default=0.08, ge=0, le=0.3)
    # Share of the catalogue that stands in a planted pair of substitutes.
    substitute_share: float = Field(default=0.05, ge=0, le=0.3)
    # Share of the catalogue that stands on an upgrade ladder.
    ladder_share: float = Field(default=0.15, ge=0, le=0.4)
    # Accounts that are simulated at once: bounds the memory, changes no value.
    block_accounts: int = Field(default=4_000, ge=1)
