"""The next-new-product model: which product that an account does not have yet will it buy within the horizon."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import NamedTuple, Self

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import Field
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from recsys.arrays import AnyFloatArray, RowArray
from recsys.contracts.config import Config
from recsys.contracts.plugins import check_plugin, check_several, check_unique, load_plugin
from recsys.data.history import History, novel_purchases
from recsys.errors import PluginError
from recsys.models.candidates import NO_PRODUCT, Candidates, join_candidates
from recsys.models.next_product.account_features import AccountColumns
from recsys.models.next_product.calibration import Calibrator, CalibratorConfig, HeldOut, season_ahead, season_of
from recsys.models.next_product.examples import (
    IncidenceExamples,
    SamplingConfig,
    account_weight,
    balanced_sample,
    blocks,
    collect_examples,
    join_examples,
    sample,
    sample_buyers,
)
from recsys.models.next_product.features import FeatureBuilder, FeatureConfig
from recsys.models.next_product.folds import (
    KeptWindow,
    ReplayedPast,
    calibrating_windows,
    in_learned_half,
    learned_pasts,
)
from recsys.models.next_product.list_order import (
    asked_order,
    better_order,
    check_lightgbm,
    judged_orders,
)
from recsys.models.next_product.pair_features import FeatureMaker
from recsys.models.next_product.ranker import (
    ActivityConfig,
    IncidenceModel,
    PairRanker,
    Ranker,
    RankerConfig,
    candidate_log_odds,
    check_ranker,
    default_ranker,
    fitted_ranker,
    taught_lists,
)
from recsys.models.quantities import Quantities
from recsys.models.retrieval.retriever import Retriever, latest_accounts
from recsys.models.retrieval.retrievers import RetrieversConfig, default_retrievers
from recsys.models.snapshot import CutoffConfig, rolling_cutoffs, take_snapshot
from recsys.threads import parallel_map

logger = logging.getLogger(__name__)

CONSENSUS = 2.0
"""What the order of the channels that look at all of the past weighs beside the learned log-odds, where the history is
too short for two windows that do not touch. Ta-Feng in December 2000: NDCG@10 .043 with it, .029 without."""

_SLATE = 20
_SCORED_TOGETHER = 64  # accounts whose scores of five thousand products in twenty channels fit into the cache
_SECOND_LOOK = 2  # the first classifier looks at all candidates, the others at twice as many as are kept


class NextProductConfig(Config):
    """What is predicted and from how much.

    Attributes:
        horizon_days: a purchase within so many days counts.
        n_offers: candidates kept for each account at most.
        most_accounts: accounts that are scored at most, those that bought last; the others are answered from what they
            bought until they order again. Each costs two to three milliseconds of one core.
        most_candidates: candidates of all accounts together; bounds the memory. Of very many accounts fewer than
            `n_offers` are kept each, a slate of twenty at least.
        n_classifiers: classifiers whose mean log-odds order the candidates. Each has not seen one of the newest windows
            that do not overlap, on which it is calibrated instead; of three or more the last has seen all. Three rank 2
            to 3 per cent better than one.
        cutoffs: when the past is replayed.
        sampling: how much of it is learned from.
        sources: where candidates come from.
        features: how many candidates are described.
        ranker: how their order is learned.
        activity: how an account's chance to buy anything new is learned.
        calibration: how scores become probabilities.
    """

    horizon_days: float = Field(default=30.0, gt=0)
    n_offers: int = Field(default=100, ge=1)
    most_accounts: int = Field(default=400_000, ge=1)
    most_candidates: int = Field(default=5_000_000, ge=1)
    n_classifiers: int = Field(default=3, ge=2)
    cutoffs: CutoffConfig = CutoffConfig()
    sampling: SamplingConfig = SamplingConfig()
    sources: RetrieversConfig = RetrieversConfig()
    features: FeatureConfig = FeatureConfig()
    ranker: RankerConfig = RankerConfig()
    activity: ActivityConfig = ActivityConfig()
    calibration: CalibratorConfig = CalibratorConfig()


class FittedFold(NamedTuple):
    """What was learned from some replayed pasts.

    Attributes:
        ranker: orders the candidates of an account; None where there was nothing to learn from.
        activity: whether an account buys anything new.
        consensus: what the order of the channels that look at all of the past weighs beside the ranker's log-odds.
    """

    ranker: PairRanker | None
    activity: IncidenceModel
    consensus: float = 0.0

    def inputs(self, builder: FeatureBuilder, account: RowArray, values: AnyFloatArray) -> AnyFloatArray:
        """Return the ranker's score and the account's log-odds of buying anything new, `(n, 2)`."""
        if self.ranker is None:
            score = builder.popularity(values)
        else:
            score = candidate_log_odds(self.ranker, builder.frame(values))
            if self.consensus:
                score = score + self.consensus * builder.consensus(values)
        distinct, back = np.unique(account, return_inverse=True)
        odds = self.activity.log_odds(builder.account_values(distinct.astype(np.int32)))[back]
        return np.column_stack([score, odds]).astype(np.float32)


class NextProductModel(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Ranks the products that an account does not own and says how probable each purchase is.

    Two stages: candidate sources propose; classifiers trained on replayed pasts rank. Each classifier but the last is
    kept from one window of the past (and from all that overlap it): on it, and on all accounts with an earlier order,
    buyers or not, probability is calibrated. Of a history too short for two windows it is kept from half of the
    accounts instead, and the order leans on the channels that look at all of the past (`CONSENSUS`). The order is by
    the mean of their log-odds, the probability is the mean of theirs.

    Args:
        config: every option; default: `NextProductConfig()`.
        retrievers: what proposes candidates, in place of those that `config.sources` names.
        ranker: what orders them, in place of the one that `config.ranker` names.
        features: what describes them beside the engine's own features and those that `config.features` names.
    """

    def __init__(
        self,
        config: NextProductConfig | None = None,
        retrievers: Sequence[Retriever] | None = None,
        ranker: PairRanker | None = None,
        features: Sequence[FeatureMaker] | None = None,
    ) -> None:
        self.config = config
        self.retrievers = retrievers
        self.ranker = ranker
        self.features = features

    def fit(
        self,
        history: History,
        products: pd.DataFrame,
        accounts: pd.DataFrame,
        as_of: datetime,
        rng: np.random.Generator,
    ) -> Self:
        """Learn from what stands in `history` strictly before `as_of`; later lines change nothing.

        Args:
            history: order lines; its vocabularies may name more than was ever bought.
            products: columns of the products table; names and categories are used, `active` and `do_not_offer` obeyed.
            accounts: columns of the accounts table; those beyond the contract become features by their dtype.
            as_of: the moment up to which everything is known.
            rng: draws the samples and the seed of the trees.

        Raises:
            PluginError: a retriever, the ranker or a feature maker is not what it must be.
        """
        self.check_parts()
        past = history.before(as_of)
        self.products_, self.accounts_ = products, accounts
        self.columns_ = AccountColumns().fit(accounts)
        cutoffs = rolling_cutoffs(past, as_of, self._options.horizon_days, self._options.cutoffs)
        replays = parallel_map(partial(self._replay, past), cutoffs, rng.spawn(len(cutoffs)))
        n_classifiers, horizon_days = self._options.n_classifiers, self._options.horizon_days
        windows = calibrating_windows(cutoffs, horizon_days, n_classifiers)
        pasts = learned_pasts(windows, cutoffs, replays, n_classifiers, horizon_days)
        learned = parallel_map(self._learn, pasts, rng.integers(2**31, size=len(pasts)).tolist())
        # In one window that all examples share, what was bought at the time looks like what is bought at any time.
        consensus = 0.0 if len(windows) > 1 else CONSENSUS
        learned = [each._replace(consensus=consensus) for each in learned]
        kept: Iterable[KeptWindow] = (self._kept(past, cutoff, whole=len(windows) > 1) for cutoff in windows)
        self.order_choice_ = asked_order(self._options.ranker.objective, engines_own=isinstance(self._ranker(), Ranker))
        if self.order_choice_.taken == "listwise":
            kept = list(kept)
            learned = self._with_lists(learned, pasts, kept)
        self.ensemble_ = _able(learned)
        self.ranker_ = self.ensemble_[-1].ranker
        self.calibrator_ = Calibrator(self._options.calibration).fit(self._held_out(kept, rng))
        return self

    def score(self, history: History, as_of: datetime, accounts: RowArray | None = None) -> Candidates:
        """Return the best candidates of each account (default: those that bought last), nothing owned.

        Args:
            history: order lines; what stands at or after `as_of` changes nothing.
            as_of: the moment up to which everything is known.
            accounts: rows of the accounts in the history's vocabulary.
        """
        builder = self.builder(history, as_of)
        quantities = Quantities.of(builder.snapshot)
        latest = latest_accounts(builder.snapshot, self._options.most_accounts)
        wanted = latest if accounts is None else np.unique(accounts).astype(np.int32)
        size = min(self._options.sampling.block_accounts, _SCORED_TOGETHER)
        spread = max(self._options.most_candidates // max(len(wanted), 1), _SLATE)
        keep = min(self._options.n_offers, spread)
        season = season_ahead(builder.snapshot.lines, as_of, self._options.horizon_days)
        work = partial(self._score_block, builder, quantities, keep, season)
        return join_candidates(parallel_map(work, list(blocks(wanted, size))))

    def check_parts(self) -> None:
        """Check retrievers, ranker and feature makers, as far as can be told before they are fitted.

        Raises:
            PluginError: one is not what it must be.
            MissingExtraError: LightGBM is asked for and not installed.
        """
        check_several("retrievers", self.retrievers or ())
        check_several("features", self.features or ())
        sources, makers = self._sources(), self._makers()
        if not sources:
            raise PluginError("0 retrievers, must be 1 or more: nothing would be proposed; give default_retrievers()")
        for place, source in enumerate(sources):
            check_plugin("retrievers", source, f"retrievers[{place}]")
        for place, maker in enumerate(makers):
            check_plugin("features", maker, f"features[{place}]")
        check_unique("channel", [name for source in sources for name in source.channels])
        check_unique("feature", [name for maker in makers for name in maker.names])
        check_ranker(self._ranker())
        if self._options.ranker.objective == "listwise":
            check_lightgbm()

    def builder(self, history: History, as_of: datetime) -> FeatureBuilder:
        """Return the candidates and features of the moment `as_of`: the same for training, batch and online."""
        check_is_fitted(self)
        snapshot = take_snapshot(history, as_of, self.products_, self._options.features.time_scale)
        extra = self.columns_.transform(self.accounts_, history.account_ids)
        return FeatureBuilder(snapshot, self._sources(), extra, self._options.features, self._makers())

    @property
    def has_own_parts(self) -> bool:
        """Whether it holds a retriever, a ranker or features that do not come with the engine."""
        given = self.retrievers is not None or self.ranker is not None or bool(self.features)
        return given or self._options.ranker.plugin is not None

    @property
    def _options(self) -> NextProductConfig:
        return self.config or NextProductConfig()

    def _sources(self) -> tuple[Retriever, ...]:
        """New ones for each snapshot: several are looked at side by side."""
        if self.retrievers is None:
            return default_retrievers(self._options.sources)
        return tuple(clone(each, safe=False) for each in self.retrievers)

    def _makers(self) -> tuple[FeatureMaker, ...]:
        named = [load_plugin("features", name) for name in self._options.features.plugins]
        return (*named, *(clone(each, safe=False) for each in self.features or ()))

    def _ranker(self) -> PairRanker:
        return default_ranker(self._options.ranker) if self.ranker is None else self.ranker

    def _replay(self, past: History, cutoff: datetime, rng: np.random.Generator) -> ReplayedPast:
        config = self._options.sampling
        builder = self.builder(past, cutoff)
        novel = novel_purchases(past, cutoff, self._options.horizon_days)
        bought_any = np.diff(novel.indptr) > 0
        buyers = sample_buyers(bought_any, config, rng)
        examples = collect_examples(builder, novel, buyers, config, rng)
        weight = examples.weight * account_weight(novel, examples.account, config.account_power)
        looked_at = sample(builder.standing(), config.activity_accounts, rng)
        accounts = IncidenceExamples(looked_at, builder.account_values(looked_at), bought_any[looked_at])
        return ReplayedPast(examples._replace(weight=weight), accounts, builder.names)

    def _learn(self, replays: Sequence[ReplayedPast], seed: int) -> FittedFold:
        activity = IncidenceModel(self._options.activity, seed)
        if not replays:
            logger.warning("History shorter than the horizon: products are ranked by recent popularity.")
            return FittedFold(None, activity.fit(np.zeros((0, 1), np.float32), np.zeros(0, bool)))
        activity.fit(
            np.concatenate([each.accounts.values for each in replays]),
            np.concatenate([each.accounts.active for each in replays]),
        )
        examples = join_examples([each.candidates for each in replays])
        if not examples.bought.any() or examples.bought.all():
            logger.warning("No purchase among the replayed candidates to learn from: ranked by recent popularity.")
            return FittedFold(None, activity)
        candidates = pd.DataFrame(examples.values, columns=pd.Index(replays[0].names), copy=False)
        ranker = fitted_ranker(self._ranker(), candidates, examples.bought, examples.weight, seed)
        return FittedFold(ranker, activity)

    def _with_lists(
        self, learned: list[FittedFold], pasts: Sequence[Sequence[ReplayedPast]], windows: Sequence[KeptWindow]
    ) -> list[FittedFold]:
        """Return the classifiers with what whole lists teach, where that is asked for or orders the windows better."""
        n = len(windows)
        found = parallel_map(_with_lists, learned[:n], pasts[:n])
        if self._options.ranker.objective == "auto":
            orders = [(one.inputs, other.inputs) for one, other in zip(learned, found, strict=False)]
            self.order_choice_ = better_order(parallel_map(judged_orders, windows, orders))
        if self.order_choice_.taken == "pointwise":
            return learned
        return found + parallel_map(_with_lists, learned[n:], pasts[n:])

    def _kept(self, past: History, cutoff: datetime, *, whole: bool) -> KeptWindow:
        builder = self.builder(past, cutoff)
        novel = novel_purchases(past, cutoff, self._options.horizon_days)
        standing, season = builder.standing(), season_of(past, cutoff, self._options.horizon_days)
        return KeptWindow(builder, novel, standing if whole else standing[~in_learned_half(standing)], season)

    def _held_out(self, windows: Iterable[KeptWindow], rng: np.random.Generator) -> HeldOut:
        """Return what the calibration learns from: each classifier's own window, all accounts, buyers or not."""
        parts = [HeldOut.nothing(len(self.ensemble_))]
        config = self._options.sampling
        for (builder, novel, accounts, season), learned in zip(windows, self.ensemble_, strict=False):
            active = np.diff(novel.indptr)[accounts] > 0
            drawn, weight = balanced_sample(accounts, active, config.calibration_accounts, rng)
            stands_for = np.zeros(novel.shape[0], dtype=np.float32)
            stands_for[drawn] = weight
            chosen = list(blocks(drawn, config.block_accounts))
            work = partial(self._calibrating, builder, novel, learned, stands_for, season)
            parts += parallel_map(work, chosen, rng.spawn(len(chosen)))
        return HeldOut(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def _calibrating(
        self,
        builder: FeatureBuilder,
        novel: sp.csr_array,
        learned: FittedFold,
        stands_for: AnyFloatArray,
        season: float,
        block: RowArray,
        rng: np.random.Generator,
    ) -> HeldOut:
        found = collect_examples(builder, novel, block, self._options.sampling, rng)
        weight = found.weight * stands_for[found.account]
        views = [each.inputs(builder, found.account, found.values) for each in self.ensemble_]
        own = next(view for each, view in zip(self.ensemble_, views, strict=True) if each is learned)
        return HeldOut(own, found.bought, weight, np.full(len(weight), season), np.stack(views, axis=1))

    def _score_block(
        self, builder: FeatureBuilder, quantities: Quantities, keep: int, season: float, block: RowArray
    ) -> Candidates:
        found = builder.block(block)
        first, *others = self.ensemble_
        inputs = first.inputs(builder, found.account, found.values)
        near = _best_of_each(found.account, found.product, inputs[:, 0], _SECOND_LOOK * keep)
        account, product, values = found.account[near], found.product[near], found.values[near]
        views = [inputs[near], *(each.inputs(builder, account, values) for each in others)]
        score = np.mean([view[:, 0] for view in views], axis=0)
        best = _best_of_each(account, product, score, keep)
        account, product = account[best], product[best]
        return Candidates(
            account=account,
            product=product,
            from_product=np.full(len(best), NO_PRODUCT, dtype=np.int32),
            score=score[best],
            probability=self.calibrator_.probability([view[best] for view in views], season),
            expected_quantity=quantities.expect(account, product),
        )


def _best_of_each(account: RowArray, product: RowArray, score: AnyFloatArray, k: int) -> NDArray[np.intp]:
    """Return where the `k` highest scores of each account stand, by account, then score; ties by product."""
    order = np.lexsort((product, -score, account))
    place = np.arange(len(order)) - np.searchsorted(account[order], account[order])
    return order[place < k]


def _with_lists(fold: FittedFold, replays: Sequence[ReplayedPast]) -> FittedFold:
    return fold._replace(ranker=taught_lists(fold.ranker, [each.candidates for each in replays]))


def _able(learned: Sequence[FittedFold]) -> tuple[FittedFold, ...]:
    """Put one that could learn in the place of each that had nothing to learn from; none can, if none could."""
    able = next((each for each in learned if each.ranker is not None), learned[0])
    return tuple(able if each.ranker is None else each for each in learned)
