"""Posting what has changed about products, accounts and visitors."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from recsys.contracts.events import AccountUpdate, ProductUpdate
from serving.schemas.fields import Id, Label, Money, StrictBody

Stock = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]


class ProductBody(StrictBody):
    """New values of one product; what is left out stays as it is."""

    product_id: Id = Field(description="The product.")
    price: Money | None = Field(default=None, description="Money a unit, in the currency of the models.")
    cost: Money | None = Field(default=None, description="Money a unit; what `objective: margin` takes off the price.")
    active: bool | None = Field(default=None, description="False: no longer sold, so never offered.")
    stock: Stock | None = Field(default=None, description="Units at hand; at 0 it is not offered.")
    do_not_offer: bool | None = Field(default=None, description="True: sold, but never offered.")

    def to_event(self, now: datetime) -> ProductUpdate:
        """Return the event, recorded `now`."""
        return ProductUpdate(recorded_at=now, **self.model_dump())


class ProductsBody(StrictBody):
    """A batch of products."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "products": [
                        {"product_id": "22720", "price": 4.95, "cost": 2.1, "stock": 0},
                        {"product_id": "22423", "active": True, "do_not_offer": True},
                    ]
                }
            ]
        },
    )

    products: list[ProductBody] = Field(
        min_length=1, max_length=2_000, description="Of two entries for one product the later values count."
    )


class ProductsAnswer(BaseModel):
    """The values are in the event store, and in force in this worker; in the others within a second."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"received": 2, "unknown_products": ["22999"]}]})

    received: int = Field(description="How many products the request held.")
    unknown_products: list[str] = Field(
        description="Products that no model knows. Their values are kept for one that does; check the ids."
    )


class AccountBody(StrictBody):
    """New values of one account; what is left out stays as it is."""

    account_id: Id = Field(description="The account; the models need not know it.")
    segment: Label | None = Field(default=None, description="Its segment: chooses fallbacks and business rules.")
    region: Label | None = Field(default=None, description="Its region: chooses business rules.")
    do_not_offer: bool | None = Field(default=None, description="True: it wants no offers, and gets none.")

    def to_event(self, now: datetime) -> AccountUpdate:
        """Return the event, recorded `now`."""
        return AccountUpdate(recorded_at=now, **self.model_dump())


class AccountsBody(StrictBody):
    """A batch of accounts."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "accounts": [
                        {"account_id": "17850", "segment": "wholesale", "region": "Scotland", "do_not_offer": False}
                    ]
                }
            ]
        },
    )

    accounts: list[AccountBody] = Field(
        min_length=1, max_length=2_000, description="Of two entries for one account the later values count."
    )


class AccountsAnswer(BaseModel):
    """The values are in the event store, and in force in this worker; in the others within a second."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"received": 1, "unknown_segments": ["wholesael"]}]})

    received: int = Field(description="How many accounts the request held.")
    unknown_segments: list[str] = Field(
        description="Segments for which no model has a list of its own: too small, or misspelt. They are kept: "
        "business rules may ask for them, and everyone's list fills their answers."
    )


class LinkBody(StrictBody):
    """A login."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"account_id": "17850"}]})

    account_id: Id = Field(description="The account that the visitor turned out to be.")


class LinkAnswer(BaseModel):
    """The visitor is the account from now on, with all that it did before."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"visitor_id": "v-77", "account_id": "17850"}]})

    visitor_id: str = Field(description="The visitor.")
    account_id: str = Field(description="Its account.")
