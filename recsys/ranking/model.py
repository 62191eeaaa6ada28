"""The offer model: everything a request needs, as arrays that can be memory-mapped.

A request is a lookup and a merge: each account's candidates, what it owns, the cart's evidence by antecedent, the
ladder by lower rung and the fallback lists stand ready, sorted, behind `start` and `count`. Accounts and products are
rows of their tables, whose ids are sorted; -1 means "none".
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from recsys.contracts.config import Config
from recsys.errors import BundleCorruptError
from recsys.ranking.strings import Strings

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

EVERYONE = 0
"""Row of `SegmentTable` that stands for all accounts."""

COMPLEMENT, SUBSTITUTE, NO_RELATION = 1, 2, 0


class ModelFacts(Config):
    """What the tables of a model rest on.

    Attributes:
        as_of: ISO 8601, UTC; no order line at or after it was used.
        horizon_days: the window of every probability, days.
        currency: of every price; None when it was not stated.
        n_accounts: accounts with an order in the training history.
        n_orders: orders in the training history, of known accounts or not.
        n_first_purchases: distinct pairs of an account and a product that it bought.
        reason_window_days: the window of "added B within", days.
        fallback_window_days: the window that the fallback lists count buyers in, days; None for the whole history.
        fallback_unit: what the fallback lists count: accounts, or orders where no order has an account.
    """

    as_of: str
    horizon_days: int
    currency: str | None = None
    n_accounts: int = 0
    n_orders: int = 0
    n_first_purchases: int = 0
    reason_window_days: int = 60
    fallback_window_days: int | None = None
    fallback_unit: str = "accounts"


@dataclass(frozen=True)
class ProductTable:
    """One row a product, sorted by id. Unknown numbers are NaN, unknown codes -1, unknown names empty."""

    ids: Strings
    names: Strings
    category: Int32  # row of OfferModel.categories
    family: Int32  # row of OfferModel.families
    tier: Strings
    price: Float64  # money a unit
    cost: Float64  # money a unit
    active: Bool
    stock: Float64  # units; NaN: not tracked
    do_not_offer: Bool
    n_accounts: Int32  # accounts that ever bought it
    n_orders: Int32  # orders that hold it
    n_follow_ons: Int64  # purchases after which an account added it within the reason window
    usual_quantity: Float32  # units of the median line; 1 without one
    cart_prior: Float32  # score of the product for an empty cart
    rules_start: Int64  # its rows in RuleTable, as antecedent
    rules_count: Int32
    cart_start: Int64  # its rows in CartTable, as antecedent
    cart_count: Int32
    ladder_start: Int64  # its rows in LadderTable, as the lower rung
    ladder_count: Int32
    substitutes_start: Int64  # its rows in SubstituteTable
    substitutes_count: Int32


@dataclass(frozen=True)
class AccountTable:
    """One row an account, sorted by id."""

    ids: Strings
    segment: Int32  # row of SegmentTable; EVERYONE where it has none
    do_not_offer: Bool
    n_orders: Int32
    orders_in_horizon: Float32  # at the account's own pace
    candidates_start: Int64
    candidates_count: Int32
    owned_start: Int64
    owned_count: Int32


@dataclass(frozen=True)
class CandidateTable:
    """Scored candidates, sorted by account, then cross-sell before upsell, then score descending, then product."""

    product: Int32
    from_product: Int32  # the rung it starts from; -1: a cross-sell
    score: Float32
    probability: Float32
    expected_quantity: Float32
    evidence: Int32  # row of EvidenceTable; -1: none


@dataclass(frozen=True)
class OwnedTable:
    """What accounts have bought, sorted by account, then product."""

    product: Int32
    owned: Bool  # bought within the owned window
    n_orders: Int32  # of the account, that hold it


@dataclass(frozen=True)
class RuleTable:
    """Mined pairs and those that the cart's weights name, sorted by antecedent, then consequent.

    They explain; they never rank.
    """

    consequent: Int32
    n_both: Int32
    n_antecedent: Int32
    n_buyers: Int32  # distinct accounts behind n_both; an order without account counts as one
    relation: NDArray[np.int8]  # COMPLEMENT, SUBSTITUTE or NO_RELATION


@dataclass(frozen=True)
class SubstituteTable:
    """Pairs of which one replaces the other, in both directions, sorted by product, then substitute."""

    product: Int32


@dataclass(frozen=True)
class CartTable:
    """Sparse weights that rank cart add-ons, sorted by antecedent, then consequent.

    The score of a product is its `cart_prior` and the sum of its weights over the cart.
    """

    consequent: Int32
    weight: Float32


@dataclass(frozen=True)
class CartCurve:
    """The calibrated probability of a cart score: straight lines between knots, both columns increasing."""

    score: Float64
    probability: Float64


@dataclass(frozen=True)
class LadderTable:
    """Upgrade edges, sorted by lower rung, then climb rate descending."""

    to_product: Int32
    climb_rate: Float32
    n_standing: Int32
    n_climbed: Int32
    evidence: Int32  # row of EvidenceTable; -1: none


@dataclass(frozen=True)
class SegmentTable:
    """One row a segment; row 0 is everyone."""

    names: Strings
    n_accounts: Int32
    fallback_start: Int64
    fallback_count: Int32


@dataclass(frozen=True)
class FallbackTable:
    """Popular products, sorted by segment, then probability descending."""

    product: Int32
    probability: Float32
    n_buyers: Int32  # of the segment, within the fallback window


@dataclass(frozen=True)
class EvidenceTable:
    """Counts that a reason is spoken from; `anchor` -1: how many of the segment ever bought the product."""

    segment: Int32
    anchor: Int32
    product: Int32
    n_anchor: Int32  # accounts of the segment that bought the anchor (anchor -1: accounts of the segment)
    n_followed: Int32  # of those, that first bought the product within the reason window after the anchor


@dataclass(frozen=True)
class NameTable:
    """Names behind codes."""

    names: Strings


@dataclass(frozen=True)
class OfferModel:
    """All tables of one trained model."""

    facts: ModelFacts
    products: ProductTable
    accounts: AccountTable
    candidates: CandidateTable
    owned: OwnedTable
    rules: RuleTable
    substitutes: SubstituteTable
    cart: CartTable
    cart_curve: CartCurve
    ladder: LadderTable
    segments: SegmentTable
    fallback: FallbackTable
    evidence: EvidenceTable
    categories: NameTable
    families: NameTable

    def check(self) -> None:
        """Refuse a model whose tables do not fit together: ragged columns or rows that point outside.

        Raises:
            BundleCorruptError: names the table and column.
        """
        for table in fields(self):
            if table.name != "facts":
                _check_lengths(table.name, getattr(self, table.name))
        n_products = len(self.products.ids)
        _check_ranges("products", "rules", self.products, len(self.rules.consequent))
        _check_ranges("products", "cart", self.products, len(self.cart.consequent))
        _check_ranges("products", "ladder", self.products, len(self.ladder.to_product))
        _check_ranges("products", "substitutes", self.products, len(self.substitutes.product))
        _check_ranges("accounts", "candidates", self.accounts, len(self.candidates.product))
        _check_ranges("accounts", "owned", self.accounts, len(self.owned.product))
        _check_ranges("segments", "fallback", self.segments, len(self.fallback.product))
        _check_rows("candidates.product", self.candidates.product, 0, n_products)
        _check_rows("candidates.from_product", self.candidates.from_product, -1, n_products)
        _check_rows("candidates.evidence", self.candidates.evidence, -1, len(self.evidence.product))
        _check_rows("ladder.evidence", self.ladder.evidence, -1, len(self.evidence.product))
        _check_rows("owned.product", self.owned.product, 0, n_products)
        _check_rows("rules.consequent", self.rules.consequent, 0, n_products)
        _check_rows("substitutes.product", self.substitutes.product, 0, n_products)
        _check_rows("cart.consequent", self.cart.consequent, 0, n_products)
        _check_rows("ladder.to_product", self.ladder.to_product, 0, n_products)
        _check_rows("fallback.product", self.fallback.product, 0, n_products)
        _check_rows("evidence.product", self.evidence.product, 0, n_products)
        _check_rows("evidence.anchor", self.evidence.anchor, -1, n_products)
        _check_rows("accounts.segment", self.accounts.segment, 0, len(self.segments.names))


def _check_lengths(name: str, table: object) -> None:
    lengths = {field.name: len(getattr(table, field.name)) for field in fields(table)}  # type: ignore[arg-type]
    if len(set(lengths.values())) > 1:
        raise BundleCorruptError(f"table {name!r}: columns of lengths {lengths}, must be equal; write the bundle again")


def _check_ranges(owner: str, column: str, table: object, n_rows: int) -> None:
    start, count = getattr(table, f"{column}_start"), getattr(table, f"{column}_count")
    if len(start) and (start.min() < 0 or count.min() < 0 or (start + count).max() > n_rows):
        raise BundleCorruptError(
            f"table {owner!r}: {column}_start + {column}_count passes the {n_rows} rows of {column!r}; "
            "write the bundle again"
        )


def _check_rows(name: str, rows: Int32, low: int, high: int) -> None:
    if len(rows) and (rows.min() < low or rows.max() >= high):
        raise BundleCorruptError(
            f"{name}: rows from {rows.min()} to {rows.max()}, must be in [{low}, {high}); write the bundle again"
        )
