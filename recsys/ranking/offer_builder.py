"""From picked candidates to offers: price, value, and the reason that a person can say aloud."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from recsys.contracts.offers import Offer, OfferRequest
from recsys.offer_model.tables import EVERYONE, Float64, OfferModel
from recsys.ranking.active_rules import RuleAnnotation
from recsys.ranking.explanations import CartReasons, Reason, Reasons
from recsys.ranking.kernel import TIER_CART, TIER_POPULAR, TIER_RECENT, TIER_SEGMENT
from recsys.ranking.live_catalogue import LiveCatalogue
from recsys.ranking.pool import TIERS, Pool
from recsys.ranking.request import ResolvedRequest
from recsys.ranking.value import unit_worth

_SILENT = RuleAnnotation(None, None, None)


class _Picked(NamedTuple):
    """One candidate of a pool, the fields of `Pool` first."""

    product: int
    from_product: int
    probability: float
    chance: float
    quantity: float
    score: float
    evidence: int
    tier: int
    value: float
    worth: float


class Offering:
    """Speaks for one model."""

    def __init__(self, model: OfferModel, catalogue: LiveCatalogue, least_buyers: int) -> None:
        self._model = model
        self._catalogue = catalogue
        self._reasons = Reasons(model, least_buyers)

    def offers(
        self, picked: Pool, worth: Float64, request: OfferRequest, situation: ResolvedRequest, n_before: int
    ) -> list[Offer]:
        """Return the offers of picked candidates, ranked from `n_before + 1` on; `worth` is what ranked them."""
        effect = situation.effect
        discount = None if effect is None or not len(effect.discounted) else effect.discount(picked.product)
        value = picked.probability * unit_worth(picked, request.objective, self._catalogue, discount)
        columns = (
            *(picked.product, picked.from_product, picked.probability, picked.chance, picked.quantity),
            *(picked.score, picked.evidence, picked.tier, value, worth),
        )
        rows = zip(*[column.tolist() for column in columns], strict=True)
        spoken = self._reasons.beside(situation.cart), self._reasons.beside(situation.recent)
        told = {} if effect is None else effect.told
        return [
            self._offer(_Picked(*row), rank, request, situation.segment, told, *spoken)
            for rank, row in enumerate(rows, start=n_before + 1)
        ]

    def spoken_for(self, pool: Pool, cart: Sequence[int]) -> Pool:
        """Return the upgrades, and the cross-sells that enough buyers had in one order with a product of `cart`.

        Cart weights rank all products; beside one that sells rarely the best of them are bestsellers that fit nothing.
        """
        spoken = self._reasons.beside(cart)
        rows = zip(pool.product.tolist(), pool.from_product.tolist(), strict=True)
        kept = [lower >= 0 or spoken.reason(product) is not None for product, lower in rows]
        return pool.take(np.flatnonzero(kept))

    def _offer(
        self,
        row: _Picked,
        rank: int,
        request: OfferRequest,
        segment: int,
        told: Mapping[int, RuleAnnotation],
        cart: CartReasons,
        recent: CartReasons,
    ) -> Offer:
        reason = self._reason(row, segment, cart, recent)
        origin = row.from_product if row.from_product >= 0 else reason.anchor
        price = float(self._catalogue.price[row.product])
        ids = self._catalogue.ids
        rule, share, text = told.get(row.product, _SILENT) if told else _SILENT
        return Offer(
            rank=rank,
            product_id=ids[row.product],
            kind="upsell" if row.from_product >= 0 else "cross_sell",
            name=self._model.products.names[row.product] or None,
            price=None if math.isnan(price) else price,
            currency=self._model.facts.currency,
            probability=row.probability,
            probability_of="buys_within_horizon",
            expected_quantity=row.quantity,
            expected_value=row.value,
            score=row.worth,
            tier=TIERS[row.tier],
            reason="" if request.explain == "none" else reason.sentence,
            from_product_id=ids[origin] if origin >= 0 else None,
            evidence=reason.evidence if request.explain == "full" else {},
            rule=rule,
            discount=None if share is None or math.isnan(price) else share * price,
            text=text,
        )

    def _reason(self, row: _Picked, segment: int, cart: CartReasons, recent: CartReasons) -> Reason:
        climbs = row.from_product >= 0
        if row.tier in (TIER_SEGMENT, TIER_POPULAR) and row.evidence >= 0:
            return self._reasons.of_fallback(row.evidence, segment if row.tier == TIER_SEGMENT else EVERYONE)
        if row.tier in (TIER_CART, TIER_RECENT) and not climbs:
            spoken = (cart if row.tier == TIER_CART else recent).reason(row.product)
            if spoken is not None:
                return spoken
        if row.evidence >= 0:
            return self._reasons.of_evidence(row.evidence, climbs=climbs)
        return self._reasons.of_popularity(row.product)
