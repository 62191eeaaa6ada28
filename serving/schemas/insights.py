"""Call lists, white-space boards, and why a product was not offered."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field, create_model

from recsys.contracts.answers import CallListEntry, WhiteSpaceItem, WhyNotResult
from serving.schemas.fields import Id, StrictBody, answered_fields

CallAnswer = create_model("CallAnswer", __doc__="One account to be called.", **answered_fields(CallListEntry))


class CallListAnswer(BaseModel):
    """Whom to call about a product. Nothing is presented by it: ask the account's offers before you pitch."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "product_id": "22720",
                    "model_version": "3f0a51c2b9de",
                    "as_of": "2011-06-01T00:00:00Z",
                    "horizon_days": 30,
                    "capacity": 50,
                    "returned": 1,
                    "calls": [
                        {
                            "rank": 1,
                            "account_id": "17850",
                            "kind": "upsell",
                            "probability": 0.18,
                            "expected_quantity": 6.0,
                            "expected_value": 5.346,
                            "reason": "34 of 207 accounts that buy REGENCY CAKESTAND 3 TIER added it within 60 days",
                            "from_product_id": "22423",
                            "account_name": "Hall & Sons",
                        }
                    ],
                    "shortfall": "asked for 50, accounts that have it among their candidates: 1",
                }
            ]
        }
    )

    product_id: str = Field(description="The product.")
    model_version: str = Field(description="The model that answered.")
    as_of: datetime = Field(description="No purchase at or after this time was used in training.")
    horizon_days: int = Field(description="The window of every probability.")
    capacity: int = Field(description="How many calls can be made.")
    returned: int = Field(description="How many accounts came.")
    calls: list[CallAnswer] = Field(description="The most likely account first, each once.")
    shortfall: str | None = Field(description="Why fewer came than `capacity`; null when all came.")


CellAnswer = create_model("CellAnswer", __doc__="One product of a board.", **answered_fields(WhiteSpaceItem))


class ShelfAnswer(BaseModel):
    """One category of a board."""

    category: str | None = Field(
        description="Null for products without one, the last on the board; the family where no product has a category, "
        "what names say the thing is where none has a family either."
    )
    n_products: int = Field(description="Products of the category.")
    n_owned: int = Field(description="Of them, how many the account owns.")
    penetration: float = Field(ge=0, le=1, description="Mean over its products of the share of peers that bought each.")
    cells: list[CellAnswer] = Field(description="Owned first, then offered, then gaps, then what is not eligible.")
    title: str = Field(
        description="What people call it: the category, or what its products have in common without one."
    )


class BoardAnswer(BaseModel):
    """The white space of an account: category by product. Opening it presents nothing."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "account_id": "17850",
                    "model_version": "3f0a51c2b9de",
                    "as_of": "2011-06-01T00:00:00Z",
                    "horizon_days": 30,
                    "currency": "GBP",
                    "peer_group": "wholesale",
                    "n_peers": 207,
                    "account_name": "Hall & Sons",
                    "shelves": [
                        {
                            "category": "Tins",
                            "n_products": 2,
                            "n_owned": 0,
                            "penetration": 0.145,
                            "cells": [
                                {
                                    "product_id": "22720",
                                    "name": "SET OF 3 CAKE TINS PANTRY DESIGN",
                                    "standing": "offered",
                                    "why": None,
                                    "probability": 0.18,
                                    "expected_value": 5.346,
                                    "penetration": 0.21,
                                },
                                {
                                    "product_id": "22721",
                                    "name": "SET OF 3 CAKE TINS SKETCHBOOK",
                                    "standing": "not_eligible",
                                    "why": "out_of_stock",
                                    "probability": None,
                                    "expected_value": None,
                                    "penetration": 0.08,
                                },
                            ],
                            "title": "Tins",
                        }
                    ],
                }
            ]
        }
    )

    account_id: str = Field(description="The account.")
    model_version: str = Field(description="The model that answered.")
    as_of: datetime = Field(description="No purchase at or after this time was used in training.")
    horizon_days: int = Field(description="The window of every probability.")
    currency: str | None = Field(description="Of every value.")
    peer_group: str = Field(description="Whom penetration is measured on.")
    n_peers: int = Field(description="How many accounts they are.")
    shelves: list[ShelfAnswer] = Field(description="The category with the largest value on offer first.")
    account_name: str | None = Field(description="What people call the account.")


class WhyNotBody(StrictBody):
    """The product in question."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"product_id": "22720"}]})

    product_id: Id = Field(description="Any product.")


WhyNotAnswer = create_model(
    "WhyNotAnswer",
    __doc__="The first rule that removed the product, computed again from what the decision rested on.",
    __config__=ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "decision_id": "0199f2c4-7d1e-7c3a-9a53-0b0d8f5f3a11",
                    "product_id": "22720",
                    "model_version": "3f0a51c2b9de",
                    "code": "blocked",
                    "sentence": "the business rule 'autumn tins' blocks it",
                    "rule": "autumn tins",
                    "values": {},
                    "rules_changed": False,
                    "product_changed": False,
                }
            ]
        }
    ),
    **answered_fields(WhyNotResult),
)
