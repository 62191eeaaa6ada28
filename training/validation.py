"""An honest look back: what a model of the same configuration would have said one horizon ago, and what came.

Everything is learned again from the sources as they stood at the cutoff: nothing at or after it is read, neither to
train nor to calibrate. Cross-sell is replayed at `as_of - horizon_days`. Whether a purchase was a climb is known only
after its follow-up, so that upgrades are replayed that much earlier, over a ladder frozen there.

What a replay asks (does the ranker beat the baselines, do the probabilities hold) is answered on a sample of a large
market's accounts as well as on all: both sides see all lines of the same accounts. A model that learned from fewer
accounts is no better for it, so that the evidence errs on the safe side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from enum import StrEnum
from traceback import format_exception
from typing import NamedTuple, TypeVar

import ibis
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.arrays import RowArray
from recsys.backtesting.backtest import RAW, BacktestConfig, Split, baseline_lists, score_lists
from recsys.backtesting.baselines import BacktestModel, default_baselines
from recsys.backtesting.results import CutoffResult, MethodDifference, MethodScores, UpsellScores
from recsys.backtesting.trainer import Read, over_history
from recsys.backtesting.upgrade_scores import first_of_each, score_upsell
from recsys.contracts import columns as c
from recsys.contracts.plugins import plugin_at_fault
from recsys.data.dataset import Dataset
from recsys.data.history import History
from recsys.errors import EmptyDataError, PluginError
from recsys.evaluation.offline.calibration import judge_calibration
from recsys.evaluation.offline.ground_truth import GroundTruth, cross_sell_pairs, ground_truth, known_accounts
from recsys.evaluation.statistics.bootstrap import paired_difference
from recsys.fitting.pipeline import fit_next_product, fit_upgrades, part_rng
from recsys.fitting.steps import CANDIDATES_FORM, FRAME_FORM, LEARNED_FORM, Keep, Step, keep_nothing, no_progress
from recsys.ladder.edges import Ladder
from recsys.ladder.file import LadderOf
from recsys.models.candidates import NO_PRODUCT, Candidates
from recsys.models.next_product.examples import balanced_sample
from recsys.models.next_product.model import NextProductModel
from recsys.models.upgrade.model import UpgradeModel
from recsys.threads import one_openmp_thread
from training.gate import TrainConfig

_T = TypeVar("_T")

SIDE_BY_SIDE_LINES = 2_000_000
"""Up to so many order lines both looks back run at the same time; above, one after the other, for their memory."""


class ReplayStep(StrEnum):
    """The steps of a look back, by the names that people and metrics see."""

    CROSS_SELL = "replay of cross-sell"
    BASELINES = "replay of the baselines"
    UPGRADES = "replay of upgrades"


class Window(NamedTuple):
    """The days that came after the cutoff.

    Attributes:
        split: the whole history, the cutoff, and the truth after it.
        standing: rows of the accounts that are looked at, all with an earlier order, ascending.
        weight: how many accounts each account stands for, `(n_accounts,)`; 0 for those that are not looked at.
    """

    split: Split
    standing: RowArray
    weight: NDArray[np.float64]


class LearnedCross(NamedTuple):
    """What was learned at the cutoff.

    Attributes:
        past: what was known.
        model: learned from it.
        scored: its candidates, over the rows of the whole history.
    """

    past: Dataset
    model: NextProductModel
    scored: Candidates


@dataclass(frozen=True)
class CrossReplay:
    """Cross-sell at the cutoff.

    Attributes:
        past: what was known at the cutoff.
        split: the whole history, the cutoff, and the truth after it.
        model: learned from `past`.
        result: the baselines, the raw ranker, their paired differences, and the calibration over all accounts.
    """

    past: Dataset
    split: Split
    model: NextProductModel
    result: CutoffResult

    @property
    def ndcg(self) -> NDArray[np.float64]:
        """NDCG of the raw ranker, one value an account of the truth."""
        return self.result.method(RAW).scores.ndcg


@dataclass(frozen=True)
class UpReplay:
    """Upgrades at their cutoff.

    Attributes:
        past: what was known at the cutoff.
        history: the whole history.
        ladder: frozen at the cutoff.
        model: learned from `past`.
        scores: what came of its propensities.
    """

    past: Dataset
    history: History
    ladder: Ladder
    model: UpgradeModel
    scores: UpsellScores


@dataclass(frozen=True)
class PastValidation:
    """Both looks back; None where there was nothing to look back on, and `notes` says why.

    `fault` is where and how the engine itself failed in them, for a report; None where it did not.
    """

    cross: CrossReplay | None
    up: UpReplay | None
    notes: tuple[str, ...]
    fault: str | None = None


def guarded(look_back: Callable[[], PastValidation]) -> PastValidation:
    """Return what a look back finds; where the engine itself fails in it, nothing, and what to report.

    The same sources and options have just been read and checked, so that they are not to blame; and what was learned
    beside it must not be lost. A part of somebody else's, the memory and the disk are no faults of the engine.

    Raises:
        PluginError: an error was raised in the code of a plug-in, which it names.
        MemoryError, OSError: as they come.
    """
    try:
        return look_back()
    except (PluginError, MemoryError, OSError):
        raise
    except Exception as error:
        part = plugin_at_fault(error)
        if part is not None:
            what = f"{type(error).__name__}: {error}"
            raise PluginError(f"{part}: failed in the replay of the past: {what}; mend or leave it out") from error
        why = f"the past was not replayed, because the engine failed in it: {type(error).__name__}: {error}"
        return PastValidation(None, None, (why,), "".join(format_exception(error)))


def validate_on_past(
    read: Read,
    history: History,
    as_of: datetime,
    config: TrainConfig,
    ladder_of: LadderOf,
    *,
    baselines: Callable[[], Sequence[BacktestModel]] = default_baselines,
    step: Step = no_progress,
    keep: Keep = keep_nothing,
) -> PastValidation:
    """Return how the configuration would have done on the last horizon before `as_of`.

    Args:
        read: reads the same sources with nothing at or after a moment.
        history: the lines before `as_of`: the future of the replayed past.
        as_of: the moment of the training run.
        config: of the training run.
        ladder_of: the ladder of some data.
        baselines: makes the rivals.
        step: told of each step.
        keep: keeps the result of each step.
    """
    cutoff = as_of - timedelta(days=config.horizon_days)
    climb_cutoff = cutoff - timedelta(days=config.upgrades.climbs.follow_days)
    notes: list[str] = []
    workers = 2 if len(history) <= SIDE_BY_SIDE_LINES else 1

    def climbs() -> UpReplay:
        with step(ReplayStep.UPGRADES):
            return replay_upgrades(read(climb_cutoff), history, config, ladder_of, keep)

    def cross_sell() -> CrossReplay:
        window = take_window(history, cutoff, config)
        learned = pool.submit(_learned, lambda: read(cutoff), window, config, step, keep)
        rivals = pool.submit(_rivals, window.split, baselines, config, step, keep)
        return judge_cross_sell(window, learned.result(), rivals.result(), config)

    with ThreadPoolExecutor(workers, initializer=one_openmp_thread) as pool:
        up = pool.submit(climbs)
        cross = _noted(cross_sell, "cross_sell", notes)
        return PastValidation(cross, _noted(up.result, "upsell", notes), tuple(notes))


def take_window(history: History, cutoff: datetime, config: TrainConfig) -> Window:
    """Return the truth after a cutoff over a sample of the accounts that had ordered, and that sample.

    Half of a sample are later buyers, weighted back (`balanced_sample`): of accounts drawn at random one in six buys
    anything, too few to tell two models or a bin's ratio apart by.

    Raises:
        EmptyDataError: none of them bought anything new within the horizon.
    """
    standing = np.flatnonzero(known_accounts(history, cutoff)).astype(np.int32)
    truth = ground_truth(history, cutoff, config.horizon_days)
    rng, active = part_rng(config, "replayed accounts"), np.isin(standing, truth.accounts)
    standing, stands_for = balanced_sample(standing, active, config.evaluation.max_accounts, rng)
    weight = np.zeros(history.n_accounts)
    weight[standing] = stands_for
    chosen = np.flatnonzero(np.isin(truth.accounts, standing))
    if len(chosen) == 0:
        raise EmptyDataError(
            f"{cutoff:%Y-%m-%d}: 0 of {len(standing)} accounts with an earlier order bought anything new within "
            f"{config.horizon_days} days, must be 1 or more; give a longer history"
        )
    truth = GroundTruth(truth.accounts[chosen], truth.relevant[chosen], truth.revenue[chosen])
    return Window(Split(history, cutoff, truth, backtest_config(cutoff, config)), standing, weight)


def learn_cross_sell(
    past: Dataset, history: History, config: TrainConfig, accounts: RowArray, keep: Keep = keep_nothing
) -> LearnedCross:
    """Return the model that `past` teaches and its candidates of some accounts, all as rows of `history`."""
    early, of_past = past.history().before(past.as_of), past.fingerprint[:12]
    model = keep(
        f"replayed ranker {of_past}",
        lambda: fit_next_product(NextProductModel(config.next_product), past, early, config),
        LEARNED_FORM,
    )
    model.products_, model.accounts_ = past.products, past.accounts
    place = {account_id: row for row, account_id in enumerate(early.account_ids.tolist())}
    rows = np.array([place.get(one, -1) for one in history.account_ids[accounts].tolist()], dtype=np.int32)
    scored = keep(
        f"replayed cross-sell {of_past}", lambda: model.score(early, past.as_of, rows[rows >= 0]), CANDIDATES_FORM
    )
    return LearnedCross(past, model, _that_still_exist(over_history(scored, early, history)))


def score_rivals(split: Split, baselines: Sequence[BacktestModel], config: TrainConfig) -> tuple[MethodScores, ...]:
    """Return what each baseline, fitted before the cutoff, would have reached."""
    rng = part_rng(config, "rivals")
    return tuple(score_lists(split, each.name, "baseline", baseline_lists(split, each), rng) for each in baselines)


def judge_cross_sell(
    window: Window, learned: LearnedCross, rivals: Sequence[MethodScores], config: TrainConfig
) -> CrossReplay:
    """Return the ranker beside its rivals, with the calibration of its probabilities over all accounts looked at."""
    rng, split, scored = part_rng(config, "replay"), window.split, learned.scored
    lists = first_of_each(scored, split.truth.accounts, split.history.n_accounts, split.config.k)
    raw = score_lists(split, RAW, "raw", lists, rng)
    columns = scored.account, scored.product, scored.probability
    pairs = cross_sell_pairs(split.history, split.cutoff, config.horizon_days, *columns, weight=window.weight)
    gains = [
        paired_difference(raw.scores.ndcg, rival.scores.ndcg, rng, config.evaluation.bootstrap) for rival in rivals
    ]
    result = CutoffResult(
        cutoff=split.cutoff,
        accounts=split.truth.accounts,
        n_novel=split.truth.relevant.nnz,
        methods=(*rivals, raw),
        differences=tuple(MethodDifference(RAW, rival.name, gain) for rival, gain in zip(rivals, gains, strict=True)),
        calibration=judge_calibration(pairs, split.config.calibration),
        upsell=None,
    )
    return CrossReplay(learned.past, split, learned.model, result)


def replay_upgrades(
    past: Dataset, history: History, config: TrainConfig, ladder_of: LadderOf, keep: Keep = keep_nothing
) -> UpReplay:
    """Return what the upgrade model would have said at `past.as_of`, and who climbed.

    Raises:
        EmptyDataError: nobody stood on a rung.
    """
    early, of_past = past.history().before(past.as_of), past.fingerprint[:12]
    ladder = Ladder(keep(f"replayed ladder {of_past}", lambda: ladder_of(past, early).edges, FRAME_FORM))
    model = keep(f"replayed upgrades {of_past}", lambda: fit_upgrades(past, early, ladder, config), LEARNED_FORM)
    model.ladder_, model.accounts_ = ladder, past.accounts
    scored = keep(f"replayed upsell {of_past}", lambda: model.score(early, past.as_of), CANDIDATES_FORM)
    scores = score_upsell(
        history,
        past.as_of,
        config.horizon_days,
        ladder,
        _that_still_exist(over_history(scored, early, history)),
        climbs=config.upgrades.climbs,
        calibration=backtest_config(past.as_of, config).calibration,
    )
    if scores is None:
        raise EmptyDataError(
            f"{past.as_of:%Y-%m-%d}: 0 accounts stood on a rung of {len(ladder)} edges, must be 1 or more; "
            "give a longer history or curated upgrades"
        )
    return UpReplay(past, history, ladder, model, scores)


def backtest_config(cutoff: datetime, config: TrainConfig) -> BacktestConfig:
    """Return the settings of the backtest that a replay is: one cutoff, the horizon of the training."""
    return BacktestConfig(
        cutoffs=(cutoff,),
        horizon_days=config.horizon_days,
        active_days=config.evaluation.active_days,
        max_accounts=config.evaluation.max_accounts,
        seed=config.seed,
        bootstrap=config.evaluation.bootstrap,
        climbs=config.upgrades.climbs,
    )


def _learned(
    read_past: Callable[[], Dataset], window: Window, config: TrainConfig, step: Step, keep: Keep
) -> LearnedCross:
    with step(ReplayStep.CROSS_SELL):
        return learn_cross_sell(read_past(), window.split.history, config, window.standing, keep)


def _rivals(
    split: Split, baselines: Callable[[], Sequence[BacktestModel]], config: TrainConfig, step: Step, keep: Keep
) -> tuple[MethodScores, ...]:
    with step(ReplayStep.BASELINES):
        return keep("replayed baselines", lambda: score_rivals(split, baselines(), config), LEARNED_FORM)


def _noted(find: Callable[[], _T], kind: str, notes: list[str]) -> _T | None:
    """What `find` finds; where there are too little data for it, None and a note."""
    try:
        return find()
    except EmptyDataError as error:
        notes.append(f"{kind} was not replayed: {error}")
        return None


def _that_still_exist(candidates: Candidates) -> Candidates:
    """Drop what the whole history has no row for: whose only order before the cutoff was taken back after it."""
    keep = (candidates.account >= 0) & (candidates.product >= 0) & (candidates.from_product >= NO_PRODUCT)
    return replace(candidates, **{each.name: getattr(candidates, each.name)[keep] for each in fields(candidates)})


def sample_accounts(
    data: Dataset, n_lines: int, most_lines: int, rng: np.random.Generator
) -> NDArray[np.object_] | None:
    """Return the ids of accounts drawn at random that have about `most_lines` of the `n_lines`; None: all fit.

    Args:
        data: whose accounts are drawn.
        n_lines: order lines of all of them.
        most_lines: order lines wanted.
        rng: draws.
    """
    if n_lines <= most_lines:
        return None
    ids: NDArray[np.object_] = data.accounts[c.ACCOUNT_ID].to_numpy(dtype=object)
    return ids[rng.random(len(ids)) < most_lines / n_lines]


def of_accounts(data: Dataset, account_ids: NDArray[np.object_]) -> Dataset:
    """Return the data of some accounts alone; lines without an account are nobody's, and left out."""
    wanted = ibis.memtable(pa.table({c.ACCOUNT_ID: pa.array(account_ids.tolist(), pa.string())}))
    orders = data.orders.semi_join(wanted, c.ACCOUNT_ID).order_by([c.ORDERED_AT, c.ORDER_ID, c.LINE_ID])
    mine = data.accounts[c.ACCOUNT_ID].isin(account_ids.tolist())
    return replace(data, orders=orders.cache(), accounts=data.accounts[mine].reset_index(drop=True))
