"""The bodies of experiments, readouts and KPIs; the layout of the last two has a version of its own."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from serving.schemas.fields import Label, StrictBody


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


class ArmAnswer(BaseModel):
    """One arm of an experiment."""

    name: str = Field(description="As it stands in the log.")
    share: float = Field(ge=0, le=1, description="With which a unit falls into it.")
    is_control: bool = Field(description="Whether the others are compared with it.")
    policy: Literal["model", "popular", "none"] = Field(description="What its units are answered with.")
    alias: str = Field(description="The model's alias, where the policy is `model`.")
    n_units: int = Field(description="Units assigned so far.")


class DecisionBody(StrictBody):
    """Who decides, and against the rules where that is so."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"by": "Ann Lee", "override": "FLAT", "reason": "the supplier leaves", "arm": "engine"}]
        }
    )

    by: Label | None = Field(default=None, description="Who decides; left out, the name of the API key.")
    override: Literal["INVALID", "ROLL BACK", "SHIP", "FLAT", "DISCUSS"] | None = Field(
        default=None, description="A decision against the rules; needs `reason`."
    )
    reason: str = Field(default="", max_length=2_000, description="Why the rules are overridden.")
    arm: Label | None = Field(
        default=None, description="Which arm the override decides on, where several are compared with control."
    )


class DecisionAnswer(BaseModel):
    """The stored decision of an experiment, with the figures that it was made of."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "is_new": True,
                    "decision": {"verdict": "SHIP", "arm": "engine", "signed_by": "Ann Lee", "override": None},
                }
            ]
        },
    )

    is_new: bool = Field(description="Whether it was stored now; else it stood there already.")
    decision: dict[str, Any] = Field(description="What was decided, as of when, by whom, and why.")


class ExperimentAnswer(BaseModel):
    """One version of an experiment."""

    experiment_id: str = Field(description="Its name.")
    version: int = Field(description="Raised at every restart.")
    state: Literal["running", "closing", "ended", "stopped"] = Field(
        description="`closing`: nobody enters any more, who is in keeps its arm; `ended`: all windows are over."
    )
    unit: Literal["account", "visitor"] = Field(description="What is assigned.")
    started_at: datetime = Field(description="When its plan was locked.")
    stopped_at: datetime | None = Field(description="Null while it runs.")
    planned_end: datetime = Field(description="When the plan wants it decided.")
    plan_hash: str = Field(description="SHA-256 of the plan as it was locked.")
    is_unchanged: bool = Field(description="Whether the stored plan still has that hash; a changed plan does not run.")
    arms: list[ArmAnswer] = Field(description="In the order of the plan.")
    decision_due: datetime = Field(description="As of when it is decided, once.")
    decided: str | None = Field(description="What was decided: the verdict, or what overrode it; null before.")
    signed_by: str | None = Field(description="Who decided; null before.")


class ExperimentsAnswer(BaseModel):
    """The experiments of the event store."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "experiments": [
                        {
                            "experiment_id": "autumn-cards",
                            "version": 1,
                            "state": "stopped",
                            "unit": "account",
                            "started_at": "2026-03-01T12:00:00Z",
                            "stopped_at": "2026-03-20T09:00:00Z",
                            "planned_end": "2026-03-29T12:00:00Z",
                            "plan_hash": "9f2c1b7e",
                            "is_unchanged": True,
                            "arms": [
                                {
                                    "name": "offers",
                                    "share": 1.0,
                                    "is_control": True,
                                    "policy": "model",
                                    "alias": "champion",
                                    "n_units": 4_210,
                                }
                            ],
                            "decision_due": "2026-03-22T09:00:00Z",
                            "decided": "FLAT",
                            "signed_by": "Ann Lee",
                        }
                    ]
                }
            ]
        }
    )

    experiments: list[ExperimentAnswer] = Field(description="The earliest start first.")
