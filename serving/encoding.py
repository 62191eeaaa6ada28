"""Answers as text: what goes out, and what the event store keeps, written once from what was ranked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from recsys.contracts.json_text import json_text
from recsys.contracts.offers import (
    ANSWERED,
    EMPTY_STATE,
    LOGGED,
    PROBABILITY_OF,
    AccountState,
    Explain,
    NameKind,
    Objective,
    Offer,
    OfferRequest,
    ProductChange,
    Slate,
    Tier,
    logged_products,
)
from recsys.offer_catalogue.business_rules import BusinessRule
from recsys.ranking.active_rules import RuleAnnotation
from recsys.ranking.engine import OfferEngine
from recsys.ranking.kernel.layout import NO_ROW
from recsys.ranking.ranked import TIERS, Exploration, RankedOffer, RankedSlate

_TIER_TEXTS: Final = tuple(f'"{tier}"' for tier in TIERS)
_NO_RULE: Final = ("null", "null", "null")
_PRICE: Final = RankedOffer._fields.index("price")
"""Of the fields of a ranked offer: rows stand before it, numbers from it on."""


class EncodedSlate(NamedTuple):
    """The ranked answer to one request, its offers as text.

    Attributes:
        offers: JSON array of `schemas.offers.OfferAnswer`.
        kept: JSON array of offers, each by the positions of `LOGGED`.
        returned: how many offers there are.
        shortfall: why fewer came than were asked for; None when all came.
    """

    offers: str
    kept: str
    returned: int
    requested: int
    shortfall: str | None
    tier: Tier
    objective: Objective
    horizon_days: int
    unknown_products: tuple[str, ...]
    unknown_categories: tuple[str, ...]
    n_considered: int
    refused: Mapping[str, str]

    @property
    def product_ids(self) -> list[str]:
        """The products that are offered, in order of rank."""
        return logged_products(self.kept)


def encode(slate: Slate) -> EncodedSlate:
    """Return a slate as text."""
    return EncodedSlate(
        json_text([offer.answered() for offer in slate.offers]),
        json_text([offer.logged() for offer in slate.offers]),
        slate.returned,
        slate.requested,
        slate.shortfall,
        slate.tier,
        slate.objective,
        slate.horizon_days,
        slate.unknown_products,
        slate.unknown_categories,
        slate.n_considered,
        slate.refused,
    )


class EncodingEngine:
    """An offer engine whose answers are text, filled into the lists of an offer's fields.

    The text is what `encode` makes of the engine's slate, in a third of the time: tests/serving/test_encoding.py
    compares.
    """

    def __init__(self, engine: OfferEngine) -> None:
        self._engine = engine
        currency = json_text(engine.model.facts.currency).replace("%", "%%")
        values = dict.fromkeys(Offer._fields, "%s")
        values |= {"currency": currency, "probability_of": json_text(PROBABILITY_OF)}
        self._answered = "{" + ",".join(f'"{name}":{values[name]}' for name in ANSWERED) + "}"
        self._logged = "[" + ",".join(values[name] for name in LOGGED) + "]"
        self._named: dict[int, tuple[str, str]] = {}  # at most one entry a product

    def answer(
        self, request: OfferRequest, state: AccountState = EMPTY_STATE, exploration: Exploration | None = None
    ) -> EncodedSlate:
        """Return the ranked answer to one request.

        Raises:
            ConfigError: the model can't answer such a request.
        """
        ranked = self._engine.rank(request, state, exploration)
        offers, kept = self._written(ranked, request.explain) if ranked.offers else ("[]", "[]")
        return EncodedSlate(
            offers,
            kept,
            len(ranked.offers),
            ranked.requested,
            ranked.shortfall,
            TIERS[ranked.tier],
            request.objective,
            self._engine.model.facts.horizon_days,
            ranked.resolved.unknown_products,
            ranked.resolved.unknown_categories,
            ranked.n_considered,
            ranked.refused,
        )

    def knows(self, kind: NameKind, name: str) -> bool:
        """Return whether the model has anything to say about what is called so."""
        return self._engine.knows(kind, name)

    def apply(self, change: ProductChange) -> bool:
        """Put new values of a product in force; return whether the model knows the product."""
        return self._engine.apply(change)

    def use_rules(self, rules: Sequence[BusinessRule]) -> None:
        """Put business rules in force, and no other."""
        self._engine.use_rules(rules)

    def _written(self, ranked: RankedSlate, explain: Explain) -> tuple[str, str]:
        """Return the offers as they go out and as they are kept."""
        annotations, named, last = ranked.resolved.rules.annotations, self._named, len(ranked.offers)
        answered: list[str] = []
        logged: list[str] = []
        texts = json_text([number for offer in ranked.offers for number in offer[_PRICE:]])[1:-1].split(",")
        numbers = zip(*[iter(texts)] * 5, strict=True)
        for rank, (offer, (price, chance, units, value, score)) in enumerate(
            zip(ranked.offers, numbers, strict=True), 1
        ):
            product, from_product = offer.product, offer.from_product
            reason = self._engine.reasons.of_offer(offer, ranked.segment)
            product_id, name = named.get(product) or self._name(product)
            kind, source = ('"cross_sell"', reason.anchor) if from_product == NO_ROW else ('"upsell"', from_product)
            source_id = "null" if source == NO_ROW else (named.get(source) or self._name(source))[0]
            tier, (rule, off, text) = _TIER_TEXTS[offer.tier], _NO_RULE
            if product in annotations:
                rule, off, text = _annotated(annotations[product], offer.price)
            sentence = '""' if explain == "none" else json_text(reason.sentence)
            evidence = json_text(reason.evidence) if explain == "full" else "{}"
            figures = (price, chance, units, value, score, tier)
            said = (sentence, source_id, evidence, rule, off, text)
            answered.append(self._answered % (rank, product_id, kind, name, *figures, *said))
            propensity = json_text(ranked.last_propensity) if rank == last else "1.0"
            logged.append(self._logged % (rank, product_id, kind, *figures, propensity, source_id, rule, off))
        return f"[{','.join(answered)}]", f"[{','.join(logged)}]"

    def _name(self, product: int) -> tuple[str, str]:
        engine = self._engine
        texts = json_text(engine.catalogue.ids[product]), json_text(engine.model.products.names[product] or None)
        self._named[product] = texts
        return texts


def _annotated(annotation: RuleAnnotation, price: float) -> tuple[str, str, str]:
    """Return what a business rule says of an offer: its name, the money off and its text."""
    off = "null" if annotation.discount is None else json_text(annotation.discount * price)
    return json_text(annotation.rule), off, json_text(annotation.text)
