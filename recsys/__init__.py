"""The offer engine: from purchase history to ranked offers, and to the readout of what they earned.

Each name is loaded from its module when it is first asked for, so that `import recsys` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import Final

_MODULES: Final = {
    "BacktestConfig": "recsys.backtesting.backtest",
    "BacktestModel": "recsys.backtesting.baselines",
    "CartLine": "recsys.contracts.offers",
    "Dataset": "recsys.data.dataset",
    "FeatureMaker": "recsys.models.next_product.pair_features",
    "FitConfig": "recsys.fitting.pipeline",
    "KpiConfig": "recsys.evaluation.kpis.config",
    "Ladder": "recsys.ladder.edges",
    "Offer": "recsys.contracts.offers",
    "OfferEngineError": "recsys.errors",
    "OfferRequest": "recsys.contracts.offers",
    "PairRanker": "recsys.models.next_product.ranker",
    "PropensityClassifier": "recsys.models.propensity.classifier",
    "ReadoutConfig": "recsys.evaluation.readout.design",
    "Recommender": "recsys.recommender",
    "Retriever": "recsys.models.retrieval.retriever",
    "RuleConfig": "recsys.mining.rules",
    "Slate": "recsys.contracts.offers",
    "Snapshot": "recsys.models.snapshot",
    "backtest": "recsys.backtesting.models",
    "default_retrievers": "recsys.models.retrieval.retrievers",
    "experiment_decision": "recsys.evaluation.api",
    "experiment_readout": "recsys.evaluation.api",
    "export_events": "recsys.events.maintenance",
    "journal": "recsys.evaluation.api",
    "kpis": "recsys.evaluation.api",
    "mine_rules": "recsys.mining.rules",
    "open_store": "recsys.events.store",
    "power": "recsys.evaluation.api",
    "readout": "recsys.evaluation.api",
    "simulate_market": "recsys.simulation.market",
}

__all__ = (  # noqa: PLE0604 - the names of the table
    *_MODULES,
)


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(_MODULES)}")
    try:
        value = getattr(importlib.import_module(_MODULES[name]), name)
    except ModuleNotFoundError:
        from recsys.extras import require

        require("train", what=f"recsys.{name}")
        raise
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
