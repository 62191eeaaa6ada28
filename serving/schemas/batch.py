"""Many questions in one request."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from serving.http.problems import Problem
from serving.schemas.offers import OFFERS_EXAMPLE, OffersAnswer, OffersBody

MAX_REQUESTS = 500


class OffersBatchBody(BaseModel):
    """Many questions."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"requests": [{"account_id": "17850", "limit": 3}, {"account_id": "13089"}]}]},
    )

    requests: list[OffersBody] = Field(min_length=1, max_length=MAX_REQUESTS, description="Each as `POST /v1/offers`.")


class BatchLine(BaseModel):
    """One line of the answer, as soon as it is ready."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"index": 0, "status": 200, "answer": OFFERS_EXAMPLE, "problem": None},
                {
                    "index": 1,
                    "status": 503,
                    "answer": None,
                    "problem": {
                        "type": "about:blank",
                        "title": "Temporarily unavailable",
                        "status": 503,
                        "detail": "the event store can't take the request now; try again",
                        "request_id": "shop-42",
                        "errors": [],
                    },
                },
            ]
        }
    )

    index: int = Field(description="Position of its question in the request, from 0.")
    status: int = Field(description="The HTTP status that the question would have had alone.")
    answer: OffersAnswer | None = Field(description="Null where it could not be answered.")
    problem: Problem | None = Field(description="Null where it was answered.")
