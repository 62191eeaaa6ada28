"""The registry as a page: every definition with all its attributes, as text or HTML."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from recsys.evaluation.kpis.definition import ATTRIBUTED_MEANS, CUSTOMERS_MEANS, ORGANIC_MEANS, KpiDefinition
from recsys.evaluation.kpis.registry import REGISTRY
from recsys.reporting.kpi_wording import BASIS_WORDS, shown
from recsys.reporting.templating import render

MEANING = (ORGANIC_MEANS, ATTRIBUTED_MEANS, CUSTOMERS_MEANS)
_WIDTH = 100


def explain_text(targets: Mapping[str, float] | None = None) -> str:
    """Return all definitions as plain text."""
    parts = [textwrap.fill(paragraph, _WIDTH) for paragraph in MEANING]
    for definition in REGISTRY.values():
        lines = [f"{definition.title} ({definition.name})", f"  {definition.formula}"]
        for head, text in attributes_of(definition, targets or {}):
            lines.append(textwrap.fill(f"{head}: {text}", _WIDTH, initial_indent="  ", subsequent_indent="    "))
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def explain_page(targets: Mapping[str, float] | None = None) -> str:
    """Return all definitions as one HTML page without external requests."""
    definitions = [
        {"name": item.name, "title": item.title, "formula": item.formula, "lines": attributes_of(item, targets or {})}
        for item in REGISTRY.values()
    ]
    return render("explain.html.j2", meaning=MEANING, definitions=definitions)


def explain_document(targets: Mapping[str, float] | None = None) -> dict[str, Any]:
    """Return all definitions as JSON values."""
    said = targets or {}
    return {
        "meaning": list(MEANING),
        "definitions": [asdict(item) | {"target": said.get(item.name)} for item in REGISTRY.values()],
    }


def attributes_of(definition: KpiDefinition, targets: Mapping[str, float]) -> list[tuple[str, str]]:
    """Return a definition's attributes as heads and texts, in reading order."""
    target = targets.get(definition.name)
    no_target = f"none set (--target {definition.name}=...)"
    return [
        ("Tells", definition.tells),
        ("Numerator", definition.numerator),
        ("Denominator", definition.denominator),
        ("Unit", definition.unit),
        ("Better", {"higher": "higher", "lower": "lower", "neither": "neither way"}[definition.direction]),
        ("Read off", ", ".join(BASIS_WORDS[basis] for basis in definition.bases)),
        ("By", ", ".join(name.replace("_", " ") for name in definition.dimensions)),
        ("Attribution window", definition.window),
        ("Estimator", definition.estimator),
        ("Can a treatment move its denominator?", definition.moves_denominator or "no"),
        ("When it moves, ask", definition.ask),
        ("May mislead", definition.misleads),
        ("Chart", definition.chart),
        (
            "Target",
            no_target if target is None else shown(target, definition.unit),
        ),
    ]
