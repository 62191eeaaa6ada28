"""What MLflow keeps of a replay: the table against the baselines, figures, plots, and each account's NDCG."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from recsys.backtesting.results import Backtest, CutoffResult, slug
from recsys.contracts import columns as c
from recsys.reporting.backtest_plots import calibration_figure, coverage_figure, ndcg_figure
from training.champion import ACCOUNTS, ndcg_table
from training.tracking import Run
from training.validation import CrossReplay, Replay

MOST_FEATURES = 20
"""Features of each model that the plot shows."""


def replay_metrics(replay: Replay) -> dict[str, float]:
    """Return the figures of a replay under `replay.`, without its date, so that runs can be compared.

    Every figure of the ranker, and of the baselines their NDCG; the table `replay/baselines.csv` has the others.
    """
    if replay.cross is None:
        return {}
    day = f".{replay.cross.split.cutoff:%Y-%m-%d}"
    rivals = {slug(method.name) for method in replay.cross.result.methods if method.kind == "baseline"}
    found = {name.removesuffix(day): value for name, value in _as_backtest(replay, replay.cross).metrics().items()}
    return {
        f"replay.{name}": value
        for name, value in found.items()
        if name.partition(".")[0] == c.NDCG or name.partition(".")[2] not in rivals
    }


def log_replay(run: Run, replay: Replay, importances: pd.DataFrame) -> None:
    """Log everything of a replay below `replay/`, and the importances of the features."""
    if replay.cross is not None:
        backtest = _as_backtest(replay, replay.cross)
        run.log_json(backtest.to_dict(), "replay/backtest.json")
        run.log_table(methods_frame(replay.cross.result), "replay/baselines.csv")
        run.log_frame(ndcg_table(replay.cross), ACCOUNTS)
        run.log_figure(ndcg_figure(backtest), "replay/ndcg.png")
        run.log_figure(coverage_figure(backtest), "replay/coverage.png")
    for name, figure in calibration_figures(replay).items():
        run.log_figure(figure, f"replay/calibration_{name}.png")
    if not importances.empty:
        run.log_table(importances, "importances/importances.csv")
        run.log_figure(importance_figure(importances), "importances/importances.png")


def methods_frame(result: CutoffResult) -> pd.DataFrame:
    """Return one row a method, the best first: every figure, its NDCG's interval, and the ranker's gain over it."""
    gains = {one.against: one.interval for one in result.differences}
    rows = [
        {
            c.METHOD: method.name,
            **method.figures(),
            "ndcg_low": method.ndcg_interval.low,
            "ndcg_high": method.ndcg_interval.high,
            **(
                {"gain": gains[method.name].estimate, "gain_low": gains[method.name].low}
                if method.name in gains
                else {"gain": float("nan"), "gain_low": float("nan")}
            ),
        }
        for method in result.methods
    ]
    return pd.DataFrame(rows).sort_values([c.NDCG, c.METHOD], ascending=[False, True], ignore_index=True)


def calibration_figures(replay: Replay) -> dict[str, Figure]:
    """Return observed over expected by probability, one figure a kind that was replayed."""
    found = {}
    if replay.cross is not None and replay.cross.result.calibration is not None:
        found["cross_sell"] = calibration_figure([(replay.cross.result, replay.cross.result.calibration)], "cross_sell")
    if replay.cross is not None and replay.up is not None:
        at = replace(replay.cross.result, cutoff=replay.up.past.as_of)
        found["upsell"] = calibration_figure([(at, replay.up.scores.calibration)], "upsell")
    return found


def importance_figure(importances: pd.DataFrame) -> Figure:
    """Return a panel a model: its most important features."""
    models = list(dict.fromkeys(importances[c.MODEL]))
    figure = Figure(figsize=(6.0 * len(models), 6.0), layout="constrained")
    FigureCanvasAgg(figure)
    for panel, model in zip(figure.subplots(1, len(models), squeeze=False)[0], models, strict=True):
        best = importances[importances[c.MODEL] == model].head(MOST_FEATURES)[::-1]
        panel.barh(best[c.FEATURE], best[c.IMPORTANCE], color="#1f6feb")
        panel.set(title=model.replace("_", " "), xlabel="area under the ROC curve that shuffling costs")
        panel.tick_params(axis="y", labelsize=8)
        panel.set_axisbelow(True)
        panel.grid(axis="x", alpha=0.3)
    return figure


def _as_backtest(replay: Replay, cross: CrossReplay) -> Backtest:
    """A replay is a backtest of one cutoff; its upgrades lie a follow-up earlier."""
    result = replace(cross.result, upsell=None if replay.up is None else replay.up.scores)
    return Backtest(config=cross.split.config.model_dump(mode="json"), cutoffs=(result,), pooled=())
