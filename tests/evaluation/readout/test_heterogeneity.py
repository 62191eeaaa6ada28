"""One test of whether the effect differs between the levels of a segment."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom
from statsmodels.stats.meta_analysis import combine_effects

from recsys.evaluation.readout.design import ReadoutConfig
from recsys.evaluation.readout.from_table import TableSpec, table_readout
from recsys.evaluation.readout.results import Readout
from recsys.evaluation.statistics.effects import difference
from recsys.evaluation.statistics.metric import Metric, Ratio
from recsys.evaluation.statistics.moments import moments_of_rows
from recsys.evaluation.statistics.significance_tests import cochran_q
from recsys.reporting.readout_page import html_page
from recsys.reporting.readout_text import markdown_page

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def test_it_equals_statsmodels() -> None:
    rng = np.random.default_rng(0)
    effects, errors = rng.normal(0, 2, 5), rng.uniform(0.5, 2, 5)
    q, p_value = cochran_q(effects, errors)
    theirs = combine_effects(effects, errors**2, method_re="dl")
    assert float(q) == pytest.approx(theirs.q, rel=1e-12)
    assert float(p_value) == pytest.approx(theirs.test_homogeneity().pvalue, rel=1e-9)


@pytest.mark.parametrize(("gap", "bounds"), [(0.0, binom.interval(0.999, 2_000, 0.05)), (0.4, (1_800, 2_000))])
def test_it_errs_as_stated_and_finds_a_planted_difference(gap: float, bounds: tuple[float, float]) -> None:
    """Four levels of 300 units an arm; with a gap, the last one's effect is larger by .4 standard deviations."""
    rng = np.random.default_rng(5)
    levels = []
    for level in range(4):
        control, arm = (moments_of_rows(("y",), rng.exponential(1.0, (2_000, 300, 1))) for _ in range(2))
        arm.mean[:] += gap * (level == 3)
        levels.append(difference(control, arm, Metric("y", Ratio("y"))))
    effects = np.stack([level.effect for level in levels], axis=-1)
    errors = np.stack([level.se for level in levels], axis=-1)
    rejected = int((cochran_q(effects, errors)[1] < 0.05).sum())
    assert bounds[0] <= rejected <= bounds[1]


def _readout(folder: Path, effect_of: Callable[[np.ndarray], np.ndarray]) -> Readout:
    rng = np.random.default_rng(3)
    n = 4_000
    region, arm = rng.integers(0, 3, n), rng.integers(0, 2, n)
    frame = pd.DataFrame(
        {
            "arm": np.array(["c", "a"])[arm],
            "region": np.array(["north", "south", "west"])[region],
            "revenue": rng.exponential(10, n) + arm * effect_of(region),
        }
    )
    frame.to_parquet(folder / "units.parquet")
    form = TableSpec(None, "arm", "c", {"revenue": Ratio("revenue")}, segments=("region",))
    return table_readout(str(folder / "units.parquet"), form, ReadoutConfig(), now=NOW)


def test_an_effect_in_one_region_alone_is_told(tmp_path: Path) -> None:
    found = _readout(tmp_path, lambda region: 4.0 * (region == 2))
    (test,) = found.heterogeneity
    assert (test.segment, test.arm, test.n_levels) == ("region", "a", 3)
    assert test.p_adjusted < 0.001
    sentence = "The effect of a differs between the 3 levels of region: Cochran's Q"
    assert sentence in markdown_page(found)
    assert sentence.replace("'", "&#39;") in html_page(found)


def test_the_same_effect_everywhere_is_no_difference(tmp_path: Path) -> None:
    found = _readout(tmp_path, lambda region: np.full(len(region), 4.0))
    assert min(part.p_adjusted for part in found.segments) < 0.001
    assert found.heterogeneity[0].p_adjusted > 0.05
    assert "The effect of a is not shown to differ between the 3 levels of region" in markdown_page(found)
