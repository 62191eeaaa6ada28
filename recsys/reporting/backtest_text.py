"""The backtest as tables for a terminal, and the strongest of what a run learned with names instead of ids."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table

from recsys.backtesting.cart_completion import cart_completion_table
from recsys.backtesting.results import Backtest, CutoffResult, UpsellScores
from recsys.contracts import columns as c
from recsys.evaluation.offline.calibration import Calibration

# Fifteen methods with their intervals fit into a terminal of 80 columns.
TIGHT: dict[str, Any] = {"box": SIMPLE_HEAD, "pad_edge": False, "collapse_padding": True}


def backtest_tables(backtest: Backtest) -> Iterator[Table]:
    """Yield, for each cutoff, methods, reach, calibration and upgrades; then the pooled differences."""
    for result in backtest.cutoffs:
        yield methods_table(result, backtest.config["k"], backtest.config["horizon_days"])
        yield reach_table(result)
        if result.calibration is not None:
            yield calibration_table(f"Calibration of cross-sell, {result.cutoff:%Y-%m-%d}", result.calibration)
        if result.upsell is not None:
            yield upsell_table(result, result.upsell)
            yield calibration_table(f"Calibration of upsell, {result.cutoff:%Y-%m-%d}", result.upsell.calibration)
        if result.carts is not None:
            yield cart_completion_table(result.carts, f"Carts completed after {result.cutoff:%Y-%m-%d}")
    if backtest.pooled:
        yield differences_table(backtest)


def methods_table(result: CutoffResult, k: int, horizon_days: int) -> Table:
    """Return how well each method ranks, one row a method; the best baseline is marked with a star."""
    table = Table(
        title=f"Novel products within {horizon_days} days of {result.cutoff:%Y-%m-%d}\n"
        f"{len(result.accounts):,} accounts, {result.n_novel:,} first purchases",
        **TIGHT,
    )
    table.add_column("method", no_wrap=True)
    for name in (f"NDCG@{k}", "95 %", "vs best", "recall", "hits"):
        table.add_column(name, justify="right", no_wrap=True)
    best = result.best_baseline.name
    for method in result.methods:
        means, interval = method.scores.means(), method.ndcg_interval
        table.add_row(
            f"{method.name} *" if method.name == best else method.name,
            f"{method.ndcg:.4f}",
            f"{interval.low:.3f}-{interval.high:.3f}",
            f"{result.ratio(method.name):.2f}x",
            f"{means['recall']:.4f}",
            f"{means['hit_rate']:.3f}",
            style=None if method.kind == "baseline" else "bold",
        )
    table.caption = "* best baseline; hits: accounts with one hit or more"
    return table


def reach_table(result: CutoffResult) -> Table:
    """Return what each method's lists do to the catalogue and to revenue, one row a method."""
    table = Table(title=f"Reach of the lists, {result.cutoff:%Y-%m-%d}", **TIGHT)
    table.add_column("method", no_wrap=True)
    for name in ("MAP", "precision", "coverage", "novelty", "revenue"):
        table.add_column(name, justify="right", no_wrap=True)
    for method in result.methods:
        means = method.scores.means()
        table.add_row(
            method.name,
            f"{means['average_precision']:.4f}",
            f"{means['precision']:.4f}",
            f"{method.coverage:.1%}",
            f"{method.novelty_bits:.1f}",
            f"{method.revenue_share:.1%}",
            style=None if method.kind == "baseline" else "bold",
        )
    table.caption = "coverage of the active catalogue; novelty in bits; revenue: share of what novel products brought"
    return table


def calibration_table(title: str, calibration: Calibration) -> Table:
    """Return one row a bin of probability; ratios of bins with too few positives stand in brackets."""
    table = Table(title=title, **TIGHT)
    for name in ("probability", "pairs", "expected", "observed", "observed / expected"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in calibration.bins:
        label = f"{one.low:.4f} to {one.high:.4f}" if one.listed else f"not listed, {one.low:.6f}"
        ratio = f"{one.ratio:.2f}" if one.judged else f"({one.ratio:.2f})"
        table.add_row(label, f"{one.n:,}", f"{one.expected:,.1f}", f"{one.observed:,}", ratio)
    table.caption = (
        f"log loss {calibration.log_loss:.6f}, of the base rate {calibration.base_log_loss:.6f}; "
        f"{calibration.unlisted_share:.1%} of the positives were on no list; "
        f"{'holds' if calibration.holds else 'fails'}"
    )
    return table


def upsell_table(result: CutoffResult, upsell: UpsellScores) -> Table:
    """Return the figures of the upgrade model at one cutoff."""
    table = Table(title=f"Rungs climbed after {result.cutoff:%Y-%m-%d}", **TIGHT)
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in (
        ("edges of the ladder", f"{upsell.n_edges:,}"),
        ("pairs of account and higher rung", f"{upsell.n_pairs:,}"),
        ("climbs", f"{upsell.n_climbs:,}"),
        ("climbers", f"{upsell.n_climbers:,}"),
        ("base rate", f"{upsell.base_rate:.5f}"),
        ("average precision by the edge's climb rate", f"{upsell.climb_rate_precision:.5f}"),
        ("average precision by propensity", f"{upsell.average_precision:.5f}"),
        ("NDCG@10 over climbers", f"{upsell.ndcg:.4f}"),
    ):
        table.add_row(name, value)
    return table


def differences_table(backtest: Backtest) -> Table:
    """Return the paired differences in NDCG over all cutoffs."""
    table = Table(title="NDCG less the baseline's, all cutoffs, accounts resampled", **TIGHT)
    table.add_column("method")
    table.add_column("against")
    table.add_column("difference", justify="right")
    table.add_column("95 %", justify="right", no_wrap=True)
    for one in backtest.pooled:
        interval = one.interval
        table.add_row(
            one.method, one.against, f"{interval.estimate:+.4f}", f"{interval.low:+.4f} to {interval.high:+.4f}"
        )
    return table


MOST_PAIRS = 200
"""Pairs that a person may look through; all of them stand in the Parquet file beside."""

_FIGURES = [c.N_BOTH, c.N_ANTECEDENT, c.N_CONSEQUENT, c.CONFIDENCE, c.LIFT, c.COSINE, c.Q_VALUE, c.HOLDS_IN_BOTH_HALVES]


def strongest_pairs(rules: pd.DataFrame, products: pd.DataFrame, most: int = MOST_PAIRS) -> pd.DataFrame:
    """Return the complements with the highest cosine, each pair once, with the names of both products.

    Cosine, because lift puts coincidences first and confidence bestsellers. Of the two directions of a pair, the one
    with the higher confidence stays.
    """
    pairs = rules[rules[c.RELATION] == "complement"]
    ordered = pairs.sort_values(
        [c.COSINE, c.CONFIDENCE, c.ANTECEDENT_ID, c.CONSEQUENT_ID], ascending=[False, False, True, True]
    )
    both = ordered[[c.ANTECEDENT_ID, c.CONSEQUENT_ID]].astype(str)
    pair = both.min(axis=1) + "\x00" + both.max(axis=1)
    kept = ordered[~pair.duplicated().to_numpy()].head(most)
    named = products.reindex(columns=[c.PRODUCT_ID, c.NAME]).drop_duplicates(c.PRODUCT_ID)
    names = named.set_index(named[c.PRODUCT_ID].astype(str))[c.NAME]
    told = {
        side: kept[side].astype(str).map(names).fillna(kept[side].astype(str)).to_numpy()
        for side in (c.ANTECEDENT_ID, c.CONSEQUENT_ID)
    }
    table = kept[[c.ANTECEDENT_ID, c.CONSEQUENT_ID, *_FIGURES]].reset_index(drop=True)
    table.insert(0, "when", told[c.ANTECEDENT_ID])
    table.insert(1, "then", told[c.CONSEQUENT_ID])
    return table
