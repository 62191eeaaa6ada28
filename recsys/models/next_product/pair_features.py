"""How a product fits an account: taste, chances that it had, and what it owns of the kind."""

from __future__ import annotations

from typing import Final, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import AnyFloatArray, FeatureMatrix, RowArray
from recsys.models.snapshot import Snapshot

NAMES: Final = (
    "fit_price",
    "fit_quantity",
    "fit_age",
    "fit_breadth",
    "fit_category",
    "days_since_category",
    "orders_since_launch",
    "lines_since_launch",
    "orders_since_restock",
    "days_last_order_to_launch",
    "id_distance",
    "ids_near",
    "ids_around",
    "owned_of_launch",
    "added_of_launch",
)
_NEAR_IDS: Final = 5
_AROUND_IDS: Final = 25
_LAUNCH_DAYS: Final = 7.0  # products launched within a week of each other are one collection
_ADDED_DAYS: Final = 60.0
_ACCOUNT_STEP: Final = 1e6  # days; above any age, so that account and age fit one sorted number


class FeatureMaker(Protocol):
    """Describes pairs of an account and a product, from what was known at a moment.

    One of one's own needs these three names and no base class; it is copied as a `Retriever` is.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each feature, unique over all features."""
        ...

    def fit(self, snapshot: Snapshot) -> Self:
        """Learn from what was known at the snapshot, and forget what was learned before."""
        ...

    def transform(self, account: RowArray, product: RowArray) -> AnyFloatArray:
        """Return the features of each pair, `(n_pairs, n_features)`; NaN is missing.

        Args:
            account: row of each pair's account in the snapshot, `(n_pairs,)`.
            product: row of its product, `(n_pairs,)`.
        """
        ...


class PairFeatures:
    """Features of an account and a product together, from one snapshot.

    `orders_since_launch` is how often the account could have bought the product and did not: the strongest sign that
    it does not want it, and what makes new products stand out for accounts that have not ordered since. `fit_category`
    is the share of the product's category among what the account owns, 0 where the category is new to it, and
    `days_since_category` how long ago it last bought of it, missing where it never did. Catalogues
    number products of a kind side by side, so that owned ids near the product's say something too.
    """

    names = NAMES

    def __init__(self, products: FeatureMatrix, accounts: FeatureMatrix) -> None:
        self.products = products
        self.accounts = accounts

    def fit(self, snapshot: Snapshot) -> Self:
        """Sort what each account bought and when, so that many pairs are looked up at once."""
        products = self.products
        self.price_ = _log(products.column("product_price"))
        self.quantity_ = _log(products.column("product_quantity"))
        self.age_ = products.column("product_age_days")
        self.restock_ = products.column("product_days_since_restock")
        self.breadth_ = products.column("product_buyers_breadth")
        self.categories_ = snapshot.categories
        self.category_shares_, self.category_ages_ = _category_shares(snapshot), _category_ages(snapshot)
        known = snapshot.known
        _, first = np.unique(known.order, return_index=True)
        self.orders_ = _Ages(known.account[first], snapshot.known_age[first])
        self.lines_ = _Ages(known.account, snapshot.known_age)
        pairs = snapshot.pairs
        self.number_ = _numbers(snapshot)
        self.owned_ = _Ages(pairs.account, self.number_[pairs.product])
        self.launches_ = _Ages(pairs.account, self.age_[pairs.product])
        added = pairs.first_age <= _ADDED_DAYS * snapshot.time_scale
        self.added_launches_ = _Ages(pairs.account[added], self.age_[pairs.product[added]])
        return self

    def transform(self, account: RowArray, product: RowArray) -> AnyFloatArray:
        """Return the features of each pair, `(n, len(NAMES))`."""
        age, restock, number = self.age_[product], self.restock_[product], self.number_[product]
        accounts = self.accounts
        columns = (
            self.price_[product] - accounts.column("account_log_price")[account],
            self.quantity_[product] - accounts.column("account_log_quantity")[account],
            np.log1p(age) - accounts.column("account_age_taste")[account],
            self.breadth_[product] - _log(accounts.column("account_n_owned"))[account],
            self._of_category(self.category_shares_, account, product),
            self._of_category(self.category_ages_, account, product),
            self.orders_.younger(account, age),
            self.lines_.younger(account, age),
            self.orders_.younger(account, restock),
            age - accounts.column("account_recency_days")[account],
            self.owned_.nearest(account, number),
            self.owned_.within(account, number, _NEAR_IDS),
            self.owned_.within(account, number, _AROUND_IDS),
            self.launches_.within(account, age, _LAUNCH_DAYS),
            self.added_launches_.within(account, age, _LAUNCH_DAYS),
        )
        return np.column_stack(columns).astype(np.float32)

    def _of_category(self, values: AnyFloatArray, account: RowArray, product: RowArray) -> AnyFloatArray:
        category = self.categories_[product]
        return np.where(category >= 0, values[account, category], np.nan)


class _Ages:
    """Numbers of each account, sorted, so that many pairs are looked up at once."""

    def __init__(self, account: RowArray, number: NDArray[np.floating]) -> None:
        self._keys = np.sort(account * _ACCOUNT_STEP + number)

    def younger(self, account: RowArray, age: AnyFloatArray) -> AnyFloatArray:
        """Return how many of the account's numbers are below or at `age`, `(n,)`; NaN where the age is."""
        return self._between(account, np.zeros_like(age), age)

    def within(self, account: RowArray, number: NDArray[np.generic], reach: float) -> AnyFloatArray:
        """Return how many of the account's numbers are at most `reach` from `number`, `(n,)`; NaN where it is."""
        centre = number.astype(np.float64)
        return self._between(account, np.maximum(centre - reach, 0.0), centre + reach)

    def _between(self, account: RowArray, low: AnyFloatArray, high: AnyFloatArray) -> AnyFloatArray:
        start = np.searchsorted(self._keys, account * _ACCOUNT_STEP + np.nan_to_num(low))
        stop = np.searchsorted(self._keys, account * _ACCOUNT_STEP + np.nan_to_num(high), side="right")
        return np.where(np.isnan(high), np.nan, stop - start).astype(np.float32)

    def nearest(self, account: RowArray, number: NDArray[np.generic]) -> AnyFloatArray:
        """Return the distance to the nearest of the account's numbers, `(n,)`; NaN where it has none."""
        wanted = account * _ACCOUNT_STEP + number.astype(np.float64)
        if len(self._keys) == 0:
            return np.full(len(wanted), np.nan, dtype=np.float32)
        place = np.searchsorted(self._keys, wanted)
        near = [self._keys[np.clip(place + shift, 0, len(self._keys) - 1)] - wanted for shift in (-1, 0)]
        distance = np.minimum(*np.abs(near))
        return np.where(distance < _ACCOUNT_STEP / 2, distance, np.nan).astype(np.float32)


def _numbers(snapshot: Snapshot) -> AnyFloatArray:
    """Return the place of each product among those sold so far, in the order of ids: later ones move nobody's."""
    sold = np.bincount(snapshot.lines.product, minlength=snapshot.shape[1]) > 0
    return (np.cumsum(sold) - 1).astype(np.float64)


def _log(values: AnyFloatArray) -> AnyFloatArray:
    return np.log(np.maximum(values, 1e-3))


def _category_shares(snapshot: Snapshot) -> AnyFloatArray:
    """Return the share of each category among the products an account owns, `(n_accounts, n_categories)`."""
    n_categories = int(snapshot.categories.max(initial=-1)) + 1
    shares = np.zeros((snapshot.shape[0], max(n_categories, 1)), dtype=np.float32)
    category = snapshot.categories[snapshot.pairs.product]
    placed = category >= 0
    np.add.at(shares, (snapshot.pairs.account[placed], category[placed]), 1.0)
    shares /= np.maximum(shares.sum(axis=1, keepdims=True), 1.0)
    return shares


def _category_ages(snapshot: Snapshot) -> AnyFloatArray:
    """Return days since an account last bought of each category, NaN if never, `(n_accounts, n_categories)`."""
    n_categories = int(snapshot.categories.max(initial=-1)) + 1
    ages = np.full((snapshot.shape[0], max(n_categories, 1)), np.inf, dtype=np.float32)
    category = snapshot.categories[snapshot.pairs.product]
    placed = category >= 0
    np.minimum.at(ages, (snapshot.pairs.account[placed], category[placed]), snapshot.pairs.last_age[placed])
    return np.where(np.isfinite(ages), ages, np.nan)
