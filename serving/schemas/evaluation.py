"""Readouts and KPIs; their layout is the evaluation module's own and has a version."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Period = Literal["day", "week", "month", "quarter"]


class ReadoutAnswer(BaseModel):
    """The readout of an experiment, as `readout.json` of `offers experiment readout`."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "schema_version": 1,
                    "health": [
                        {"name": "sample_ratio", "status": "passed", "detail": "2,013 and 1,987", "p_value": 0.68}
                    ],
                    "verdict": {
                        "verdict": "ship",
                        "rule": "primary_better",
                        "reason": "...",
                        "arm": "engine",
                        "arms": [],
                    },
                    "effects": [{"metric": "revenue_per_account", "arm": "engine", "effect": 1.9, "relative": 0.041}],
                }
            ]
        },
    )

    schema_version: int = Field(description="Of the layout.")
    health: list[Any] = Field(description="Whether the data can be trusted, check by check.")
    verdict: dict[str, Any] = Field(description="What to do, and the rule that said so.")
    effects: list[Any] = Field(description="Of each arm and metric, with intervals.")


class KpisAnswer(BaseModel):
    """KPIs, as `offers kpis --format json`."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [{"schema_version": 1, "values": [{"kpi": "aov", "period": "2026-03", "value": 81.2}]}]
        },
    )

    schema_version: int = Field(description="Of the layout.")
    values: list[Any] = Field(description="The figures: overall and by period.")
