"""Answers as text: what goes out, and what the event store keeps, written once from what was ranked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any, Final, NamedTuple

from pydantic_core import to_json

from recsys.contracts.events import DecisionOffer
from recsys.contracts.offers import AccountState, Objective, Offer, OfferRequest, Slate, Tier
from recsys.ranking.engine import OfferEngine
from recsys.ranking.kernel import N_IDS, N_NUMBERS
from recsys.ranking.model import EVERYONE
from recsys.ranking.pool import SEGMENT, TIERS
from recsys.ranking.quick import QuickRanker, QuickSlate
from recsys.ranking.sentences import Reason, Reasons

_MOST_KEPT: Final = 50_000
"""Pieces of text that are kept once written, some 50 MB at the most; then all are written anew."""
_OF: Final = "buys_within_horizon"


class Packed(NamedTuple):
    """The ranked answer to one request, its offers as text.

    Attributes:
        offers: JSON array of `schemas.offers.OfferAnswer`.
        kept: JSON array of `DecisionOffer`, each by position.
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
    n_considered: int
    refused: Mapping[str, str]

    @property
    def product_ids(self) -> list[str]:
        """The products that are offered, in order of rank."""
        return [DecisionOffer(*offer).product_id for offer in json.loads(self.kept)]


def pack(slate: Slate, propensity: float = 1.0) -> Packed:
    """Return a slate as text; only its last offer may stand at its rank by chance, with `propensity`."""
    last = len(slate.offers)
    return Packed(
        _json(slate.offers),
        _json([_kept(offer, propensity if offer.rank == last else 1.0) for offer in slate.offers]),
        last,
        slate.requested,
        slate.shortfall,
        slate.tier,
        slate.objective,
        slate.horizon_days,
        slate.unknown_products,
        slate.n_considered,
        slate.refused,
    )


def _kept(offer: Offer, propensity: float) -> DecisionOffer:
    return DecisionOffer(
        offer.rank,
        offer.product_id,
        offer.kind,
        offer.price,
        offer.currency,
        offer.probability,
        offer.probability_of,
        offer.expected_quantity,
        offer.expected_value,
        offer.score,
        offer.tier,
        propensity,
        offer.from_product_id,
        offer.rule,
        offer.discount,
    )


class _Piece(NamedTuple):
    """A part of an offer, as it goes out and as it is kept."""

    out: str
    kept: str


class QuickAnswers:
    """Ranks usual requests of one model and writes their answers from pieces that are kept once written.

    Of an offer only its numbers differ from request to request: which product it is, and why, are pieces.
    """

    def __init__(self, engine: OfferEngine) -> None:
        self._ranker = QuickRanker(engine)
        self._model = engine.model
        self._ids = engine.catalogue.ids
        self._reasons = Reasons(engine.model, engine.config.least_buyers)
        self._currency = _json(engine.model.facts.currency)
        self._products: dict[int, _Piece] = {}
        self._whys: dict[tuple[int, ...], _Piece] = {}

    def packed(self, request: OfferRequest, state: AccountState) -> Packed | None:
        """Return the answer that `pack` makes of the engine's slate; None where the request is not a usual one."""
        ranked = self._ranker.rank(request, state)
        if ranked is None:
            return None
        n = len(ranked.numbers) // N_NUMBERS
        if len(self._products) + len(self._whys) + 2 * n > _MOST_KEPT:
            self._products.clear()
            self._whys.clear()
        offers, kept = self._written(ranked, n, ("none", "brief", "full").index(request.explain))
        return Packed(
            offers,
            kept,
            n,
            request.limit,
            ranked.shortfall,
            TIERS[ranked.tier],
            request.objective,
            self._model.facts.horizon_days,
            ranked.unknown,
            ranked.n_considered,
            ranked.refused,
        )

    def _written(self, ranked: QuickSlate, n: int, explain: int) -> tuple[str, str]:
        if not n:
            return "[]", "[]"
        out: list[str] = []
        kept: list[str] = []
        numbers = to_json(ranked.numbers, inf_nan_mode="null").decode()[1:-1].split(",")
        ids, products, whys = ranked.ids, self._products, self._whys
        at = 0
        for begin in range(0, N_IDS * n, N_IDS):
            product, origin, evidence, tier, rule, antecedent = ids[begin : begin + N_IDS]
            what = product if origin < 0 else ~product
            known = products.get(what) or self._product(what)
            key = (product, origin, evidence, tier, rule, explain, ranked.segment)
            why = whys.get(key) or self._why(key, antecedent)
            price, probability, quantity, value, score = numbers[at : at + N_NUMBERS]
            out += (known.out, price, probability, quantity, value, score, why.out)
            kept += (known.kept, price, probability, quantity, value, score, why.kept)
            at += N_NUMBERS
        answer, row = _templates(n, self._currency)
        return answer % tuple(out), row % tuple(kept)

    def _product(self, what: int) -> _Piece:
        row, kind = (what, "cross_sell") if what >= 0 else (~what, "upsell")
        product_id, name = _json(self._ids[row]), _json(self._model.products.names[row] or None)
        out = f'"product_id":{product_id},"kind":"{kind}","name":{name}'
        piece = self._products[what] = _Piece(out, f'{product_id},"{kind}"')
        return piece

    def _why(self, key: tuple[int, ...], antecedent: int) -> _Piece:
        product, origin, evidence, tier, rule, explain, segment = key
        reason = self._reason(product, origin, evidence, tier, rule, antecedent, segment)
        source = origin if origin >= 0 else reason.anchor
        source_id = _json(self._ids[source] if source >= 0 else None)
        sentence = _json(reason.sentence if explain else "")
        counts = _json(reason.evidence if explain == 2 else {})
        out = (
            f'"tier":"{TIERS[tier]}","reason":{sentence},"from_product_id":{source_id},"evidence":{counts},'
            '"rule":null,"discount":null,"text":null'
        )
        piece = self._whys[key] = _Piece(out, f'"{TIERS[tier]}",1.0,{source_id},null,null')
        return piece

    def _reason(
        self, product: int, origin: int, evidence: int, tier: int, rule: int, antecedent: int, segment: int
    ) -> Reason:
        if tier >= SEGMENT:
            return self._reasons.of_fallback(evidence, segment if tier == SEGMENT else EVERYONE)
        if rule >= 0:
            return self._reasons.of_rule(rule, antecedent)
        if evidence >= 0:
            return self._reasons.of_evidence(evidence, climbs=origin >= 0)
        return self._reasons.of_popularity(product)


@cache
def _templates(n: int, currency: str) -> tuple[str, str]:
    """Of `n` offers as they go out and as they are kept, with a place for each piece and number."""
    currency = currency.replace("%", "%%")
    begin, of = f'"currency":{currency},"probability":%s', f'"probability_of":"{_OF}"'
    end = '"expected_quantity":%s,"expected_value":%s,"score":%s,%s}'
    out = [f'{{"rank":{rank},%s,"price":%s,{begin},{of},{end}' for rank in range(1, n + 1)]
    kept = [f'[{rank},%s,%s,{currency},%s,"{_OF}",%s,%s,%s,%s]' for rank in range(1, n + 1)]
    return f"[{','.join(out)}]", f"[{','.join(kept)}]"


def _json(value: Any) -> str:  # noqa: ANN401 - whatever is part of an answer
    return to_json(value, inf_nan_mode="null").decode()
