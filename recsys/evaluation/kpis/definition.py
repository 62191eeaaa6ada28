"""What a KPI is: one entry of the registry with all that a reader needs to use it and not be misled by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Basis = Literal["organic", "attributed", "history", "log", "forecast"]
"""What a figure is read off: the purchase history judged alone (organic), purchases after an exposure (attributed),
the purchase history without such a judgement (history), the log of offers (log), or
what a model expects (forecast)."""

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
FORECAST: Final[tuple[Basis, ...]] = ("forecast",)

ORDER_DIMENSIONS: Final[tuple[Dimension, ...]] = ("channel", "segment", "region", "owner", "key_account")
PRODUCT_DIMENSIONS: Final[tuple[Dimension, ...]] = ("product", "category")
ACCOUNT_DIMENSIONS: Final[tuple[Dimension, ...]] = ("segment", "region", "owner")
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
CHANGE_MEANS: Final = (
    "The last period is the last one that was over at the figures' date; its value stands there whatever came before,"
    " and a dash where nothing is below the line. The change is from the latest period before it that has a value; "
    "where that is not the one directly before, it is named. In brackets stands its 95 % interval: the period's "
    "accounts are taken for a sample of accounts like them, all that an account did counts as one observation, and "
    "one that stands in both periods counts once (delta method; an order or visitor without an account counts as an "
    "account). A change is called better or worse (moved, where neither way is better) only where that interval "
    "excludes no change and the change is at least the share of the earlier value that the report calls a move; else "
    "it is small, or within noise. Of twenty intervals about one errs by chance. They know neither season nor trend. "
    "While offers of the last period can still be accepted, their windows are open and nothing is called."
)


@dataclass(frozen=True, slots=True)
class KpiDefinition:
    """One KPI, by twelve attributes (definition to change impact) and what is needed to compute it.

    Attributes:
        name: its short name, as `targets` has it.
        title: what people call it.
        definition: what it is, in one sentence.
        formula: printed beside every value.
        numerator: what is above the line.
        denominator: what is below it.
        unit: of the value.
        direction: which way is better.
        kind: which additional sales it counts; None where it counts none.
        bases: what its figures can be read off.
        dimensions: the segments it is available by.
        window: the attribution window in words.
        approach: how it is estimated from the data.
        moves_denominator: why a treatment can move its denominator; None where it cannot.
        insight: what it tells.
        diagnostics: what to ask when it moves.
        risks: what may make it mislead.
        trend: how its course over time is read.
        tips: what to do about it.
        tools: which commands and answers show it or act on it.
        integration_points: the tables, events and fields of other systems that it is made of.
        change_impact: what a change of it does to other KPIs.
        chart: what suits it.
    """

    name: str
    title: str
    definition: str
    formula: str
    numerator: str
    denominator: str
    unit: KpiUnit
    direction: KpiDirection
    kind: Kind | None
    bases: tuple[Basis, ...]
    dimensions: tuple[Dimension, ...]
    window: str
    approach: str
    moves_denominator: str | None
    insight: str
    diagnostics: str
    risks: str
    trend: str
    tips: str
    tools: str
    integration_points: str
    change_impact: str
    chart: Chart = "line"

    @property
    def charts(self) -> str:
        """Which charts show it, and where."""
        kinds = {"line": "a line over periods", "bar": "bars over periods"}
        lines = "organic and attributed in colours of their own, " if len(self.bases) > 1 else ""
        by = ", ".join(name.replace("_", " ") for name in self.dimensions)
        return (
            f"{kinds[self.chart]}, {lines}the target dashed, the period that is not over pale, on the card of the page "
            f"(`offers kpis --format html`); a table by each of {by} that `by` names"
        )


def standard_attributes(definition: KpiDefinition) -> dict[str, str]:
    """Return the twelve attributes by their standard names, in reading order."""
    return {
        "definition": definition.definition,
        "insight": definition.insight,
        "approach": definition.approach,
        "formula": definition.formula,
        "trend": definition.trend,
        "diagnostics": definition.diagnostics,
        "tips": definition.tips,
        "charts": definition.charts,
        "risks": definition.risks,
        "tools": definition.tools,
        "integration_points": definition.integration_points,
        "change_impact": definition.change_impact,
    }


Period = Literal["day", "week", "month", "quarter"]
