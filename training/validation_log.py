"""What MLflow keeps of a replay and of each part: figures, plots, each account's NDCG, and which features carry it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from recsys.arrays import sparse_lookup
from recsys.backtesting.results import Backtest, CutoffResult, slug
from recsys.contracts import columns as c
from recsys.fitting.pipeline import FitStep
from recsys.models.next_product.ranker import candidate_log_odds
from recsys.models.upgrade.features import climb_features
from recsys.models.upgrade.model import climbs_within
from recsys.models.upgrade.snapshot import ClimbSnapshot
from recsys.reporting.backtest_plots import calibration_figure, coverage_figure, ndcg_figure
from recsys.threads import one_openmp_thread
from training.champion import ACCOUNTS_FILE, ndcg_table
from training.gate import TrainConfig
from training.progress import StepTime
from training.tracking import TrackedRun
from training.validation import CrossReplay, PastValidation, ReplayStep, UpReplay

MOST_FEATURES = 20
"""Features of each model that the plot shows."""


def replay_metrics(replay: PastValidation) -> dict[str, float]:
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


def log_replay(run: TrackedRun, replay: PastValidation, importances: pd.DataFrame) -> None:
    """Log everything of a replay below `replay/`, and the importances of the features."""
    if replay.cross is not None:
        backtest = _as_backtest(replay, replay.cross)
        run.log_json(backtest.to_dict(), "replay/backtest.json")
        run.log_table(methods_frame(replay.cross.result), "replay/baselines.csv")
        run.log_frame(ndcg_table(replay.cross), ACCOUNTS_FILE)
        run.log_figure(ndcg_figure(backtest), "replay/ndcg.png")
        run.log_figure(coverage_figure(backtest), "replay/coverage.png")
    for name, figure in calibration_figures(replay).items():
        run.log_figure(figure, f"replay/calibration_{name}.png")
    if not importances.empty:
        run.log_table(importances, "importances/importances.csv")
        run.log_figure(importance_figure(importances), "importances/importances.png")


def log_parts(
    run: TrackedRun,
    config: TrainConfig,
    figures: Mapping[str, float],
    replay: PastValidation,
    times: Sequence[StepTime],
) -> None:
    """Log a nested run for each part and each replay: its options, what it gave, and when it ran."""
    took = {one.name: one for one in times}
    for name, step, sections, prefixes in _PARTS:
        cutoff = _cutoff_of(replay, step)
        if step not in took or (isinstance(step, ReplayStep) and cutoff is None):
            continue
        one = took[step]
        with run.nested(
            name if cutoff is None else f"{name} {cutoff:%Y-%m-%d}", one.began, one.began + one.seconds
        ) as part:
            options = {section: getattr(config, section).model_dump(mode="json") for section in sections}
            part.log_params(options if cutoff is None else options | {"cutoff": cutoff.isoformat()})
            part.log_metrics({key: value for key, value in figures.items() if _belongs(key, prefixes)})


def _cutoff_of(replay: PastValidation, step: str) -> datetime | None:
    if step == ReplayStep.UPGRADES:
        return None if replay.up is None else replay.up.past.as_of
    return replay.cross.split.cutoff if step == ReplayStep.CROSS_SELL and replay.cross is not None else None


def _belongs(figure: str, endings: tuple[str, ...]) -> bool:
    return any(figure == ending or (figure.startswith("replay.") and ending in figure) for ending in endings)


_PARTS: tuple[tuple[str, FitStep | ReplayStep, tuple[str, ...], tuple[str, ...]], ...] = (
    ("complements", FitStep.COMPLEMENTS, ("rules",), ("order_lines", "complement_rules", "substitute_rules")),
    ("ladder", FitStep.LADDER, ("ladder",), ("upgrade_edges", "climbs")),
    ("cross-sell model", FitStep.NEXT_PRODUCT, ("next_product", "launches"), ("cross_sell_candidates",)),
    ("upgrade model", FitStep.UPGRADES, ("upgrades",), ("upsell_candidates",)),
    ("replay of cross-sell", ReplayStep.CROSS_SELL, ("evaluation",), (".raw_ranker", ".cross_sell")),
    ("replay of upgrades", ReplayStep.UPGRADES, ("evaluation",), (".upsell",)),
)
"""Name, step, sections of the configuration, and figures of each part; those of a replay by what their name holds."""


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


def calibration_figures(replay: PastValidation) -> dict[str, Figure]:
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


def _as_backtest(replay: PastValidation, cross: CrossReplay) -> Backtest:
    """A replay is a backtest of one cutoff; its upgrades lie a follow-up earlier."""
    result = replace(cross.result, upsell=None if replay.up is None else replay.up.scores)
    return Backtest(config=cross.split.config.model_dump(mode="json"), cutoffs=(result,), pooled=())


Score = Callable[[pd.DataFrame], NDArray[np.floating]]

CANDIDATES_AN_ACCOUNT = 100
"""About so many products are proposed to one account: how many accounts give the rows that are asked for."""


def feature_importances(replay: PastValidation, config: TrainConfig, rng: np.random.Generator) -> pd.DataFrame:
    """Return columns `model feature importance`, the most important of each model first.

    Importance is measured on the replayed window, which the models have not seen, as `permutation_importances` does.
    A model that had too little to learn from, or a window without both outcomes, has no rows.
    """
    empty = pd.DataFrame({c.MODEL: [], c.FEATURE: [], c.IMPORTANCE: []}).astype(
        {c.MODEL: str, c.FEATURE: str, c.IMPORTANCE: float}
    )
    return pd.concat([empty, *_each_model(replay, config, rng)], ignore_index=True)


def permutation_importances(
    score: Score, table: pd.DataFrame, came_true: NDArray[np.bool_], rng: np.random.Generator
) -> pd.DataFrame:
    """Return columns `feature importance`: the drop in the area under the ROC curve when the column is shuffled.

    Negative where chance alone makes the shuffled column better. Columns that tell the same share what they carry.
    Source: Breiman (2001), Random Forests, section 10, on unseen rows.

    Args:
        score: a number a row, higher where it is likelier to come true.
        table: the features, one row a candidate.
        came_true: shape `(n_rows,)`, both outcomes.
        rng: shuffles.
    """
    whole = roc_auc_score(came_true, score(table))
    order = rng.permutation(len(table))
    lost = []
    for name in table.columns:
        shuffled = table.assign(**{name: table[name].array[order]})
        lost.append(whole - roc_auc_score(came_true, score(shuffled)))
    found = pd.DataFrame({c.FEATURE: table.columns.astype(str), c.IMPORTANCE: lost})
    return found.sort_values([c.IMPORTANCE, c.FEATURE], ascending=[False, True], ignore_index=True)


def _each_model(replay: PastValidation, config: TrainConfig, rng: np.random.Generator) -> Iterator[pd.DataFrame]:
    first, second = rng.spawn(2)
    with ThreadPoolExecutor(2, initializer=one_openmp_thread) as pool:
        parts = {
            "next_product": pool.submit(_of_ranker, replay.cross, config.evaluation.importance_rows, first),
            "upgrades": pool.submit(_of_upgrades, replay.up, config, second),
        }
        for name, part in parts.items():
            found = part.result()
            if found is not None:
                yield found.assign(**{c.MODEL: name})[[c.MODEL, c.FEATURE, c.IMPORTANCE]]


def _of_ranker(replay: CrossReplay | None, rows: int, rng: np.random.Generator) -> pd.DataFrame | None:
    """Of the order of candidates, over those of accounts that bought something new."""
    if replay is None or replay.model.ranker_ is None:
        return None
    truth, ranker = replay.split.truth, replay.model.ranker_
    n_accounts = min(len(truth), max(1, rows // CANDIDATES_AN_ACCOUNT))
    chosen = np.sort(rng.choice(len(truth), n_accounts, replace=False))
    builder = replay.model.builder(replay.split.history, replay.split.cutoff)
    found = builder.block(truth.accounts[chosen])
    place = np.searchsorted(truth.accounts, found.account)
    bought = sparse_lookup(truth.relevant, place, found.product) > 0
    if not bought.any() or bought.all():
        return None
    table = builder.frame(found.values)
    return permutation_importances(partial(candidate_log_odds, ranker), table, bought, rng)


def _of_upgrades(replay: UpReplay | None, config: TrainConfig, rng: np.random.Generator) -> pd.DataFrame | None:
    """Of the propensity to climb, over pairs of an account and an edge: all climbs and as many others as are asked."""
    if replay is None or replay.model.classifier_ is None:
        return None
    history, ladder, classifier = replay.history, replay.ladder, replay.model.classifier_
    snapshot = ClimbSnapshot.at(history, ladder, config.upgrades.climbs, replay.past.as_of)
    climbed = climbs_within(history, snapshot, snapshot.standing, config.upgrades).astype(bool)
    if not climbed.any() or climbed.all():
        return None
    others = np.flatnonzero(~climbed)
    drawn = rng.choice(others, min(len(others), config.evaluation.importance_rows), replace=False)
    keep = climbed.copy()
    keep[drawn] = True
    pairs = snapshot.standing.select(keep)
    table = climb_features(snapshot, pairs, ladder, replay.past.accounts, config.horizon_days)
    return permutation_importances(classifier.decision_function, table, climbed[keep], rng)
