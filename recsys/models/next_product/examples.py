"""Labelled candidates from replayed pasts: what the ranker, the activity model and the calibration learn from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import Field

from recsys.arrays import AnyFloatArray, BoolArray, RowArray
from recsys.contracts.config import Config
from recsys.data.history import stands_in
from recsys.models.next_product.features import FeatureBuilder


class SamplingConfig(Config):
    """How much of each replayed past is learned from: bounds time and memory whatever the number of accounts.

    Attributes:
        train_accounts: later buyers whose candidates are learned from at each cutoff.
        train_share: share of the later buyers that are learned from where that is more, up to four times
            `train_accounts`: of ten thousand buyers, five hundred say too little of what is rarely bought.
        activity_accounts: accounts, buyers or not, whose activity is learned from at each cutoff.
        calibration_accounts: accounts on which probabilities are calibrated in each held-out window: half of them later
            buyers, whose number is what makes a curve exact, half the others, weighted; see `balanced_sample`.
        negative_share: share of the candidates not bought that is kept; weights undo it.
        account_power: a buyer of n new products weighs `n^-power` in each: at 1 every buyer counts the same, at 0 every
            purchase. An NDCG at 10 lies between: a hit of one who buys fifty products is worth a tenth of a list and
            not a fiftieth. 0.5 was best in March and May 2011 on Online Retail II, by 5 to 7 per cent over 1.
        block_accounts: accounts described at a time; bounds memory.
    """

    train_accounts: int = Field(default=2_000, ge=1)
    train_share: float = Field(default=0.2, ge=0, le=1)
    activity_accounts: int = Field(default=20_000, ge=1)
    calibration_accounts: int = Field(default=2_500, ge=1)
    negative_share: float = Field(default=0.1, gt=0, le=1)
    account_power: float = Field(default=0.5, ge=0, le=1)
    block_accounts: int = Field(default=256, ge=1)


class LabelledCandidates(NamedTuple):
    """Labelled candidates.

    Attributes:
        account: row of the account, `(n,)`.
        values: features, `(n, n_features)`.
        bought: whether each was bought for the first time within the horizon, `(n,)`.
        weight: inverse of the chance that the row was kept, `(n,)`.
    """

    account: RowArray
    values: AnyFloatArray
    bought: BoolArray
    weight: AnyFloatArray


class IncidenceExamples(NamedTuple):
    """Accounts with an earlier order, and whether they bought anything new.

    Attributes:
        account: row of the account, `(n_accounts,)`.
        values: features, `(n_accounts, n_features)`.
        active: `(n_accounts,)`.
    """

    account: RowArray
    values: AnyFloatArray
    active: BoolArray


def blocks(accounts: RowArray, size: int) -> Iterator[RowArray]:
    """Yield the accounts in blocks of at most `size`."""
    for start in range(0, len(accounts), size):
        yield accounts[start : start + size]


def collect_examples(
    builder: FeatureBuilder,
    novel: sp.csr_array,
    accounts: RowArray,
    config: SamplingConfig,
    rng: np.random.Generator,
) -> LabelledCandidates:
    """Return the candidates of some accounts with their labels: all that were bought, a share of the others."""
    parts = [
        LabelledCandidates(
            np.zeros(0, np.int32),
            np.zeros((0, len(builder.names)), np.float32),
            np.zeros(0, bool),
            np.zeros(0, np.float32),
        )
    ]
    for block in blocks(accounts, config.block_accounts):
        found = builder.block(block)
        bought = stands_in(novel, found.account, found.product)
        keep = bought | (rng.random(len(bought)) < config.negative_share)
        weight = np.where(bought, 1.0, 1.0 / config.negative_share).astype(np.float32)
        parts.append(LabelledCandidates(found.account[keep], found.values[keep], bought[keep], weight[keep]))
    return join_examples(parts)


def join_examples(parts: Sequence[LabelledCandidates]) -> LabelledCandidates:
    """Return the examples of several cutoffs or blocks as one."""
    return LabelledCandidates(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def account_weight(novel: sp.csr_array, account: NDArray[np.int32], power: float) -> AnyFloatArray:
    """Return `n^-power` for each row, n the products that its account bought for the first time, `(n,)`."""
    n_novel = np.maximum(np.diff(novel.indptr), 1)
    return (n_novel.astype(np.float32) ** -power)[account]


def sample(rows: RowArray, limit: int, rng: np.random.Generator) -> RowArray:
    """Return at most `limit` of the rows, ascending, drawn without replacement."""
    return rows if len(rows) <= limit else np.sort(rng.choice(rows, size=limit, replace=False))


_MOST_TIMES = 4  # bounds time and memory on a large market


def sample_buyers(bought_any: BoolArray, config: SamplingConfig, rng: np.random.Generator) -> RowArray:
    """Return the rows of the later buyers that are learned from, ascending; `bought_any` is `(n_accounts,)`."""
    buyers = np.flatnonzero(bought_any).astype(np.int32)
    share = min(round(config.train_share * len(buyers)), _MOST_TIMES * config.train_accounts)
    return sample(buyers, max(config.train_accounts, share), rng)


def balanced_sample(
    rows: RowArray, active: BoolArray, limit: int, rng: np.random.Generator
) -> tuple[RowArray, NDArray[np.float64]]:
    """Return at most `limit` accounts, ascending, and how many each stands for: half of them active, half not.

    Few accounts buy anything in a month, and some buy fifty things at once: of accounts drawn at random too few
    purchases are seen to tell a rate by. So the two kinds are drawn apart (two-phase, or case-control sampling), each
    at random, and weights undo it. A side that is short leaves its places to the other. Weights are relative: an
    active account weighs 1.

    Args:
        rows: accounts to draw from.
        active: whether each bought something in the window, `(len(rows),)`.
        limit: accounts that are drawn at most.
        rng: draws them.
    """
    sides = rows[active], rows[~active]
    n_active = min(len(sides[0]), max(limit // 2, limit - len(sides[1])))
    drawn = [sample(side, n, rng) for side, n in zip(sides, (n_active, limit - n_active), strict=True)]
    stands_for = [len(side) / max(len(some), 1) for side, some in zip(sides, drawn, strict=True)]
    relative = stands_for[1] / stands_for[0] if stands_for[0] else 1.0
    chosen, weight = np.concatenate(drawn), np.repeat([1.0, relative], [len(some) for some in drawn])
    order = np.argsort(chosen)
    return chosen[order], weight[order]
