"""A KPI report as typed values and as JSON, every figure with its numerator and denominator."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

import pandas as pd

from recsys.evaluation.kpis.definition import (
    ATTRIBUTED_MEANS,
    CUSTOMERS_MEANS,
    ORGANIC_MEANS,
    Basis,
    Dimension,
    KpiDefinition,
    Period,
)


@dataclass(frozen=True, slots=True)
class SecondaryFigure:
    """A second reading that is printed beside a figure.

    Attributes:
        label: what it is.
        numerator: above the line.
        denominator: below it.
        value: None where nothing is below the line.
    """

    label: str
    numerator: float
    denominator: float
    value: float | None


@dataclass(frozen=True, slots=True)
class Figure:
    """A formula worked out.

    Attributes:
        numerator: above the line (for the AOV increase: AOV with).
        denominator: below it (for the AOV increase: AOV without).
        value: None where nothing is below the line.
        beside: further readings.
    """

    numerator: float
    denominator: float
    value: float | None
    beside: tuple[SecondaryFigure, ...]


@dataclass(frozen=True, slots=True)
class KpiValue:
    """One KPI for one segment and period.

    Attributes:
        kpi: its name in the registry.
        basis: what it was read off.
        dimension: of the segment; None overall.
        group: the segment; None overall, `(not stated)` where a row does not say.
        period: label of the period; None over the whole range.
        complete: the period was over at the figures' date.
        figure: what came out.
    """

    kpi: str
    basis: Basis
    dimension: Dimension | None
    group: str | None
    period: str | None
    complete: bool
    figure: Figure

    @property
    def value(self) -> float | None:
        """The value; None where nothing is below the line."""
        return self.figure.value


@dataclass(frozen=True, slots=True)
class Missing:
    """A figure that can't be computed.

    Attributes:
        kpi: its name.
        basis: of which basis.
        why: what is missing and how to give it.
    """

    kpi: str
    basis: Basis
    why: str


@dataclass(frozen=True, slots=True)
class AovEffect:
    """What an arm of an experiment did to AOV.

    Attributes:
        experiment: its id.
        arm: the arm.
        control: the arm it is compared with.
        control_aov: AOV there.
        arm_aov: AOV in the arm.
        effect: their difference, in money.
        low: lower limit at 95 %.
        high: upper limit.
        n_accounts: of both arms.
    """

    experiment: str
    arm: str
    control: str
    control_aov: float
    arm_aov: float
    effect: float
    low: float
    high: float
    n_accounts: int


@dataclass(frozen=True, slots=True)
class Change:
    """What a KPI did from one complete period to the next.

    Attributes:
        now: label of the last complete period.
        before: label of the one before.
        value: in the last one.
        last: in the one before.
        difference: value - last.
        relative: difference / |last|; None where last is zero.
        moved: at least as much as the configuration calls a move.
        better: the move goes the way that is better; None where neither way is.
    """

    now: str
    before: str
    value: float
    last: float
    difference: float
    relative: float | None
    moved: bool
    better: bool | None


_SCHEMA_VERSION: Final = 1


@dataclass(frozen=True)
class KpiReport:
    """All figures of one computation.

    Attributes:
        definitions: of all KPIs, in the order of reports.
        values: the figures: overall, by period, by segment.
        missing: what can't be computed, and why.
        period: the length of a period.
        periods: labels of the periods, in time.
        window_days: of attribution.
        key_rule: how key accounts are told.
        ladder: where the upgrade edges come from.
        families_by: the product column that makes families.
        as_of: nothing at or after it was used, UTC.
        start: the first order that figures count, UTC.
        currency: of all money; None where the data do not say.
        n_orders: orders that the figures count.
        n_customers: accounts among them.
        moved_share: what is called a move.
        targets: by KPI.
        notes: what a reader should know.
        aov_effects: the randomised effects on AOV, beside the descriptive AOV increase; empty without an experiment.
    """

    definitions: tuple[KpiDefinition, ...]
    values: tuple[KpiValue, ...]
    missing: tuple[Missing, ...]
    period: Period
    periods: tuple[str, ...]
    window_days: int
    key_rule: str
    ladder: str
    families_by: str
    as_of: datetime
    start: datetime
    currency: str | None
    n_orders: int
    n_customers: int
    moved_share: float
    targets: dict[str, float]
    notes: tuple[str, ...]
    aov_effects: tuple[AovEffect, ...] = ()

    def get(
        self,
        kpi: str,
        basis: Basis,
        *,
        dimension: Dimension | None = None,
        group: str | None = None,
        period: str | None = None,
    ) -> KpiValue:
        """Return one figure.

        Raises:
            KeyError: there is none.
        """
        wanted = (kpi, basis, dimension, group, period)
        for item in self.values:
            if (item.kpi, item.basis, item.dimension, item.group, item.period) == wanted:
                return item
        raise KeyError(wanted)

    def series(
        self, kpi: str, basis: Basis, *, dimension: Dimension | None = None, group: str | None = None
    ) -> tuple[KpiValue, ...]:
        """Return a KPI's figures by period, in time."""
        wanted = (kpi, basis, dimension, group)
        return tuple(
            item
            for item in self.values
            if (item.kpi, item.basis, item.dimension, item.group) == wanted and item.period is not None
        )

    def groups(self, kpi: str, basis: Basis, dimension: Dimension) -> tuple[KpiValue, ...]:
        """Return a KPI's figures over the whole range by segment, the highest revenue first."""
        return tuple(
            item
            for item in self.values
            if (item.kpi, item.basis, item.dimension) == (kpi, basis, dimension) and item.period is None
        )

    def change(self, kpi: str, basis: Basis) -> Change | None:
        """Return what a KPI did from the last complete period but one to the last; None where one has no value."""
        series = [item for item in self.series(kpi, basis) if item.complete]
        if len(series) < 2:
            return None
        before, now = series[-2:]
        if before.value is None or now.value is None:
            return None
        assert before.period is not None
        assert now.period is not None
        difference = now.value - before.value
        relative = difference / abs(before.value) if before.value else None
        moved = abs(difference) > 0 if relative is None else abs(relative) >= self.moved_share
        direction = next(item.direction for item in self.definitions if item.name == kpi)
        better = None if direction == "neither" else (difference > 0) == (direction == "higher")
        return Change(now.period, before.period, now.value, before.value, difference, relative, moved, better)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values; `schema_version` rises when a field changes its meaning."""
        return {
            "schema_version": _SCHEMA_VERSION,
            "as_of": self.as_of.isoformat(),
            "start": self.start.isoformat(),
            "currency": self.currency,
            "period": self.period,
            "periods": list(self.periods),
            "window_days": self.window_days,
            "key_accounts": self.key_rule,
            "ladder": self.ladder,
            "families_by": self.families_by,
            "n_orders": self.n_orders,
            "n_customers": self.n_customers,
            "moved_share": self.moved_share,
            "meaning": {"organic": ORGANIC_MEANS, "attributed": ATTRIBUTED_MEANS, "customers": CUSTOMERS_MEANS},
            "definitions": [asdict(item) | {"target": self.targets.get(item.name)} for item in self.definitions],
            "values": [_value(item) for item in self.values],
            "changes": [
                {"kpi": definition.name, "basis": basis} | asdict(change)
                for definition in self.definitions
                for basis in definition.bases
                if (change := self.change(definition.name, basis)) is not None
            ],
            "aov_effects": [asdict(item) for item in self.aov_effects],
            "not_computable": [asdict(item) for item in self.missing],
            "notes": list(self.notes),
        }

    def to_json(self) -> str:
        """Return the report as the text that `offers kpis --format json` writes."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n"

    def to_frame(self) -> pd.DataFrame:
        """Return one row a figure: of which KPI, basis, segment and period, and its numerator and denominator."""
        return pd.DataFrame([_value(item) for item in self.values]).drop(columns="beside")


def _value(item: KpiValue) -> dict[str, Any]:
    return {
        "kpi": item.kpi,
        "basis": item.basis,
        "dimension": item.dimension,
        "group": item.group,
        "period": item.period,
        "complete": item.complete,
        "numerator": item.figure.numerator,
        "denominator": item.figure.denominator,
        "value": item.value,
        "beside": [asdict(other) for other in item.figure.beside],
    }
