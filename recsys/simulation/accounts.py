"""The accounts: who they are, how often they order, what they need, and when they lapse."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from recsys.arrays import FloatArray, IntArray
from recsys.contracts import columns as c
from recsys.data.history import SECONDS_A_DAY
from recsys.simulation import constants
from recsys.simulation.catalogue import Catalogue
from recsys.simulation.constants import MarketConfig
from recsys.simulation.random_streams import Stream, account_keys, normal, uniform
from recsys.simulation.seasonality import Seasonality

EMPLOYEES: str = "employees"
N_SLOTS = 5
SHARE_KEY_ACCOUNTS = 0.04
_OWNERS_A_REGION = 4
_OLDEST_DAYS = 1_500
# In the order of constants.SEGMENTS: share, and effects on the logs of order rate and quantity, and on order size.
_SEGMENT_SHARE = (0.42, 0.20, 0.18, 0.12, 0.08)
SEGMENT_RATE = (0.0, 0.25, -0.05, -0.35, 0.30)
_SEGMENT_QUANTITY = (-0.15, 0.10, -0.05, 0.15, 0.45)
# Effects of being a key account on the same logs, and on the lapse logit; the rate's is 0.9 x (0.3 + an exponential
# of mean 1), so that a few order nearly every day.
KEY_RATE, _KEY_QUANTITY, _KEY_SIZE, KEY_LAPSE = 0.9, 0.5, 0.2, -1.0
KEY_RATE_OFFSET = 0.3


@dataclass(frozen=True)
class Accounts:
    """A block of accounts as arrays of shape `(n,)`.

    Attributes:
        number: position in the market, 0 first; every draw of the account derives from the seed and this number.
        segment: number of the segment.
        region: number of the region.
        owner: number of the sales representative within the region.
        is_key: whether it is a key account.
        created: second at which the account was created.
        entry: busy days after the start at which it begins to order.
        is_new: whether it arrives within the market, with its first order.
        order_rate: orders a busy day while it has not lapsed.
        is_regular: whether it orders often, lapses seldom, and has needs that it replenishes.
        lapse: probability that an order is its last one.
        size_score: the account's part of an order size's normal score.
        log_quantity: the account's part of the log of a quantity.
        slot_category: shape `(n, N_SLOTS)`, the categories that it needs.
        slot_until: shape `(n, N_SLOTS)`, cumulative weights of the needs.
    """

    number: IntArray
    segment: IntArray
    region: IntArray
    owner: IntArray
    is_key: NDArray[np.bool_]
    created: IntArray
    entry: FloatArray
    is_new: NDArray[np.bool_]
    order_rate: FloatArray
    is_regular: NDArray[np.bool_]
    lapse: FloatArray
    size_score: FloatArray
    log_quantity: FloatArray
    slot_category: IntArray
    slot_until: FloatArray

    def __len__(self) -> int:
        return len(self.number)

    def ids(self) -> NDArray[np.object_]:
        """Return the account ids."""
        return np.array([f"A{number + 1:07d}" for number in self.number], dtype=object)


def draw_accounts(config: MarketConfig, catalogue: Catalogue, clock: Seasonality, first: int, last: int) -> Accounts:
    """Return accounts number `first` to `last - 1`."""
    number = np.arange(first, last, dtype=np.int64)

    def score(stream: Stream) -> FloatArray:
        return normal(account_keys(config.seed, stream, number))

    def share(stream: Stream) -> FloatArray:
        return uniform(account_keys(config.seed, stream, number))

    segment = np.searchsorted(np.cumsum(_SEGMENT_SHARE)[:-1], share(Stream.SEGMENT))
    key_place = share(Stream.KEY_ACCOUNT) / SHARE_KEY_ACCOUNTS
    is_key = key_place < 1.0
    is_one_off = share(Stream.ONE_OFF) < constants.ONE_OFF_SHARE
    log_rate = constants.LOG_ORDER_RATE_MEAN + constants.LOG_ORDER_RATE_SD * score(Stream.ORDER_RATE)
    log_rate += np.asarray(SEGMENT_RATE)[segment] + KEY_RATE * np.where(
        is_key, KEY_RATE_OFFSET - np.log(key_place), 0.0
    )
    is_regular = ~is_one_off & (log_rate > constants.REGULAR_LOG_RATE)
    logit = np.where(is_regular, constants.REGULAR_LAPSE_LOGIT_MEAN, constants.LAPSE_LOGIT_MEAN)
    logit += np.where(is_regular, constants.REGULAR_LAPSE_LOGIT_SD, constants.LAPSE_LOGIT_SD) * score(Stream.LAPSE_RATE)
    logit += KEY_LAPSE * is_key
    log_quantity = constants.LOG_QUANTITY_ACCOUNT_SD * score(Stream.QUANTITY_ACCOUNT)
    created, entry, is_new = _arrivals(share(Stream.ARRIVAL), share(Stream.AGE), clock)
    slot_category, slot_until = _slots(config, catalogue, number, segment)
    return Accounts(
        number=number,
        segment=segment,
        region=(share(Stream.REGION) * len(constants.REGIONS)).astype(np.int64),
        owner=(share(Stream.OWNER) * _OWNERS_A_REGION).astype(np.int64),
        is_key=is_key,
        created=created,
        entry=entry,
        is_new=is_new,
        order_rate=config.activity * np.exp(log_rate),
        is_regular=is_regular,
        lapse=np.where(is_one_off, constants.ONE_OFF_LAPSE, expit(logit)),
        size_score=np.sqrt(constants.ORDER_SIZE_ACCOUNT_SHARE) * score(Stream.ORDER_SIZE_ACCOUNT) + _KEY_SIZE * is_key,
        log_quantity=log_quantity + np.asarray(_SEGMENT_QUANTITY)[segment] + _KEY_QUANTITY * is_key,
        slot_category=slot_category,
        slot_until=slot_until,
    )


def accounts_frame(accounts: Accounts) -> pd.DataFrame:
    """Return the accounts table in contract columns, and `employees`, which follows the account's quantities."""
    regions = np.array(constants.REGIONS, dtype=object)[accounts.region]
    owners = [f"{region}-{owner + 1}" for region, owner in zip(regions, accounts.owner, strict=True)]
    return pd.DataFrame(
        {
            c.ACCOUNT_ID: accounts.ids(),
            c.SEGMENT: np.array(constants.SEGMENTS, dtype=object)[accounts.segment],
            c.REGION: regions,
            c.IS_KEY_ACCOUNT: pd.array(accounts.is_key, dtype="boolean"),
            c.OWNER: np.array(owners, dtype=object),
            c.CREATED_AT: pd.to_datetime(accounts.created, unit="s", utc=True).as_unit("us"),
            c.DO_NOT_OFFER: np.zeros(len(accounts), dtype=bool),
            EMPLOYEES: np.ceil(6 * np.exp(1.2 * accounts.log_quantity + 0.5 * accounts.size_score)).astype(np.int64),
        }
    )


def _arrivals(place: FloatArray, age: FloatArray, clock: Seasonality) -> tuple[IntArray, FloatArray, NDArray[np.bool_]]:
    is_new = place >= constants.SHARE_EXISTING
    entry = np.where(is_new, (place - constants.SHARE_EXISTING) / (1 - constants.SHARE_EXISTING) * clock.length, 0.0)
    before = clock.start - np.floor(age * _OLDEST_DAYS * SECONDS_A_DAY).astype(np.int64)
    return np.where(is_new, clock.seconds(entry), before), entry, is_new


def _slots(
    config: MarketConfig, catalogue: Catalogue, number: IntArray, segment: IntArray
) -> tuple[IntArray, FloatArray]:
    """Return the needed categories, drawn from what the segment buys, and their cumulative weights."""
    until = np.cumsum(segment_shares(config, catalogue), axis=1)
    category_keys = account_keys(config.seed, Stream.NEED_CATEGORY, number)
    weight_keys = account_keys(config.seed, Stream.NEED_WEIGHT, number)
    category = np.empty((len(number), N_SLOTS), dtype=np.int64)
    weight = np.empty((len(number), N_SLOTS))
    for slot in range(N_SLOTS):
        place = uniform(category_keys, slot)
        category[:, slot] = (place[:, None] > until[segment]).sum(axis=1)
        weight[:, slot] = -np.log(uniform(weight_keys, slot))
    total = np.cumsum(weight, axis=1)
    return np.minimum(category, until.shape[1] - 1), total / total[:, -1:]


def segment_shares(config: MarketConfig, catalogue: Catalogue) -> FloatArray:
    """Return the share of each category in what a segment needs, shape `(n_segments, n_categories)`."""
    rng = np.random.default_rng(np.random.SeedSequence([config.seed, 0x5E6]))
    n_categories = len(catalogue.category_start) - 1
    mass = np.bincount(catalogue.category, weights=catalogue.popularity, minlength=n_categories)
    tilted = mass * np.exp(rng.normal(0.0, 0.7, (len(constants.SEGMENTS), n_categories)))
    return np.asarray(tilted / tilted.sum(axis=1, keepdims=True), dtype=np.float64)
