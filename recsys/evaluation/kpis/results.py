"""A KPI report as typed values and as JSON, every figure with its numerator and denominator."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final

import pandas as pd

from recsys.evaluation.kpis.definition import (
    ATTRIBUTED_MEANS,
    CHANGE_MEANS,
    CUSTOMERS_MEANS,
    ORGANIC_MEANS,
    Basis,
    Dimension,
    KpiDefinition,
    Period,
    standard_attributes,
)
from recsys.evaluation.kpis.values import (
    AovEffect,
    Change,
    ChangeInterval,
    KpiValue,
    Missing,
    compared_values,
    reading_of,
)

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
        intervals: of the change to the last complete period, by KPI and basis.
        target_sources: where targets come from, by KPI.
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
    intervals: Mapping[tuple[str, Basis], ChangeInterval] = field(default_factory=dict)
    target_sources: Mapping[str, str] = field(default_factory=dict)

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

    @property
    def last_period(self) -> str | None:
        """The label of the last period that was over at the figures' date; None where none was."""
        complete = [item.period for item in self.series("aov", "history") if item.complete]
        return complete[-1] if complete else None

    def last(self, kpi: str, basis: Basis) -> KpiValue | None:
        """Return a KPI's figure of the last complete period, whatever came before; None without such a period."""
        complete = [item for item in self.series(kpi, basis) if item.complete]
        return complete[-1] if complete else None

    def change(self, kpi: str, basis: Basis) -> Change | None:
        """Return what a KPI did from the latest complete period with a value before the last one to the last one.

        None where the last complete period has no value, or none before it has.
        """
        series = self.series(kpi, basis)
        pair = compared_values(series)
        if pair is None:
            return None
        (before, last), (now, value) = ((str(item.period), item.value or 0.0) for item in pair)
        difference = value - last
        relative = difference / abs(last) if last else None
        moved = abs(difference) > 0 if relative is None else abs(relative) >= self.moved_share
        direction = next(item.direction for item in self.definitions if item.name == kpi)
        better = None if direction == "neither" else (difference > 0) == (direction == "higher")
        found = self.intervals.get((kpi, basis))
        is_open = basis == "log" and self.get("offer_conversion_rate", "log", period=now).figure.beside[0].numerator > 0
        labels = [item.period for item in series]
        return Change(
            now=now,
            before=before,
            value=value,
            last=last,
            difference=difference,
            relative=relative,
            moved=moved,
            better=better,
            low=None if found is None else found.low,
            high=None if found is None else found.high,
            n_accounts=None if found is None else found.n_accounts,
            adjacent=labels.index(now) - labels.index(before) == 1,
            reading="windows open" if is_open else reading_of(found, moved, better),
        )

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
            "meaning": {
                "organic": ORGANIC_MEANS,
                "attributed": ATTRIBUTED_MEANS,
                "customers": CUSTOMERS_MEANS,
                "change": CHANGE_MEANS,
            },
            "definitions": [definition_document(item, self.targets.get(item.name)) for item in self.definitions],
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
            "last_period": self.last_period,
            "target_sources": dict(self.target_sources),
        }

    def to_json(self) -> str:
        """Return the report as the text that `offers kpis --format json` writes."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n"

    def to_frame(self) -> pd.DataFrame:
        """Return one row a figure: of which KPI, basis, segment and period, and its numerator and denominator."""
        return pd.DataFrame([_value(item) for item in self.values]).drop(columns="beside")


def definition_document(definition: KpiDefinition, target: float | None) -> dict[str, Any]:
    """Return a definition as JSON values: its fields, the target, and the twelve attributes by their standard names."""
    twelve = standard_attributes(definition)
    plain = {name: value for name, value in asdict(definition).items() if name not in twelve or name == "formula"}
    # Version 1 of the layout calls five attributes by older names; readers of it find them still.
    older = {
        "estimator": definition.approach,
        "tells": definition.insight,
        "ask": definition.diagnostics,
        "misleads": definition.risks,
    }
    return plain | older | {"target": target, "attributes": twelve}


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
