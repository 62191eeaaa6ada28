"""Answers as text: what goes out, and what the event store keeps, written once from what was ranked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from pydantic_core import to_json

from recsys.contracts.offers import AccountState, Explain, Objective, OfferRequest, Slate, Tier, logged_products
from recsys.offer_model.tables import EVERYONE
from recsys.ranking.compiled_ranker import CompiledRanker, RankedSlate
from recsys.ranking.engine import OfferEngine
from recsys.ranking.explanations import Reason, Reasons
from recsys.ranking.kernel import N_NUMBERS, TIER_SEGMENT
from recsys.ranking.pool import TIERS

_MOST_KEPT: Final = 50_000
"""Pieces of text that are kept once written, some 50 MB at the most; then all are written anew."""
_OF: Final = "buys_within_horizon"
_NO_RULE: Final = '"rule":null,"discount":null,"text":null'


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
        end: from the tier on.
        kept_begin: of the offer as it is kept, from the product's id to the price.
        kept_end: from the tier on.
    """

    begin: str
    end: str
    kept_begin: str
    kept_end: str


class ResponseEncoder:
    """Ranks usual requests of one model and writes their answers from pieces that are kept once written."""

    def __init__(self, engine: OfferEngine) -> None:
        self._ranker = CompiledRanker(engine)
        self._model = engine.model
        self._ids = engine.catalogue.ids
        self._reasons = Reasons(engine.model, engine.config.least_buyers)
        currency = json_text(engine.model.facts.currency)
        self._of = f'"currency":{currency},"probability":', f'"probability_of":"{_OF}","expected_quantity":'
        self._of_kept = f"{currency},", f'"{_OF}",'
        self._horizon_days = engine.model.facts.horizon_days
        self._named: dict[int, tuple[str, str]] = {}  # at most one entry a product
        self._pieces: dict[Explain, dict[tuple[int, ...], _Piece]] = {"none": {}, "brief": {}, "full": {}}

    def packed(self, request: OfferRequest, state: AccountState) -> EncodedSlate | None:
        """Return the answer that `encode` makes of the engine's slate; None where the request is not a usual one."""
        ranked = self._ranker.rank(request, state)
        if ranked is None:
            return None
        offers, kept = self._written(ranked, request.explain)
        return EncodedSlate(
            offers,
            kept,
            len(ranked.numbers) // N_NUMBERS,
            request.limit,
            ranked.shortfall,
            TIERS[ranked.tier],
            request.objective,
            self._horizon_days,
            ranked.unknown,
            (),  # a request that names categories is not a usual one
            ranked.n_considered,
            ranked.refused,
        )

    def _written(self, ranked: RankedSlate, explain: Explain) -> tuple[str, str]:
        if not ranked.ids:
            return "[]", "[]"
        pieces = self._pieces[explain]
        if len(pieces) > _MOST_KEPT:
            pieces.clear()
        out: list[str] = []
        kept: list[str] = []
        each, texts = iter(ranked.ids), iter(json_text(ranked.numbers)[1:-1].split(","))
        offers = zip(each, each, each, each, each, each)  # noqa: B905 - one iterator, six at a time
        numbers = zip(texts, texts, texts, texts, texts)  # noqa: B905 - five at a time
        of, of_kept = self._of, self._of_kept
        for rank, (offer, told) in enumerate(zip(offers, numbers, strict=True), start=1):
            price, probability, units, value, score = told
            begin, end, kept_begin, kept_end = pieces.get(offer) or self._piece(offer, ranked.segment, explain)
            out.append(
                f'{{"rank":{rank},{begin}{price},{of[0]}{probability},{of[1]}{units},"expected_value":{value},'
                f'"score":{score},{end}'
            )
            kept.append(
                f"[{rank},{kept_begin}{price},{of_kept[0]}{probability},{of_kept[1]}{units},{value},{score},{kept_end}"
            )
        return f"[{','.join(out)}]", f"[{','.join(kept)}]"

    def _piece(self, offer: tuple[int, ...], segment: int, explain: Explain) -> _Piece:
        product, origin, _, tier, _, _ = offer
        reason = self._reason(offer, segment)
        source = origin if origin >= 0 else reason.anchor
        source_id = (self._named.get(source) or self._name(source))[0] if source >= 0 else "null"
        sentence = json_text("" if explain == "none" else reason.sentence)
        counts = json_text(reason.evidence) if explain == "full" else "{}"
        kind = "upsell" if origin >= 0 else "cross_sell"
        product_id, name = self._named.get(product) or self._name(product)
        piece = _Piece(
            f'"product_id":{product_id},"kind":"{kind}","name":{name},"price":',
            f'"tier":"{TIERS[tier]}","reason":{sentence},"from_product_id":{source_id},"evidence":{counts},{_NO_RULE}}}',
            f'{product_id},"{kind}",',
            f'"{TIERS[tier]}",1.0,{source_id},null,null]',
        )
        self._pieces[explain][offer] = piece
        return piece

    def _name(self, product: int) -> tuple[str, str]:
        texts = json_text(self._ids[product]), json_text(self._model.products.names[product] or None)
        self._named[product] = texts
        return texts

    def _reason(self, offer: tuple[int, ...], segment: int) -> Reason:
        product, origin, evidence, tier, rule, antecedent = offer
        if tier >= TIER_SEGMENT:
            return self._reasons.of_fallback(evidence, segment if tier == TIER_SEGMENT else EVERYONE)
        if rule >= 0:
            return self._reasons.of_rule(rule, antecedent)
        if evidence >= 0:
            return self._reasons.of_evidence(evidence, climbs=origin >= 0)
        return self._reasons.of_popularity(product)


def json_text(value: Any) -> str:  # noqa: ANN401 - whatever is part of an answer
    """Return a value as JSON; a number that JSON has not is null."""
    return to_json(value, inf_nan_mode="null").decode()
