"""The offer engine: one request in, one slate out; lookups and a merge, no model run."""

from __future__ import annotations

import math
from collections.abc import Sequence

from recsys.contracts.money import after_discount, round_money
from recsys.contracts.offers import (
    EMPTY_STATE,
    PROBABILITY_OF,
    AccountState,
    Explain,
    NameKind,
    Objective,
    Offer,
    OfferRequest,
    ProductChange,
    Slate,
)
from recsys.errors import ConfigError
from recsys.offer_catalogue.business_rules import BusinessRule
from recsys.offer_model.tables import EVERYONE, OfferModel
from recsys.ranking.active_rules import NO_ANNOTATION, ActiveRules, AppliedRules
from recsys.ranking.compiled_ranker import CompiledRanker
from recsys.ranking.config import RankingConfig
from recsys.ranking.explanations import Reasons
from recsys.ranking.kernel.layout import MOVERS, NO_ROW
from recsys.ranking.languages import Language
from recsys.ranking.live_catalogue import LiveCatalogue
from recsys.ranking.product_details import ProductDetails
from recsys.ranking.ranked import TIERS, Exploration, RankedOffer, RankedSlate, draw, widened


class OfferEngine:
    """Answers requests from one model, from any thread.

    Attributes:
        catalogue: takes changes of prices and flags while it runs.
        reasons: why each offer is made.
        details: names, addresses and attributes of products.
        rules: the business rules in force; None without any.
    """

    def __init__(self, model: OfferModel, config: RankingConfig | None = None) -> None:
        self.model = model
        self.config = config or RankingConfig()
        self.catalogue = LiveCatalogue(model)
        self.details = ProductDetails(model)
        self.reasons = Reasons(model, self.config.least_buyers, self.details)
        self.rules: ActiveRules | None = None
        self._ranker = CompiledRanker(model, self.catalogue, self.config)

    def apply(self, change: ProductChange) -> bool:
        """Put new values of a product in force; return whether the model knows the product."""
        return self.catalogue.apply(change)

    def use_rules(self, rules: Sequence[BusinessRule]) -> None:
        """Put business rules in force, and no other."""
        self.rules = ActiveRules(rules, self.model, self.catalogue) if rules else None

    def rank(
        self,
        request: OfferRequest,
        state: AccountState = EMPTY_STATE,
        exploration: Exploration | None = None,
        watched: int = NO_ROW,
    ) -> RankedSlate:
        """Return exactly `request.limit` offers as rows, or fewer and why.

        Args:
            request: who asks, and for what.
            state: what is known of the account beyond the bundle.
            exploration: how often the last offer is drawn from those below it; None: never.
            watched: row of a product of which it is asked what became of it.

        Raises:
            ConfigError: `limit` below 1, no kind, or `margin` where no product has a cost.
        """
        if request.limit < 1:
            raise ConfigError(f"limit == {request.limit}, must be 1 or more; ask for at least one offer")
        if not request.kinds:
            raise ConfigError("kinds is empty, must name at least one; give cross_sell, upsell or both")
        self.check_objective(request.objective)
        ranked = self._ranker.rank(request, state, self.rules, watched)
        if exploration is not None:
            wide = self._ranker.rank(widened(request), state, self.rules)
            drawn = draw(len(wide.offers), request.limit, exploration)
            if drawn is not None:
                return ranked.with_last(wide, drawn)
        return ranked

    def applied_rules(self, request: OfferRequest, state: AccountState = EMPTY_STATE) -> AppliedRules:
        """Return what the business rules in force do to a request."""
        return self._ranker.resolver.applied(self.rules, request, state)

    def recommend(
        self, request: OfferRequest, state: AccountState = EMPTY_STATE, exploration: Exploration | None = None
    ) -> Slate:
        """Return exactly `request.limit` offers, or fewer and why.

        Args:
            request: who asks, and for what.
            state: what is known of the account beyond the bundle.
            exploration: how often the last offer is drawn from those below it; None: never.

        Raises:
            ConfigError: as `rank`.
        """
        ranked = self.rank(request, state, exploration)
        language = self.reasons.language(request, ranked.account)
        return Slate(
            offers=tuple(
                self._offer(rank, offer, ranked, request.explain, language)
                for rank, offer in enumerate(ranked.offers, start=1)
            ),
            requested=request.limit,
            shortfall=ranked.shortfall,
            tier=TIERS[ranked.tier],
            objective=request.objective,
            horizon_days=self.model.facts.horizon_days,
            unknown_products=ranked.resolved.unknown_products,
            unknown_categories=ranked.resolved.unknown_categories,
            n_considered=ranked.n_considered,
            refused=ranked.refused,
            language=language.tag,
            mix=self.config.diversity.mix_of(request),
            variants=self.config.diversity.variants_of(request),
        )

    def _offer(self, rank: int, offer: RankedOffer, ranked: RankedSlate, explain: Explain, language: Language) -> Offer:
        price = None if math.isnan(offer.price) else offer.price
        currency = self.model.facts.currency
        rule, share, text = ranked.resolved.rules.annotations.get(offer.product, NO_ANNOTATION)
        discount, to_pay = (None, None) if share is None or price is None else after_discount(price, share, currency)
        difference = paid = self.price_difference(offer.price, offer.from_product, offer.quantity, ranked.segment)
        if to_pay is not None:
            paid = self.price_difference(to_pay, offer.from_product, offer.quantity, ranked.segment)
        reason, for_rep, for_shopper = self.reasons.spoken(offer, ranked.segment, language, paid)
        source = offer.from_product if offer.from_product != NO_ROW else reason.anchor
        ids, details = self.catalogue.ids, self.details.of(offer.product)
        return Offer(
            rank=rank,
            product_id=ids[offer.product],
            kind="cross_sell" if offer.from_product == NO_ROW else "upsell",
            name=self.details.name(offer.product, language.tag),
            price=price,
            currency=currency,
            probability=offer.probability,
            probability_of=PROBABILITY_OF,
            expected_quantity=offer.quantity,
            expected_value=offer.expected_value,
            score=offer.utility,
            tier=TIERS[offer.tier],
            reason="" if explain == "none" else for_rep,
            from_product_id=None if source == NO_ROW else ids[source],
            evidence=self.reasons.evidence(reason) if explain == "full" else {},
            rule=rule,
            discount=discount,
            text=text,
            reason_code=reason.code,
            reason_for_shopper="" if explain == "none" else for_shopper,
            from_product_name=None if source == NO_ROW else self.details.name(source, language.tag),
            url=details.url,
            image_url=details.image_url,
            attributes=details.attributes,
            price_breaks=self.catalogue.price_breaks(offer.product, ranked.segment),
            price_to_pay=to_pay,
            rank_probability=offer.rank_probability,
            boost=offer.boost,
            moved_by=MOVERS[offer.moved_by],
            price_difference=difference,
            propensity=ranked.last_propensity if rank == len(ranked.offers) else 1.0,
        )

    def price_difference(self, price: float, from_product: int, quantity: float, segment: int) -> float | None:
        """Return what a unit of an upgrade costs more, at `price`, than one of `from_product` at a quantity.

        None where a price is not known, and for a cross-sell, which displaces nothing.
        """
        if from_product == NO_ROW:
            return None
        difference = float(price) - self.catalogue.price_at(from_product, segment, quantity)
        return None if math.isnan(difference) else round_money(difference, self.model.facts.currency)

    def check_objective(self, objective: Objective) -> None:
        """Refuse `margin` where no product has a cost.

        Raises:
            ConfigError: says what is missing.
        """
        if objective == "margin" and self.catalogue.margin_rate is None:
            raise ConfigError(
                "objective == 'margin', but no product of this model has a cost; give a products table with `cost`, "
                "or use 'revenue' or 'conversion'"
            )

    def knows(self, kind: NameKind, name: str) -> bool:
        """Return whether the model has a product, a segment with a list of its own, or a category of that name."""
        resolver = self._ranker.resolver
        if kind == "product":
            return self.catalogue.row(name) >= 0
        return resolver.segment_row(name) != EVERYONE if kind == "segment" else name in resolver.categories
