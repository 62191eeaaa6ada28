"""Are the pairs that were planted in a market found, and little else?"""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from recsys.contracts import columns as c
from recsys.mining.rules import RuleConfig, rules_frame
from recsys.simulation.constants import MarketConfig
from recsys.simulation.market import Market, simulate_market

pytestmark = pytest.mark.slow

PROOF = Path(__file__).resolve().parents[2] / "docs" / "proof" / "mining.json"
ENOUGH = 20  # orders that hold both products of a planted pair: the pair had a chance to be seen
SEED = 7
Pairs = set[frozenset[str]]


@dataclass(frozen=True)
class Recovered:
    """Unordered pairs: planted with enough data, and called significant."""

    planted: Pairs
    enough: Pairs
    complements: Pairs
    steady: Pairs
    planted_substitutes: Pairs
    substitutes: Pairs

    @property
    def recall(self) -> float:
        return len(self.complements & self.enough) / len(self.enough)

    @property
    def precision(self) -> float:
        return len(self.complements & self.planted) / len(self.complements)

    def to_dict(self) -> dict[str, float | int]:
        return {
            "planted": len(self.planted),
            "planted_with_enough_data": len(self.enough),
            "complements": len(self.complements),
            "recall": round(self.recall, 4),
            "precision": round(self.precision, 4),
            "complements_that_hold_in_both_halves": len(self.steady),
            "precision_of_those": round(len(self.steady & self.planted) / len(self.steady), 4),
            "substitutes": len(self.substitutes),
            "substitutes_planted": len(self.substitutes & self.planted_substitutes),
        }


def pairs(frame: pd.DataFrame, left: str = c.ANTECEDENT_ID, right: str = c.CONSEQUENT_ID) -> Pairs:
    return {frozenset(pair) for pair in zip(frame[left], frame[right], strict=True)}


def market_of(*, real: bool) -> Market:
    return simulate_market(MarketConfig(n_accounts=5_000, needs=real, seasonality=real, drift=real, seed=SEED))


def recover(market: Market, to_duckdb, config: RuleConfig) -> Recovered:
    orders = to_duckdb(market.orders[[c.ORDER_ID, c.PRODUCT_ID, c.ACCOUNT_ID, c.ORDERED_AT]])
    rules = rules_frame(orders, config, market.products)
    truth = market.truth
    return Recovered(
        planted=pairs(truth.complements),
        enough=enough_data(market),
        complements=pairs(rules[rules[c.RELATION] == "complement"]),
        steady=pairs(rules[(rules[c.RELATION] == "complement") & rules[c.HOLDS_IN_BOTH_HALVES]]),
        planted_substitutes=pairs(truth.substitutes, c.PRODUCT_ID, "substitute_id"),
        substitutes=pairs(rules[rules[c.RELATION] == "substitute"]),
    )


def enough_data(market: Market) -> Pairs:
    """Return the planted pairs that stand together in at least `ENOUGH` orders."""
    held = market.orders.groupby(c.PRODUCT_ID)[c.ORDER_ID].agg(set)
    together = (
        (frozenset((a, b)), held.get(a, set()) & held.get(b, set()))
        for a, b in zip(
            market.truth.complements[c.ANTECEDENT_ID], market.truth.complements[c.CONSEQUENT_ID], strict=True
        )
    )
    return {pair for pair, orders in together if len(orders) >= ENOUGH}


def test_planted_complements_are_found_and_little_else(to_duckdb):
    found = recover(market_of(real=False), to_duckdb, RuleConfig())
    assert len(found.enough) >= 100
    assert found.recall >= 0.9
    assert found.precision >= 0.95
    assert len(found.substitutes) >= 10
    assert found.substitutes <= found.planted_substitutes


@pytest.mark.proof
def test_how_precise_rules_are_in_a_market_with_needs_seasons_and_fashion(to_duckdb):
    plain, real = market_of(real=False), market_of(real=True)
    default, orders_only = RuleConfig(), RuleConfig(within_accounts=False)
    results = {
        "needs, seasonality, drift off": recover(plain, to_duckdb, default),
        "off, orders only": recover(plain, to_duckdb, orders_only),
        "needs, seasonality, drift on": recover(real, to_duckdb, default),
        "on, orders only": recover(real, to_duckdb, orders_only),
        "on, one period a half": recover(real, to_duckdb, RuleConfig(periods_a_half=1)),
    }
    PROOF.write_text(
        json.dumps(
            {
                "date": datetime.now(UTC).date().isoformat(),
                "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
                "market": f"5,000 accounts, seed {SEED}; enough data: {ENOUGH} orders with both",
                "results": {name: result.to_dict() for name, result in results.items()},
            },
            indent=2,
        )
        + "\n"
    )
    for name in ("needs, seasonality, drift off", "off, orders only"):
        assert results[name].recall >= 0.9
        assert results[name].precision >= 0.95
    with_habits, without = results["needs, seasonality, drift on"], results["on, orders only"]
    assert with_habits.recall >= 0.8
    assert with_habits.precision >= 0.9
    # Negative control: without the habits of the accounts, what they need looks like complements.
    assert without.precision < 0.1
