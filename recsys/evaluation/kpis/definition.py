"""What a KPI is: one entry of the registry with all that a reader needs to use it and not be misled by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Basis = Literal["organic", "attributed", "history", "log"]
"""What a figure is read off: the purchase history judged alone (organic), purchases after an exposure (attributed),
the purchase history without such a judgement (history), or the log of offers (log)."""

Kind = Literal["upsell", "cross_sell", "any"]
"""Which additional sales a figure counts; `any` is both together."""

KpiUnit = Literal["share", "money", "units", "products"]
KpiDirection = Literal["higher", "lower", "neither"]
Chart = Literal["line", "bar"]
Dimension = Literal[
    "product", "category", "channel", "segment", "region", "owner", "key_account", "surface", "actor"
]  # fmt: skip

JUDGED: Final[tuple[Basis, ...]] = ("organic", "attributed")
HISTORY: Final[tuple[Basis, ...]] = ("history",)
LOG: Final[tuple[Basis, ...]] = ("log",)

ORDER_DIMENSIONS: Final[tuple[Dimension, ...]] = ("channel", "segment", "region", "owner", "key_account")
PRODUCT_DIMENSIONS: Final[tuple[Dimension, ...]] = ("product", "category")
LOG_DIMENSIONS: Final[tuple[Dimension, ...]] = ("surface", "actor")
ALL_SEGMENTS: Final[tuple[Dimension, ...]] = (*PRODUCT_DIMENSIONS, *ORDER_DIMENSIONS)

ATTRIBUTION_WINDOW: Final = "organic: none; attributed: the window after the exposure, the last exposure wins"
CUSTOMERS_VARY: Final = (
    "accounts are fixed by assignment, but whether one orders in the period is an outcome of the offers"
)

ORGANIC_MEANS: Final = (
    "Organic is read off the purchase history alone. A product new to the account, of a family from which it has "
    "bought nothing, is a cross-sell. A product new to the account that stands higher on a ladder than a rung it "
    "bought earlier, while it bought none that stands higher still, is an upsell; upsell goes before cross-sell. "
    "An account's first order is never either. More of a product it bought before is volume and reported apart."
)
ATTRIBUTED_MEANS: Final = (
    "Attributed is a purchase of an offered product by the account within the window after the offer was presented "
    "(shown on a surface or pitched by a person). Of several exposures the last one before the order wins. What was "
    "returned is taken back. Attributed is not caused: an experiment tells what offers added."
)
CUSTOMERS_MEANS: Final = (
    "Customers are accounts that ordered in the period; existing customers had ordered before. Orders without an "
    "account count for transactions and revenue only. Quantities are net of what came back before the figures' date, "
    "so a past period's figure falls when its goods come back later. An order stands at the time of its first line."
)


@dataclass(frozen=True, slots=True)
class KpiDefinition:
    """One KPI.

    Attributes:
        name: its short name, as `targets` has it.
        title: what people call it.
        formula: printed beside every value.
        numerator: what is above the line.
        denominator: what is below it.
        unit: of the value.
        direction: which way is better.
        kind: which additional sales it counts; None where it counts none.
        bases: what its figures can be read off.
        dimensions: the segments it is available by.
        window: the attribution window in words.
        estimator: how it is estimated from the data.
        moves_denominator: why a treatment can move its denominator; None where it cannot.
        tells: what it tells.
        ask: what to ask when it moves.
        misleads: what may make it mislead.
        chart: what suits it.
    """

    name: str
    title: str
    formula: str
    numerator: str
    denominator: str
    unit: KpiUnit
    direction: KpiDirection
    kind: Kind | None
    bases: tuple[Basis, ...]
    dimensions: tuple[Dimension, ...]
    window: str
    estimator: str
    moves_denominator: str | None
    tells: str
    ask: str
    misleads: str
    chart: Chart = "line"


Period = Literal["day", "week", "month", "quarter"]
