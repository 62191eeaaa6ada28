"""Importance of features: what carries the outcome is found, noise costs nothing."""

from __future__ import annotations

import numpy as np
import pandas as pd

from training.validation_log import importance_figure, permutation_importances


def test_the_column_that_carries_the_outcome_leads() -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(2_000, 3)), columns=["noise", "weak", "strong"])
    came_true = rng.random(2_000) < 1 / (1 + np.exp(-(0.5 * table["weak"] + 3 * table["strong"]).to_numpy()))
    found = permutation_importances(
        lambda frame: 0.5 * frame["weak"].to_numpy() + 3 * frame["strong"].to_numpy(), table, came_true, rng
    )
    assert found["feature"].tolist() == ["strong", "weak", "noise"]
    lost = dict(zip(found["feature"], found["importance"], strict=True))
    assert lost["strong"] > 0.3
    assert 0 < lost["weak"] < 0.05
    assert lost["noise"] == 0


def test_a_shuffled_column_alone_leaves_a_coin() -> None:
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"x": rng.normal(size=5_000)})
    came_true = (table["x"] > 0).to_numpy()
    found = permutation_importances(lambda frame: frame["x"].to_numpy(), table, came_true, rng)
    assert abs(found["importance"].iloc[0] - 0.5) < 0.03  # from an area of 1 to one of a half


def test_one_panel_a_model() -> None:
    table = pd.DataFrame(
        {"model": ["next_product"] * 30 + ["upgrades"], "feature": [f"f{i}" for i in range(31)], "importance": 0.1}
    )
    panels = importance_figure(table).get_axes()
    assert [panel.get_title() for panel in panels] == ["next product", "upgrades"]
    assert [len(panel.patches) for panel in panels] == [20, 1]
