"""Answers as text: what goes out, and what the event store keeps, written once from what was ranked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from pydantic_core import to_json

from recsys.contracts.offers import (
    EMPTY_STATE,
    AccountState,
    Explain,
    NameKind,
    Objective,
    OfferRequest,
    ProductChange,
    Slate,
    Tier,
    logged_products,
)
from recsys.offer_catalogue.business_rules import BusinessRule
from recsys.ranking.active_rules import RuleAnnotation
from recsys.ranking.engine import OfferEngine
from recsys.ranking.exploration import Exploration, draw, widened
from recsys.ranking.kernel.layout import NO_ROW
from recsys.ranking.ranked import TIERS, RankedOffer, RankedSlate

_MOST_KEPT: Final = 50_000
"""Pieces of text that are kept once written, some 50 MB at the most; then all are written anew."""
_OF: Final = "buys_within_horizon"
_NO_RULE: Final = '"rule":null,"discount":null,"text":null'
_NO_RULE_KEPT: Final = "null,null"
_N_ROWS: Final = RankedOffer._fields.index("price")
"""The first fields of a ranked offer are rows, the others numbers."""


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


class _Piece(NamedTuple):
    """What is the same of an offer whenever it is made for the same reason: the text before and behind its numbers.

    Attributes:
        begin: of the offer as it goes out, from the product's id to the price.
        end: from the tier to what business rules say.
        kept_begin: of the offer as it is kept, from the product's id to the price.
        kept_tier: of the offer as it is kept.
        kept_source: the product that it comes from.
    """

    begin: str
    end: str
    kept_begin: str
    kept_tier: str
    kept_source: str


class EncodingEngine:
    """An offer engine whose answers are text, made of pieces that are kept once written.

    The text is what `encode` makes of the engine's slate: tests/serving/test_encoding.py compares.
    """

    def __init__(self, engine: OfferEngine) -> None:
        self._engine = engine
        self._model = engine.model
        self._ids = engine.catalogue.ids
        currency = json_text(engine.model.facts.currency)
        self._of = f'"currency":{currency},"probability":', f'"probability_of":"{_OF}","expected_quantity":'
        self._of_kept = f"{currency},", f'"{_OF}",'
        self._named: dict[int, tuple[str, str]] = {}  # at most one entry a product
        self._pieces: dict[Explain, dict[tuple[float, ...], _Piece]] = {"none": {}, "brief": {}, "full": {}}

    def answer(
        self, request: OfferRequest, state: AccountState = EMPTY_STATE, exploration: Exploration | None = None
    ) -> EncodedSlate:
        """Return the ranked answer to one request.

        Raises:
            ConfigError: the model can't answer such a request.
        """
        if exploration is not None:
            wide = self._engine.rank(widened(request), state)
            drawn = draw(len(wide.offers), request.limit, exploration)
            if drawn is not None:
                offers = [*wide.offers[: request.limit - 1], wide.offers[drawn.position]]
                ranked = wide._replace(offers=offers, requested=request.limit, shortfall=None)
                return self._encoded(ranked, request, drawn.propensity)
        return self._encoded(self._engine.rank(request, state), request, 1.0)

    def knows(self, kind: NameKind, name: str) -> bool:
        """Return whether the model has anything to say about what is called so."""
        return self._engine.knows(kind, name)

    def apply(self, change: ProductChange) -> bool:
        """Put new values of a product in force; return whether the model knows the product."""
        return self._engine.apply(change)

    def use_rules(self, rules: Sequence[BusinessRule]) -> None:
        """Put business rules in force, and no other."""
        self._engine.use_rules(rules)

    def _encoded(self, ranked: RankedSlate, request: OfferRequest, propensity: float) -> EncodedSlate:
        offers, kept = self._written(ranked, request.explain, propensity) if ranked.offers else ("[]", "[]")
        return EncodedSlate(
            offers,
            kept,
            len(ranked.offers),
            ranked.requested,
            ranked.shortfall,
            TIERS[ranked.tier],
            request.objective,
            self._model.facts.horizon_days,
            ranked.resolved.unknown_products,
            ranked.resolved.unknown_categories,
            ranked.n_considered,
            ranked.refused,
        )

    def _written(self, ranked: RankedSlate, explain: Explain, propensity: float) -> tuple[str, str]:
        pieces, annotations = self._pieces[explain], ranked.resolved.rules.annotations
        if len(pieces) > _MOST_KEPT:
            pieces.clear()
        out: list[str] = []
        kept: list[str] = []
        texts = iter(json_text([number for offer in ranked.offers for number in offer[_N_ROWS:]])[1:-1].split(","))
        numbers = zip(texts, texts, texts, texts, texts)  # noqa: B905 - one iterator, five at a time
        of, of_kept, last = self._of, self._of_kept, len(ranked.offers)
        last_propensity = json_text(propensity)
        for rank, (offer, (price, probability, units, value, score)) in enumerate(
            zip(ranked.offers, numbers, strict=True), start=1
        ):
            key = offer[:_N_ROWS]
            begin, end, kept_begin, tier, source = pieces.get(key) or self._piece(offer, ranked.segment, explain)
            rule, kept_rule = _NO_RULE, _NO_RULE_KEPT
            if annotations and offer.product in annotations:
                rule, kept_rule = _annotated(annotations[offer.product], offer.price)
            out.append(
                f'{{"rank":{rank},{begin}{price},{of[0]}{probability},{of[1]}{units},"expected_value":{value},'
                f'"score":{score},{end}{rule}}}'
            )
            kept.append(
                f"[{rank},{kept_begin}{price},{of_kept[0]}{probability},{of_kept[1]}{units},{value},{score},{tier},"
                f"{last_propensity if rank == last else '1.0'},{source},{kept_rule}]"
            )
        return f"[{','.join(out)}]", f"[{','.join(kept)}]"

    def _piece(self, offer: RankedOffer, segment: int, explain: Explain) -> _Piece:
        reason = self._engine.reasons.of_offer(offer, segment)
        source = offer.from_product if offer.from_product != NO_ROW else reason.anchor
        source_id = "null" if source == NO_ROW else self._name(source)[0]
        sentence = json_text("" if explain == "none" else reason.sentence)
        counts = json_text(reason.evidence) if explain == "full" else "{}"
        kind, tier = "cross_sell" if offer.from_product == NO_ROW else "upsell", TIERS[offer.tier]
        product_id, name = self._name(offer.product)
        piece = _Piece(
            f'"product_id":{product_id},"kind":"{kind}","name":{name},"price":',
            f'"tier":"{tier}","reason":{sentence},"from_product_id":{source_id},"evidence":{counts},',
            f'{product_id},"{kind}",',
            f'"{tier}"',
            source_id,
        )
        self._pieces[explain][offer[:_N_ROWS]] = piece
        return piece

    def _name(self, product: int) -> tuple[str, str]:
        texts = self._named.get(product)
        if texts is None:
            texts = json_text(self._ids[product]), json_text(self._model.products.names[product] or None)
            self._named[product] = texts
        return texts


def _annotated(annotation: RuleAnnotation, price: float) -> tuple[str, str]:
    """Return what a business rule says of an offer, as it goes out and as it is kept."""
    rule = json_text(annotation.rule)
    off = "null" if annotation.discount is None else json_text(annotation.discount * price)
    return f'"rule":{rule},"discount":{off},"text":{json_text(annotation.text)}', f"{rule},{off}"


def json_text(value: Any) -> str:  # noqa: ANN401 - whatever is part of an answer
    """Return a value as JSON; a number that JSON has not is null."""
    return to_json(value, inf_nan_mode="null").decode()
