"""From ranked rows to offers: names, money, and the reason that a person can say aloud."""

from __future__ import annotations

import math

from recsys.contracts.offers import Explain, Offer
from recsys.offer_model.tables import OfferModel
from recsys.ranking.active_rules import NO_ANNOTATION
from recsys.ranking.explanations import Reasons
from recsys.ranking.kernel.layout import NO_ROW
from recsys.ranking.live_catalogue import LiveCatalogue
from recsys.ranking.ranked import TIERS, RankedOffer, RankedSlate


class OfferBuilder:
    """Speaks for one model."""

    def __init__(self, model: OfferModel, catalogue: LiveCatalogue, reasons: Reasons) -> None:
        self._model = model
        self._catalogue = catalogue
        self._reasons = reasons

    def offers(self, ranked: RankedSlate, explain: Explain) -> tuple[Offer, ...]:
        """Return the offers of a slate, in order of rank."""
        return tuple(self.offer(rank, offer, ranked, explain) for rank, offer in enumerate(ranked.offers, start=1))

    def offer(self, rank: int, offer: RankedOffer, ranked: RankedSlate, explain: Explain) -> Offer:
        """Return one offer of a slate, which stands at `rank`."""
        reason = self._reasons.of_offer(offer, ranked.segment)
        source = offer.from_product if offer.from_product != NO_ROW else reason.anchor
        price = None if math.isnan(offer.price) else offer.price
        rule, share, text = ranked.resolved.rules.annotations.get(offer.product, NO_ANNOTATION)
        ids = self._catalogue.ids
        return Offer(
            rank=rank,
            product_id=ids[offer.product],
            kind="cross_sell" if offer.from_product == NO_ROW else "upsell",
            name=self._model.products.names[offer.product] or None,
            price=price,
            currency=self._model.facts.currency,
            probability=offer.probability,
            probability_of="buys_within_horizon",
            expected_quantity=offer.quantity,
            expected_value=offer.expected_value,
            score=offer.utility,
            tier=TIERS[offer.tier],
            reason="" if explain == "none" else reason.sentence,
            from_product_id=None if source == NO_ROW else ids[source],
            evidence=reason.evidence if explain == "full" else {},
            rule=rule,
            discount=None if share is None or price is None else share * price,
            text=text,
        )
