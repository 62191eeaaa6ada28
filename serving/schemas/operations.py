"""What the server says about itself."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from recsys.contracts.answers import RunningModel
from serving.schemas.fields import answered_fields


class Liveness(BaseModel):
    """The process runs."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "alive"}]})

    status: Literal["alive"] = Field(default="alive", description="Always `alive`; no answer means it is not.")


class Readiness(BaseModel):
    """The server can answer."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"status": "ready", "model_version": "3f0a51c2b9de", "warnings": []}]}
    )

    status: Literal["ready"] = Field(default="ready", description="`ready`; a 503 says why it is not.")
    model_version: str = Field(description="The model that answers.")
    warnings: list[str] = Field(description="What somebody should look at; the server answers all the same.")


ModelAnswer = create_model("ModelAnswer", __doc__="A model that runs in this server.", **answered_fields(RunningModel))


class RefusedAnswer(BaseModel):
    """A newer model that does not serve; the last good one of its alias goes on."""

    alias: str = Field(description="Which alias names it.")
    version: str | None = Field(description="Its version; null where nothing was found.")
    reason: str = Field(description="Why it was refused.")
    at: datetime = Field(description="When it was refused.")


class ModelsAnswer(BaseModel):
    """The models that run."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "models": [
                        {
                            "alias": "champion",
                            "version": "3f0a51c2b9de",
                            "source": "models:/offers@champion",
                            "as_of": "2011-06-01T00:00:00Z",
                            "horizon_days": 30,
                            "currency": "GBP",
                            "n_accounts": 4899,
                            "n_products": 4266,
                            "loaded_at": "2011-06-01T03:12:00Z",
                        }
                    ],
                    "refused": [
                        {
                            "alias": "challenger",
                            "version": "b2f60c11aa07",
                            "reason": "tables/candidates.arrow: its digest is not the manifest's",
                            "at": "2011-06-01T03:20:00Z",
                        }
                    ],
                }
            ]
        }
    )

    models: list[ModelAnswer] = Field(description="One an alias; the first answers requests.")
    refused: list[RefusedAnswer] = Field(description="Newer models that were refused; empty where all is well.")
