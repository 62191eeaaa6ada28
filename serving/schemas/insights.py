"""Call lists, white-space boards, and why a product was not offered."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from recsys.contracts.offers import OfferKind
from serving.schemas.fields import Id

Capacity = Annotated[int, Field(ge=1, le=1_000)]
CellsPerCategory = Annotated[int, Field(ge=1, le=200)]


class CallAnswer(BaseModel):
    """One account to be called."""

    rank: int = Field(description="1 is the most likely.")
    account_id: str = Field(description="The account.")
    kind: OfferKind = Field(description="`cross_sell`: new to it. `upsell`: a higher-value version of what it buys.")
    probability: float = Field(ge=0, le=1, description="That it buys the product within `horizon_days`.")
    expected_quantity: float = Field(description="Units, if it does.")
    expected_value: float = Field(description="Money: probability x quantity x price; an upgrade's is the difference.")
    reason: str = Field(description="One sentence that a person can say aloud.")
    from_product_id: str | None = Field(description="What an upgrade would displace; null for a cross-sell.")


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
                        }
                    ],
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


class CellAnswer(BaseModel):
    """One product of a board."""

    product_id: str = Field(description="The product.")
    name: str | None = Field(description="Its name.")
    standing: Literal["owned", "offered", "gap", "not_eligible"] = Field(
        description="`offered`: the engine would offer it. `gap`: neither owned nor offered."
    )
    why: str | None = Field(description="Why it is not eligible; null for the others.")
    probability: float | None = Field(description="Of buying it within `horizon_days`; null without an estimate.")
    expected_value: float | None = Field(description="Money; null without an estimate.")
    penetration: float = Field(ge=0, le=1, description="Share of the peers that have bought it.")


class ShelfAnswer(BaseModel):
    """One category of a board."""

    category: str | None = Field(description="Null for products without one.")
    n_products: int = Field(description="Products of the category.")
    n_owned: int = Field(description="Of them, how many the account owns.")
    penetration: float = Field(ge=0, le=1, description="Mean over its products of the share of peers that bought each.")
    cells: list[CellAnswer] = Field(description="Owned first, then offered, then gaps, then what is not eligible.")


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


class WhyNotBody(BaseModel):
    """The product in question."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"examples": [{"product_id": "22720"}]})

    product_id: Id = Field(description="Any product.")


class WhyNotAnswer(BaseModel):
    """The first rule that removed the product, computed again from what the decision rested on."""

    model_config = ConfigDict(
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
    )

    decision_id: str = Field(description="The decision.")
    product_id: str = Field(description="The product.")
    model_version: str = Field(description="The model that made the decision.")
    code: str = Field(description="The first rule that removed it; `offered` where it was offered.")
    sentence: str = Field(description="The same for people.")
    rule: str | None = Field(description="The business rule that removed it; null where none did.")
    values: dict[str, float | int | str | bool | None] = Field(description="What the rule looked at.")
    rules_changed: bool = Field(description="Whether the business rules have changed since the decision.")
    product_changed: bool = Field(description="Whether price, stock or flags of the product have changed since.")
