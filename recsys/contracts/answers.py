"""What a server answers beside offers: whom to call, what is left to sell, why not a product, which models run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from recsys.contracts.offers import OfferKind

Standing = Literal["owned", "offered", "gap", "not_eligible"]


@dataclass(frozen=True, slots=True)
class CallListEntry:
    """One account of a call list."""

    rank: Annotated[int, Field(description="1 is the most likely.")]
    account_id: Annotated[str, Field(description="The account.")]
    kind: Annotated[
        OfferKind, Field(description="`cross_sell`: new to it. `upsell`: a higher-value version of what it buys.")
    ]
    probability: Annotated[float, Field(ge=0, le=1, description="That it buys the product within `horizon_days`.")]
    expected_quantity: Annotated[float, Field(description="Units, if it does.")]
    expected_value: Annotated[
        float, Field(description="Money: probability x quantity x price; an upgrade's is the difference.")
    ]
    reason: Annotated[str, Field(description="One sentence that a person can say aloud.")]
    from_product_id: Annotated[str | None, Field(description="What an upgrade would displace; null for a cross-sell.")]
    account_name: Annotated[str | None, Field(description="What people call the account.")] = None


@dataclass(frozen=True, slots=True)
class CallList:
    """Whom to call about a product; it is gone through like a tuple of its calls.

    Attributes:
        calls: the most likely account first, each once.
        shortfall: why fewer came than were asked for; None when all came.
    """

    calls: tuple[CallListEntry, ...]
    shortfall: str | None = None

    def __iter__(self) -> Iterator[CallListEntry]:
        """Iterate over the calls."""
        return iter(self.calls)

    def __len__(self) -> int:
        """Return how many accounts came."""
        return len(self.calls)

    def __getitem__(self, position: int) -> CallListEntry:
        """Return the call at a position, from 0."""
        return self.calls[position]


@dataclass(frozen=True, slots=True)
class WhiteSpaceItem:
    """One product of a white-space board."""

    product_id: Annotated[str, Field(description="The product.")]
    name: Annotated[str | None, Field(description="Its name.")]
    standing: Annotated[
        Standing, Field(description="`offered`: the engine would offer it. `gap`: neither owned nor offered.")
    ]
    why: Annotated[str | None, Field(description="Why it is not eligible; null for the others.")]
    probability: Annotated[
        float | None, Field(description="Of buying it within `horizon_days`; null without an estimate.")
    ]
    expected_value: Annotated[float | None, Field(description="Money; null without an estimate.")]
    penetration: Annotated[float, Field(ge=0, le=1, description="Share of the peers that have bought it.")]


@dataclass(frozen=True, slots=True)
class WhyNotResult:
    """The first rule that removed a product, computed again from what the decision rested on."""

    decision_id: Annotated[str, Field(description="The decision.")]
    product_id: Annotated[str, Field(description="The product.")]
    model_version: Annotated[str, Field(description="The model that made the decision.")]
    code: Annotated[str, Field(description="The first rule that removed it; `offered` where it was offered.")]
    sentence: Annotated[str, Field(description="The same for people.")]
    rule: Annotated[str | None, Field(description="The business rule that removed it; null where none did.")]
    values: Annotated[Mapping[str, float | int | str | bool | None], Field(description="What the rule looked at.")]
    rules_changed: Annotated[bool, Field(description="Whether the business rules have changed since the decision.")]
    product_changed: Annotated[
        bool, Field(description="Whether price, stock or flags of the product have changed since.")
    ]


@dataclass(frozen=True, slots=True)
class RunningModel:
    """A model that runs in a server."""

    alias: Annotated[str, Field(description="`champion` answers; the others answer arms of experiments.")]
    version: Annotated[str, Field(description="What decisions name as their model.")]
    source: Annotated[str, Field(description="The URI or folder that it was loaded by.")]
    as_of: Annotated[datetime, Field(description="No purchase at or after this time was used in training.")]
    horizon_days: Annotated[int, Field(description="The window of every probability.")]
    currency: Annotated[str | None, Field(description="Of every price.")]
    n_accounts: Annotated[int, Field(description="Accounts that it knows.")]
    n_products: Annotated[int, Field(description="Products that it knows.")]
    loaded_at: Annotated[datetime, Field(description="When this process loaded it.")]
