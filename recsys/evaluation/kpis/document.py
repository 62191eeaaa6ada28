"""A report as JSON: every figure with its numerator and denominator, so that it can be checked."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from recsys.evaluation.kpis.definition import ATTRIBUTED_MEANS, CUSTOMERS_MEANS, ORGANIC_MEANS
from recsys.evaluation.kpis.results import KpiReport, KpiValue

SCHEMA_VERSION: Final = 1


def document_of(report: KpiReport) -> dict[str, Any]:
    """Return a report as JSON values; `schema_version` rises when a field changes its meaning."""
    return {
        "schema_version": SCHEMA_VERSION,
        "as_of": report.as_of.isoformat(),
        "start": report.start.isoformat(),
        "currency": report.currency,
        "period": report.period,
        "periods": list(report.periods),
        "window_days": report.window_days,
        "key_accounts": report.key_rule,
        "ladder": report.ladder,
        "families_by": report.families_by,
        "n_orders": report.n_orders,
        "n_customers": report.n_customers,
        "moved_share": report.moved_share,
        "meaning": {"organic": ORGANIC_MEANS, "attributed": ATTRIBUTED_MEANS, "customers": CUSTOMERS_MEANS},
        "definitions": [asdict(item) | {"target": report.targets.get(item.name)} for item in report.definitions],
        "values": [_value(item) for item in report.values],
        "changes": [
            {"kpi": definition.name, "basis": basis} | asdict(change)
            for definition in report.definitions
            for basis in definition.bases
            if (change := report.change(definition.name, basis)) is not None
        ],
        "aov_effects": [asdict(item) for item in report.aov_effects],
        "not_computable": [asdict(item) for item in report.missing],
        "notes": list(report.notes),
    }


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
