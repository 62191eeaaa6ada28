"""Are the substitutes that were planted in a market told from the planted complements?"""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import pytest

from recsys.contracts import columns as c
from recsys.data.dataset import Dataset
from recsys.mining.relations import RelationConfig, mine_relations
from recsys.simulation.constants import MarketConfig
from recsys.simulation.market import simulate_market

PROOF = Path(__file__).resolve().parents[2] / "docs" / "proof" / "relations_market.json"


@pytest.mark.proof
def test_planted_substitutes_are_told_from_complements() -> None:
    config = MarketConfig(n_accounts=1_000, n_products=800, needs=False, seasonality=False, drift=False, seed=7)
    market = simulate_market(config)
    mined = mine_relations(Dataset.read(market.orders, products=market.products), RelationConfig(names_per_product=1))
    frame, truth = mined.to_frame(), market.truth
    relation = {
        frozenset(pair): what
        for *pair, what in frame[[c.PRODUCT_ID, c.OTHER_ID, c.RELATION]].itertuples(index=False, name=None)
    }
    substitutes = {frozenset(pair) for pair in truth.substitutes[[c.PRODUCT_ID, "substitute_id"]].to_numpy().tolist()}
    planted = truth.complements[[c.ANTECEDENT_ID, c.CONSEQUENT_ID]].to_numpy().tolist()
    complements = {frozenset(pair) for pair in planted} & relation.keys()
    told = [relation.get(pair) in ("substitute", "variant") for pair in substitutes]
    right = [relation[pair] == "complement" for pair in complements]
    found = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "market": "1,000 accounts, 800 products, seed 7; substitutes there are two colours, so most are variants",
        "planted_substitutes": len(told),
        "told_substitute_or_variant": sum(told),
        "planted_complements_seen": len(right),
        "told_complement": sum(right),
        "planted_complements": len(planted),
    }
    PROOF.write_text(json.dumps(found, indent=2) + "\n")
    assert len(told) >= 20
    assert sum(told) >= 0.9 * len(told)
    assert len(right) >= 20
    assert sum(right) >= 0.9 * len(right)
