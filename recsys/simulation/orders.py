"""When accounts order, how much they put into an order, and through which channel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from recsys.arrays import FloatArray, IntArray, positions, row_of_entry, running_sums
from recsys.simulation import constants
from recsys.simulation.accounts import Accounts
from recsys.simulation.constants import MarketConfig
from recsys.simulation.random_streams import Stream, account_keys, normal, uniform
from recsys.simulation.seasonality import Seasonality

# Cumulative shares of the channels (constants.CHANNELS) that accounts of each segment prefer.
_CHANNEL_UNTIL = ((0.70, 0.85, 1.0), (0.45, 0.65, 0.95), (0.75, 0.90, 0.97), (0.50, 0.80, 0.95), (0.15, 0.20, 0.45))
_PREFERRED = 0.85


@dataclass(frozen=True)
class Orders:
    """Orders of a block of accounts, by account and time, arrays of shape `(n_orders,)`.

    Attributes:
        account: row in the block.
        position: number of the order within its account, 0 first.
        seconds: time, seconds since 1970-01-01 UTC.
        target: how many lines the order should have.
        channel: number of the channel.
    """

    account: IntArray
    position: IntArray
    seconds: IntArray
    target: IntArray
    channel: IntArray

    def __len__(self) -> int:
        return len(self.account)


def draw_orders(config: MarketConfig, accounts: Accounts, clock: Seasonality, mean_lines: float) -> Orders:
    """Return the orders of a block.

    An account orders as a Poisson process in busy time until it lapses, which it does after each order with its own
    probability (the BG/NBD model of Fader, Hardie, Lee 2005). `mean_lines` is the mean of `target`.
    """
    counts = _order_limit(config, accounts, clock)
    account, position = row_of_entry(counts), positions(counts)
    gaps = -np.log(uniform(account_keys(config.seed, Stream.GAP, accounts.number)[account], position))
    gaps /= accounts.order_rate[account]
    gaps[(position == 0) & accounts.is_new[account]] = 0.0
    busy = accounts.entry[account] + running_sums(gaps, counts)
    kept = busy < clock.length
    account, position = account[kept], position[kept]
    return Orders(
        account=account,
        position=position,
        seconds=np.minimum(clock.seconds(busy[kept]), clock.end - 1),
        target=_targets(config, accounts, account, position, mean_lines),
        channel=_channels(config, accounts, account, position),
    )


def _order_limit(config: MarketConfig, accounts: Accounts, clock: Seasonality) -> IntArray:
    """Return how many gaps to draw: the lifetime in orders, or clearly more than the market has room for."""
    place = uniform(account_keys(config.seed, Stream.LIFETIME, accounts.number))
    lifetime = 1.0 + np.floor(np.log(place) / np.log1p(-accounts.lapse))
    mean = accounts.order_rate * np.maximum(clock.length - accounts.entry, 0.0)
    room = np.ceil(mean + 8.0 * np.sqrt(mean) + 12.0)
    return np.minimum(lifetime, room).astype(np.int64)


def _targets(
    config: MarketConfig, accounts: Accounts, account: IntArray, position: IntArray, mean_lines: float
) -> IntArray:
    """Return order sizes: geometric with the mean asked for, alike within an account (a Gaussian copula)."""
    keys = account_keys(config.seed, Stream.ORDER_SIZE, accounts.number)[account]
    own = np.sqrt(1 - constants.ORDER_SIZE_ACCOUNT_SHARE) * normal(keys, position)
    upper = ndtr(-(accounts.size_score[account] + own))
    exponential = -np.log(np.maximum(upper, 1e-12))
    target = 1 + np.floor(_geometric_scale(mean_lines) * exponential).astype(np.int64)
    single_keys = account_keys(config.seed, Stream.SINGLE_LINE, accounts.number)[account]
    return np.where(uniform(single_keys, position) < constants.SINGLE_LINE_SHARE, 1, target)


def _geometric_scale(mean_lines: float) -> float:
    """Return the scale that gives the mean asked for, single-line orders counted."""
    share = constants.SINGLE_LINE_SHARE
    return (mean_lines - share) / (1.0 - share) - 0.5


def _channels(config: MarketConfig, accounts: Accounts, account: IntArray, position: IntArray) -> IntArray:
    usual = uniform(account_keys(config.seed, Stream.USUAL_CHANNEL, accounts.number))
    preferred = (usual[:, None] > np.asarray(_CHANNEL_UNTIL)[accounts.segment]).sum(axis=1)
    place: FloatArray = uniform(account_keys(config.seed, Stream.CHANNEL, accounts.number)[account], position)
    other = ((place - _PREFERRED) / (1 - _PREFERRED) * len(constants.CHANNELS)).astype(np.int64)
    return np.where(place < _PREFERRED, preferred[account], np.clip(other, 0, len(constants.CHANNELS) - 1))
