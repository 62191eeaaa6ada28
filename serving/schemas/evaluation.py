"""Readouts and KPIs; their layout is the evaluation module's own and has a version."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Period = Literal["day", "week", "month", "quarter"]


class ReadoutAnswer(BaseModel):
    """The readout of an experiment, as `readout.json` of `offers experiment readout`."""

    model_config = ConfigDict(extra="allow")

    schema_version: int = Field(description="Of the layout.")
    health: list[Any] = Field(description="Whether the data can be trusted, check by check.")
    verdict: dict[str, Any] = Field(description="What to do, and the rule that said so.")
    effects: list[Any] = Field(description="Of each arm and metric, with intervals.")


class KpisAnswer(BaseModel):
    """KPIs, as `offers kpis --format json`."""

    model_config = ConfigDict(extra="allow")

    schema_version: int = Field(description="Of the layout.")
    values: list[Any] = Field(description="The figures: overall and by period.")
