"""The whole configuration of a training run: what a fit takes, and how the run is measured."""

from __future__ import annotations

from recsys.fitting.pipeline import FitConfig
from training.gate import EvaluationConfig


class TrainConfig(FitConfig):
    """What `offers train --config FILE` reads (TOML); every section may be left out.

    Attributes:
        evaluation: how the run measures what the gate judges; changes nothing in the bundle.
    """

    evaluation: EvaluationConfig = EvaluationConfig()
