"""The offer model: everything a request needs, as arrays that can be memory-mapped.

A request is a lookup and a merge: each account's candidates, what it owns, the cart's evidence by antecedent, the
ladder by lower rung and the fallback lists stand ready, sorted, behind `start` and `count`. Accounts and products are
rows of their tables, whose ids are sorted; -1 means "none".
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray

from recsys.offer_model.column_rules import (
    AddedLater,
    AtMostOwners,
    CountOf,
    Increasing,
    IncreasingWithin,
    NoneFirst,
    NotEmpty,
    ProductJson,
    RowOf,
    Within,
    check_tables,
)
from recsys.offer_model.facts import ModelFacts
from recsys.offer_model.utf8_column import Utf8Column

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

EVERYONE = 0
"""Row of `SegmentTable` that stands for all accounts."""

COMPLEMENT, SUBSTITUTE, NO_RELATION = 1, 2, 0

FOLLOWED, TOGETHER, ALIKE, SAME_CATEGORY = range(4)
"""How a product of `EvidenceTable` is related to its anchor."""

_MOST_COUNT: Final = 2**31 - 1
_COUNT: Final = Within(0, _MOST_COUNT)
_PROBABILITY: Final = Within(0, 1)
_MONEY: Final = Within(0, 1e12, or_unknown=True)
_REVENUE: Final = Within(0, 1e15, or_unknown=True)
_UNITS: Final = Within(0, 1e9)
_WEIGHT: Final = Within(-1e6, 1e6)
_SCORE: Final = Within(float(np.finfo(np.float32).min), float(np.finfo(np.float32).max))
"""Products of money, units and probabilities, and sums of weights, are finite within these."""


@dataclass(frozen=True)
class ProductTable:
    """One row a product, sorted by id. Unknown numbers are NaN, unknown codes -1, unknown names empty."""

    ids: Annotated[Utf8Column, Increasing()]
    names: Utf8Column
    category: Annotated[Int32, RowOf("categories", or_none=True)]  # row of OfferModel.categories
    family: Annotated[Int32, RowOf("families", or_none=True)]  # row of OfferModel.families
    tier: Utf8Column
    price: Annotated[Float64, _MONEY]  # money a unit
    cost: Annotated[Float64, _MONEY]  # money a unit
    active: Bool
    stock: Annotated[Float64, Within(-1e12, 1e12, or_unknown=True)]  # units; NaN: not tracked
    do_not_offer: Bool
    n_accounts: Annotated[Int32, _COUNT]  # accounts that ever bought it
    n_orders: Annotated[Int32, _COUNT]  # orders that hold it
    # purchases after which an account added it within the reason window
    n_follow_ons: Annotated[Int64, Within(0, 2**53)]
    usual_quantity: Annotated[Float32, _UNITS]  # units of the median line; 1 without one
    cart_prior: Annotated[Float32, _WEIGHT]  # score of the product for an empty cart
    rules_start: Int64  # its rows in RuleTable, as antecedent
    rules_count: Annotated[Int32, CountOf("rules", "products")]
    cart_start: Int64  # its rows in CartTable, as antecedent
    cart_count: Annotated[Int32, CountOf("cart", "products")]
    ladder_start: Int64  # its rows in LadderTable, as the lower rung
    ladder_count: Annotated[Int32, CountOf("ladder", "products")]
    substitutes_start: Int64  # its rows in SubstituteTable
    substitutes_count: Annotated[Int32, CountOf("substitutes", "products")]
    # what goes out with an offer of it: a JSON object of `url image_url names attributes`, empty for nothing
    details: Annotated[Utf8Column, ProductJson(), AddedLater()]
    # its group of variants, from 1 on and of fewer than there are products; 0: none
    variant_group: Annotated[Int32, RowOf("products"), AddedLater()]
    # share of its score among an account's own candidates that is taken off, so that not too many are shown it first
    held_back: Annotated[Float32, Within(0, 1), AddedLater()]


@dataclass(frozen=True)
class AccountTable:
    """One row an account, sorted by id."""

    ids: Annotated[Utf8Column, Increasing()]
    segment: Annotated[Int32, RowOf("segments")]  # row of SegmentTable; EVERYONE where it has none
    do_not_offer: Bool
    n_orders: Annotated[Int32, _COUNT]
    orders_in_horizon: Annotated[Float32, Within(0, 1e6)]  # at the account's own pace
    candidates_start: Int64
    candidates_count: Annotated[Int32, CountOf("candidates", "accounts")]
    owned_start: Int64
    owned_count: Annotated[Int32, CountOf("owned", "accounts")]
    names: Annotated[Utf8Column, AddedLater()]  # what people call it
    language: Annotated[Utf8Column, AddedLater()]  # that it speaks, BCP 47
    # revenue expected in the next twelve months, and limits that hold it in `ModelFacts.lifetime_value`'s share of the
    # cases; NaN without an order
    lifetime_value: Annotated[Float64, _REVENUE, AddedLater()]
    lifetime_value_low: Annotated[Float64, _REVENUE, AddedLater()]
    lifetime_value_high: Annotated[Float64, _REVENUE, AddedLater()]


@dataclass(frozen=True)
class CandidateTable:
    """Scored candidates, sorted by account, then cross-sell before upsell, then score descending, then product."""

    product: Annotated[Int32, RowOf("products")]
    # the rung it starts from; -1: a cross-sell
    from_product: Annotated[Int32, RowOf("products", or_none=True), NoneFirst("accounts", "candidates")]
    score: Annotated[Float32, _SCORE]
    probability: Annotated[Float32, _PROBABILITY]
    expected_quantity: Annotated[Float32, _UNITS]
    evidence: Annotated[Int32, RowOf("evidence", or_none=True)]  # row of EvidenceTable; -1: none


@dataclass(frozen=True)
class OwnedTable:
    """What accounts have bought, sorted by account, then product."""

    product: Annotated[Int32, RowOf("products"), IncreasingWithin("accounts", "owned")]
    owned: Bool  # bought within the owned window
    n_orders: Annotated[Int32, _COUNT, AtMostOwners("accounts", "owned", "n_orders")]  # of the account, that hold it


@dataclass(frozen=True)
class RuleTable:
    """Mined pairs and those that the cart's weights name, sorted by antecedent, then consequent.

    They explain; they never rank.
    """

    consequent: Annotated[Int32, RowOf("products"), IncreasingWithin("products", "rules")]
    n_both: Annotated[Int32, _COUNT]
    n_antecedent: Annotated[Int32, _COUNT]
    n_buyers: Annotated[Int32, _COUNT]  # distinct accounts behind n_both; an order without account counts as one
    relation: Annotated[NDArray[np.int8], Within(0, 2)]  # COMPLEMENT, SUBSTITUTE or NO_RELATION


@dataclass(frozen=True)
class SubstituteTable:
    """Pairs of which one replaces the other, in both directions, sorted by product, then substitute."""

    product: Annotated[Int32, RowOf("products"), IncreasingWithin("products", "substitutes")]


@dataclass(frozen=True)
class CartTable:
    """Sparse weights that rank cart add-ons, sorted by antecedent, then consequent.

    The score of a product is its `cart_prior` and, over the cart's products, the sum of its weights and of its lifts
    times `share_of_confidence`.
    """

    consequent: Annotated[Int32, RowOf("products"), IncreasingWithin("products", "cart")]
    weight: Annotated[Float32, _WEIGHT]
    # what the confidence says beyond the weight
    lift: Annotated[Float32, _WEIGHT, AddedLater()]


@dataclass(frozen=True)
class CartCurve:
    """The calibrated probability of a cart score: straight lines between knots, one curve a size of carts.

    Within a curve all columns but `lines` increase; `lines` are the lines of a cart from which on a curve holds. Three
    further columns are the probability where more is known; they are zero where nothing of it was learned.
    """

    score: Annotated[Float64, NotEmpty(), _WEIGHT, Increasing(step=1e-9, within="cart_curve.lines")]
    probability: Annotated[Float64, _PROBABILITY, Increasing(as_large=True, within="cart_curve.lines")]
    lines: Annotated[Int32, _COUNT, Increasing(as_large=True), AddedLater()]
    # of what the account never bought
    of_new: Annotated[Float64, _PROBABILITY, Increasing(as_large=True, within="cart_curve.lines"), AddedLater()]
    # of what it bought before; `REPEAT_SCORE` times the share of its orders that held it is added to the score
    of_bought: Annotated[Float64, _PROBABILITY, Increasing(as_large=True, within="cart_curve.lines"), AddedLater()]
    # of what no weight of the cart speaks for, by its probability without a cart instead of a score
    of_unlinked: Annotated[Float64, _PROBABILITY, Increasing(as_large=True, within="cart_curve.lines"), AddedLater()]

    @classmethod
    def plain(cls, score: Float64, probability: Float64, lines: Int32) -> CartCurve:
        """Return curves that know nothing of accounts."""
        nothing = np.zeros_like(score)
        return cls(score, probability, lines, nothing, nothing, nothing)

    def of_sizes(self) -> list[CartCurve]:
        """Return the curves one by one, that of the smallest carts first."""
        ends = np.flatnonzero(np.diff(self.lines, append=-1)) + 1
        begins = np.append(0, ends[:-1])
        return [
            CartCurve(*(getattr(self, field.name)[rows] for field in fields(self)))
            for rows in map(slice, begins.tolist(), ends.tolist())
        ]


@dataclass(frozen=True)
class LadderTable:
    """Upgrade edges, sorted by lower rung, then climb rate descending."""

    to_product: Annotated[Int32, RowOf("products")]
    climb_rate: Annotated[Float32, _PROBABILITY]
    n_standing: Annotated[Int32, _COUNT]
    n_climbed: Annotated[Int32, _COUNT]
    evidence: Annotated[Int32, RowOf("evidence", or_none=True)]  # row of EvidenceTable; -1: none


@dataclass(frozen=True)
class SegmentTable:
    """One row a segment; row 0 is everyone."""

    names: Annotated[Utf8Column, NotEmpty()]
    n_accounts: Annotated[Int32, _COUNT]
    fallback_start: Int64
    fallback_count: Annotated[Int32, CountOf("fallback", "segments")]


@dataclass(frozen=True)
class FallbackTable:
    """Popular products, sorted by segment, then probability descending."""

    product: Annotated[Int32, RowOf("products")]
    probability: Annotated[Float32, _PROBABILITY]
    n_buyers: Annotated[Int32, _COUNT]  # of the segment, within the fallback window


@dataclass(frozen=True)
class EvidenceTable:
    """Counts that a reason is spoken from; `anchor` -1: how many of the segment ever bought the product.

    Of the relation `TOGETHER` the counts are orders of everyone with the anchor, and with both; of `ALIKE` and
    `SAME_CATEGORY` there are none.
    """

    segment: Annotated[Int32, RowOf("segments")]
    anchor: Annotated[Int32, RowOf("products", or_none=True)]
    product: Annotated[Int32, RowOf("products")]
    # accounts of the segment that bought the anchor (anchor -1: accounts of the segment)
    n_anchor: Annotated[Int32, _COUNT]
    # of those, that first bought the product within the reason window after the anchor
    n_followed: Annotated[Int32, _COUNT]
    # FOLLOWED, TOGETHER, ALIKE or SAME_CATEGORY; the first where an older bundle does not say
    relation: Annotated[NDArray[np.int8], Within(0, 3), AddedLater()]


@dataclass(frozen=True)
class PriceTable:
    """Prices beside those of the products, sorted by product, then segment, then least quantity.

    Of the rows that are for everyone or for an account's segment, the last whose least quantity is reached holds. A
    segment that pays otherwise has all of its prices here, the first from 0 units on.
    """

    product: Annotated[Int32, RowOf("products"), Increasing(as_large=True)]
    segment: Annotated[Int32, RowOf("segments")]
    least_quantity: Annotated[Float64, _UNITS]
    price: Annotated[Float64, Within(0, 1e12)]  # money a unit

    @classmethod
    def empty(cls) -> PriceTable:
        """Return the table of a model whose prices depend on the product alone."""
        none = np.zeros(0, dtype=np.int32)
        return cls(none, none, np.zeros(0), np.zeros(0))


@dataclass(frozen=True)
class NameTable:
    """Names behind codes."""

    names: Utf8Column


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
    prices: PriceTable = field(default_factory=PriceTable.empty)

    def check(self) -> None:
        """Refuse a model of which a column breaks a rule that stands at its declaration.

        Raises:
            BundleCorruptError: names the table and column.
        """
        check_tables(self)


def owned_by(model: OfferModel, account: int, *, ever: bool) -> Int32:
    """Return the sorted rows of what the account in row `account` owns, or `ever` bought."""
    start = int(model.accounts.owned_start[account])
    rows = slice(start, start + int(model.accounts.owned_count[account]))
    product = model.owned.product[rows]
    return product if ever else product[model.owned.owned[rows]]


def account_name(model: OfferModel, account_id: str) -> str | None:
    """Return what people call an account, None where the model does not know it or its name."""
    row = model.accounts.ids.find(account_id)
    return model.accounts.names[row] or None if row >= 0 else None


CONFIDENCE_LINES: Final = 3.0
STRONGEST_CONFIDENCE = 0.99

CURVE_KNOTS = 200

REPEAT_SCORE: Final = 0.3
"""Times the share of an account's orders that hold a product: that much is added to its score beside a cart."""
REPEAT_PRIOR_ORDERS: Final = 2.0
"""Orders without the product that such a share is shrunk by."""
LEAST_PACE: Final = 0.02
"""Orders in a horizon that an account's pace counts as at least."""


def share_of_confidence(n_lines: NDArray[np.integer]) -> Float64:
    """Return the share of the confidence in the score of carts of so many lines: `1 / (lines + CONFIDENCE_LINES)`.

    A quarter beside one product, hardly anything beside ten.
    """
    share: Float64 = 1.0 / (n_lines.astype(np.float64) + CONFIDENCE_LINES)
    return share


def noisy_or_curve() -> CartCurve:
    """Return `1 - exp(-score)` as straight lines between knots, off by less than 0.0005."""
    probability: Float64 = np.linspace(0.0, STRONGEST_CONFIDENCE, CURVE_KNOTS)
    return CartCurve.plain(-np.log1p(-probability), probability, np.zeros(CURVE_KNOTS, dtype=np.int32))
