"""The propensity of each account and rung to climb within a horizon."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import expit, logit
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from recsys.arrays import FloatArray, IntArray
from recsys.contracts.config import Config
from recsys.data.history import History, epoch_seconds
from recsys.ladder.edges import Ladder
from recsys.ladder.upgrade_events import EdgePairs, UpgradeEventConfig, find_upgrade_events
from recsys.models.candidates import Candidates
from recsys.models.order_process import log_orders, log_orders_ahead
from recsys.models.propensity.blending import calibrate
from recsys.models.quantities import FirstQuantities
from recsys.models.upgrade.classifier import ClimbClassifier
from recsys.models.upgrade.features import climb_features
from recsys.models.upgrade.snapshot import ClimbSnapshot, peer_rates, usual_quantity


class UpgradeConfig(Config):
    """How the upgrade model learns."""

    horizon_days: int = Field(30, ge=1)
    """Days within which an account climbs, or not."""
    n_cutoffs: int = Field(14, ge=1)
    """Cutoffs at most, one horizon apart: a year of them and the later ones that calibrate."""
    enough_climbs: int = Field(14_000, ge=1)
    """Climbs from which on no earlier cutoff is looked at; by default as many as all cutoffs may have."""
    n_calibration: int = Field(2, ge=1)
    """Last cutoffs that calibrate and are not learned from, where there are at least twice as many; two steady it."""
    pairs_a_climb: int = Field(25, ge=1)
    """Pairs without a climb drawn for each climb, reweighted to their number; more cost time and tell little."""
    most_climbs: int = Field(1_000, ge=1)
    """Climbs of a cutoff that are learned from at most, drawn and reweighted; bounds time on a large market."""
    min_pairs: int = Field(1_000, ge=1)
    """Pairs of a cutoff that are kept at least, for a market with few climbs."""
    block_pairs: int = Field(1_000_000, ge=1)
    """Pairs that are scored at a time; bounds the memory."""
    recent_days: int = Field(90, ge=1)
    """Days that count as recent: a quarter, long enough for a few orders of a business, short enough to be news."""
    climbs: UpgradeEventConfig = UpgradeEventConfig()
    """What counts as standing and as a climb."""


@dataclass(frozen=True)
class ClimbSample:
    """Labelled pairs of one cutoff.

    Attributes:
        account: row of each pair's account, `(n_pairs,)`.
        features: one row a pair.
        climbed: 1 if the account climbed the edge within the horizon, `(n_pairs,)`.
        weight: how many pairs each one stands for, `(n_pairs,)`.
        prior: peers' climb rate of the edge at the cutoff, `(n_pairs,)`.
        season: log of the orders in the horizon.
    """

    account: NDArray[np.int32]
    features: pd.DataFrame
    climbed: IntArray
    weight: FloatArray
    prior: FloatArray
    season: float


class UpgradeModel(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Learns who climbs which rung of a ladder within a horizon.

    Rolling cutoffs, one horizon apart, each with every account that stands on a rung; the last ones calibrate. A
    label needs its horizon and the follow-up of the climb: the last cutoff lies that far before `as_of`. Without
    enough climbs to learn from, an account's propensity is its peers' climb rate.

    The level follows the orders: it is moved by how many are expected in the horizon ahead, beside those of the
    windows that calibrate. With a year of history the season is known, before it as many orders are expected as there
    were in the days before.

    Attributes:
        classifier_: the fitted classifier, or None where there was too little to learn from.
        intercept_: calibration on the later window.
        slope_: calibration on the later window.
        season_: log of the orders in a horizon of that window, which the intercept is against.
        n_pairs_: labelled pairs that were seen.
        n_climbs_: climbs that were learned from.
        ladder_: the ladder.
        accounts_: the account table.
    """

    def __init__(self, config: UpgradeConfig | None = None) -> None:
        self.config = config

    def fit(
        self,
        history: History,
        products: pd.DataFrame,  # noqa: ARG002  the ladder holds what products say; the signature is shared with other models
        accounts: pd.DataFrame,
        ladder: Ladder,
        as_of: datetime,
        rng: np.random.Generator,
    ) -> Self:
        """Learn from the lines before `as_of`."""
        config = self.config or UpgradeConfig()
        self.ladder_, self.accounts_ = ladder, accounts
        self.intercept_, self.slope_ = 0.0, 1.0
        self.season_: float | None = None
        before = history.before(as_of)
        samples = self._samples(before, as_of, rng)
        self.n_pairs_ = round(sum(float(sample.weight.sum()) for sample in samples))
        self.n_climbs_ = sum(int(sample.climbed.sum()) for sample in samples)
        n_later = config.n_calibration if len(samples) >= 2 * config.n_calibration else 0
        earlier, later = samples[: len(samples) - n_later], samples[len(samples) - n_later :]
        self.classifier_ = _learn(earlier, rng)
        if later:
            odds = np.concatenate([self._odds(sample.features, sample.prior) for sample in later])
            seasons = np.array([sample.season for sample in later])
            self.season_ = float(seasons.mean())
            shift = np.repeat(seasons - self.season_, [len(sample.climbed) for sample in later])
            climbed, weight = _stack(later)
            self.intercept_, self.slope_ = calibrate(odds, climbed, weight, shift, prior=_CALIBRATION_PRIOR)
        return self

    def score(self, history: History, as_of: datetime) -> Candidates:
        """Return the best upgrade to each product for each account that stands on a rung, as of a moment.

        An account that stands on several rungs below one product has one candidate: the most probable.
        """
        check_is_fitted(self)
        config = self.config or UpgradeConfig()
        snapshot = ClimbSnapshot.at(history, self.ladder_, config.climbs, as_of, config.recent_days)
        pairs = snapshot.standing
        probability = self.pair_probabilities(snapshot, pairs)
        product, lower = snapshot.edges.upper[pairs.edge], snapshot.edges.lower[pairs.edge]
        quantity = FirstQuantities.of(history.before(as_of)).limit(
            pairs.account, product, usual_quantity(snapshot, pairs)
        )
        order = np.lexsort((lower, product, -probability, pairs.account))
        key = pairs.account[order].astype(np.int64) * history.n_products + product[order]
        _, first = np.unique(key, return_index=True)
        kept = order[np.sort(first)]
        return Candidates(
            account=pairs.account[kept],
            product=product[kept],
            from_product=lower[kept],
            score=probability[kept].astype(np.float32),
            probability=probability[kept].astype(np.float32),
            expected_quantity=quantity[kept].astype(np.float32),
        )

    def pair_probabilities(self, snapshot: ClimbSnapshot, pairs: EdgePairs) -> FloatArray:
        """Return the calibrated probability that each pair's account climbs its edge within the horizon."""
        config = self.config or UpgradeConfig()
        rate = peer_rates(snapshot, len(self.ladder_), config.horizon_days)
        season = log_orders_ahead(snapshot.history, snapshot.now, config.horizon_days)
        shift = 0.0 if self.season_ is None else season - self.season_
        parts = [np.empty(0)]
        for start in range(0, len(pairs), config.block_pairs):
            keep = np.zeros(len(pairs), dtype=bool)
            keep[start : start + config.block_pairs] = True
            block = pairs.select(keep)
            features = climb_features(snapshot, block, self.ladder_, self.accounts_, config.horizon_days)
            odds = self.intercept_ + self.slope_ * self._odds(features, rate[block.edge])
            parts.append(expit(odds + shift))
        return np.concatenate(parts)

    def _odds(self, features: pd.DataFrame, prior: FloatArray) -> FloatArray:
        if self.classifier_ is None:
            return logit(np.clip(prior, 1e-6, 1 - 1e-6))
        return self.classifier_.decision_function(features)

    def _samples(self, history: History, as_of: datetime, rng: np.random.Generator) -> list[ClimbSample]:
        """Return the samples of the last cutoffs, rising: as many as it takes for enough climbs."""
        config = self.config or UpgradeConfig()
        samples: list[ClimbSample] = []
        n_climbs = 0
        for cutoff in reversed(climb_cutoffs(history, as_of, config)):
            if n_climbs >= config.enough_climbs and len(samples) >= 2 * config.n_calibration:
                break
            samples.append(self._sample(history, cutoff, rng))
            n_climbs += int(samples[-1].climbed.sum())
        return samples[::-1]

    def _sample(self, history: History, cutoff: datetime, rng: np.random.Generator) -> ClimbSample:
        config = self.config or UpgradeConfig()
        snapshot = ClimbSnapshot.at(history, self.ladder_, config.climbs, cutoff, config.recent_days)
        pairs = snapshot.standing
        climbed = climbs_within(history, snapshot, pairs, config)
        n_climbs = min(int(climbed.sum()), config.most_climbs)
        keep, weight = _draw(climbed, n_climbs, max(config.pairs_a_climb * n_climbs, config.min_pairs), rng)
        pairs = pairs.select(keep)
        features = climb_features(snapshot, pairs, self.ladder_, self.accounts_, config.horizon_days)
        rate = peer_rates(snapshot, len(self.ladder_), config.horizon_days)
        season = log_orders(history, snapshot.now, config.horizon_days)  # all of it lies before `as_of`
        return ClimbSample(pairs.account, features, climbed[keep], weight, rate[pairs.edge], season)


_FEWEST_CLIMBERS = 20
# The level drifts by 0.2 in log odds from window to window anyway, not all of it here to stay; the slope drifts less.
_CALIBRATION_PRIOR = (25.0, 5.0)


def _learn(samples: list[ClimbSample], rng: np.random.Generator) -> ClimbClassifier | None:
    """Return a classifier of some cutoffs' pairs; None with too few accounts that climbed to tell anything from."""
    climbers = [sample.account[sample.climbed == 1] for sample in samples]
    if not climbers or len(np.unique(np.concatenate(climbers))) < _FEWEST_CLIMBERS:
        return None
    features = pd.concat([sample.features for sample in samples], ignore_index=True)
    climbed, weight = _stack(samples)
    accounts = np.concatenate([sample.account for sample in samples])
    return ClimbClassifier(random_state=int(rng.integers(2**31))).fit(features, climbed, weight, accounts)


def _stack(samples: list[ClimbSample]) -> tuple[IntArray, FloatArray]:
    climbed = np.concatenate([sample.climbed for sample in samples])
    return climbed, np.concatenate([sample.weight for sample in samples])


def climb_cutoffs(history: History, as_of: datetime, config: UpgradeConfig) -> list[datetime]:
    """Return the cutoffs to learn from, rising, one horizon apart.

    The last is a horizon and the climbs' follow-up before `as_of`, so that each label is complete; the first has at
    least one horizon of history.
    """
    if not len(history):
        return []
    start = int(history.seconds.min())
    step = timedelta(days=config.horizon_days)
    last = as_of - step - timedelta(days=config.climbs.follow_days)
    cutoffs = [last - i * step for i in range(config.n_cutoffs)]
    return sorted(cutoff for cutoff in cutoffs if epoch_seconds(cutoff - step) >= start)


def climbs_within(history: History, snapshot: ClimbSnapshot, pairs: EdgePairs, config: UpgradeConfig) -> IntArray:
    """Return 1 for each pair whose account climbed its edge in `[now, now + horizon)`, `(n_pairs,)`."""
    until = snapshot.now + config.horizon_days * 86_400
    bought = find_upgrade_events(history, snapshot.edges, config.climbs)
    within = bought.climbed & (bought.seconds >= snapshot.now) & (bought.seconds < until)
    n = max(len(snapshot.edges), 1)
    climbed = bought.account[within].astype(np.int64) * n + bought.edge[within]
    return np.isin(pairs.account.astype(np.int64) * n + pairs.edge, climbed).astype(int)


def _draw(
    climbed: IntArray, n_climbs: int, n_others: int, rng: np.random.Generator
) -> tuple[NDArray[np.bool_], FloatArray]:
    """Return which pairs are kept, so many climbs and others at the most, and how many each kept one stands for."""
    keep, weight = np.zeros(len(climbed), dtype=bool), np.ones(len(climbed))
    for label, wanted in ((1, n_climbs), (0, n_others)):
        rows = np.flatnonzero(climbed == label)
        drawn = rows if len(rows) <= wanted else rng.choice(rows, wanted, replace=False)
        keep[drawn] = True
        weight[drawn] = len(rows) / max(len(drawn), 1)
    return keep, weight[keep]
