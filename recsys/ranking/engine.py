"""The offer engine: one request in, one slate out; lookups and a merge, no model run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recsys.contracts.config import Config
from recsys.contracts.offers import EMPTY_STATE, AccountState, NameKind, Offer, OfferRequest, ProductChange, Slate, Tier
from recsys.errors import ConfigError
from recsys.offer_catalogue.business_rules import BusinessRule
from recsys.offer_model.tables import EVERYONE, Bool, Float64, OfferModel
from recsys.ranking.active_rules import ActiveRules, AppliedRules
from recsys.ranking.combine import combine, in_this_order, noisy_or
from recsys.ranking.diversity import DiversityConfig, Picker
from recsys.ranking.eligibility import BLOCKED_BY_RULE, CHANGING, RULE_PREFIX
from recsys.ranking.explanations import shortfall_sentence
from recsys.ranking.kernel import TIER_ACCOUNT, TIER_CART, TIER_POPULAR, TIER_RECENT
from recsys.ranking.live_catalogue import LiveCatalogue
from recsys.ranking.offer_builder import Offering
from recsys.ranking.pool import TIERS, Pool, joined, member
from recsys.ranking.request import RequestResolver, ResolvedRequest
from recsys.ranking.retrieval import account_pool, cart_pool, cart_upgrades, fallback_pool, order_pool, repeat_rate
from recsys.ranking.value import check_objective, credible, raw_order, unit_worth, value_order


class RankingConfig(Config):
    """How candidates become a slate.

    Attributes:
        min_probability: below it an offer is not credible and is not made: one in ten thousand wastes a slot.
        relevance_floor: share of the best probability of its kind that a candidate must reach to be ranked by value;
            those below come after all that reach it, so that a high price alone never leads a slate.
        repeat_weight: share of an account's repeat rate that speaks for a product of the cart; what comes back anyway
            needs no offer: 0.3 lifts repeats in cart completion and takes little from what is new.
        repeat_prior_orders: orders that an account's repeat rate is shrunk by; one or two complete real carts best,
            five and more do worse.
        recent_purchases: the latest purchases that stand for the account where the bundle does not know it.
        least_buyers: a reason that rests on fewer is not spoken.
        diversity: how alike the offers of one slate may be.
    """

    min_probability: float = Field(default=1e-4, ge=0, lt=1)
    relevance_floor: float = Field(default=0.1, ge=0, le=1)
    repeat_weight: float = Field(default=0.3, ge=0, le=1)
    repeat_prior_orders: float = Field(default=2.0, gt=0, le=1e6)
    recent_purchases: int = Field(default=10, ge=1, le=1_000)
    least_buyers: int = Field(default=5, ge=5, le=1_000_000)
    diversity: DiversityConfig = DiversityConfig()


@dataclass(frozen=True, slots=True)
class Ranked:
    """Eligible candidates and their order, before the slate is picked; `worth` is in that order."""

    pool: Pool
    order: NDArray[np.intp]
    worth: Float64
    n_considered: int
    barred: dict[str, int]


class OfferEngine:
    """Answers requests from one model; `catalogue` takes changes of prices and flags while it runs."""

    def __init__(self, model: OfferModel, config: RankingConfig | None = None) -> None:
        self.model = model
        self.config = config or RankingConfig()
        self.catalogue = LiveCatalogue(model)
        self._lookup = RequestResolver(model, self.catalogue, self.config.recent_purchases)
        self._offering = Offering(model, self.catalogue, self.config.least_buyers)
        self.rules: ActiveRules | None = None

    def apply(self, change: ProductChange) -> bool:
        """Put new values of a product in force; return whether the model knows the product."""
        return self.catalogue.apply(change)

    def use_rules(self, rules: Sequence[BusinessRule]) -> None:
        """Put business rules in force, and no other."""
        self.rules = ActiveRules(rules, self.model, self.catalogue) if rules else None

    def recommend(self, request: OfferRequest, state: AccountState = EMPTY_STATE) -> Slate:
        """Return exactly `request.limit` offers, or fewer and why.

        Args:
            request: who asks, and for what.
            state: what is known of the account beyond the bundle.

        Raises:
            ConfigError: `limit` below 1, no kind, or `margin` where no product has a cost.
        """
        self._check(request)
        situation = self.situation(request, state)
        picker = self.picker(request, situation)
        offers: list[Offer] = []
        barred: Counter[str] = Counter()
        refused: dict[int, str] = {}
        n_considered = 0
        for pool in self.stages(request, situation):
            ranked = self.rank(pool, request, situation)
            taken = self.pick(picker, ranked, request.limit - len(offers))
            picked = ranked.pool.take(ranked.order[taken])
            offers += self._offering.offers(picked, ranked.worth[taken], request, situation, len(offers))
            barred.update(ranked.barred)
            if not CHANGING.isdisjoint(ranked.barred):
                refused |= situation.barriers.changing(pool, self.catalogue)
            n_considered += ranked.n_considered
            if len(offers) >= request.limit:
                break
        barred.update(picker.dropped.values())
        missing = shortfall_sentence(request.limit, len(offers), n_considered, barred)
        return Slate(
            offers=tuple(offers),
            requested=request.limit,
            shortfall=situation.silent or missing,
            tier=self._tier(offers, situation),
            objective=request.objective,
            horizon_days=self.model.facts.horizon_days,
            unknown_products=situation.unknown,
            unknown_categories=situation.unknown_categories,
            n_considered=n_considered,
            refused=self._spoken(refused, situation),
        )

    def knows(self, kind: NameKind, name: str) -> bool:
        """Return whether the model has a product, a segment with a list of its own, or a category of that name."""
        if kind == "product":
            return self.catalogue.row(name) >= 0
        return self._lookup.segment_row(name) != EVERYONE if kind == "segment" else name in self._lookup.categories

    def segment_row(self, name: str) -> int:
        """Return the row of a segment, `EVERYONE` for one that the model does not know."""
        return self._lookup.segment_row(name)

    def situation(self, request: OfferRequest, state: AccountState) -> ResolvedRequest:
        """Return what a request is about."""
        return self._lookup.situation(request, state, self.rules)

    def _spoken(self, refused: dict[int, str], situation: ResolvedRequest) -> dict[str, str]:
        """Return refused products by id; a business rule is named."""
        blocking = {} if situation.effect is None else situation.effect.blocking
        ids = self.catalogue.ids
        return {
            ids[row]: f"{RULE_PREFIX}{blocking[row]}" if name == BLOCKED_BY_RULE else name
            for row, name in refused.items()
        }

    def _check(self, request: OfferRequest) -> None:
        if request.limit < 1:
            raise ConfigError(f"limit == {request.limit}, must be 1 or more; ask for at least one offer")
        if not request.kinds:
            raise ConfigError("kinds is empty, must name at least one; give cross_sell, upsell or both")
        check_objective(request.objective, self.catalogue)

    def picker(self, request: OfferRequest, situation: ResolvedRequest) -> Picker:
        """Return what picks the slate of one request."""
        picker = Picker(self.model, self.config.diversity, diverse=not request.raw, mixed=len(request.kinds) > 1)
        picker.stand_beside(situation.cart)
        if situation.effect is not None:
            picker.stand_by(situation.effect.places)
        return picker

    def pick(self, picker: Picker, ranked: Ranked, n: int) -> list[int]:
        """Return the positions of up to `n` more offers in the order of `ranked`."""
        products, lower = ranked.pool.product[ranked.order], ranked.pool.from_product[ranked.order]
        return picker.pick(products, lower >= 0, ranked.worth, n)

    def stages(self, request: OfferRequest, situation: ResolvedRequest) -> Iterator[Pool]:
        """Yield the candidates, the best evidence first; a later stage only fills what an earlier one left open."""
        if situation.silent:
            return
        pins = self._pins(request, situation)
        for pool in self._sources(request, situation):
            if pins is None:
                yield pool
            elif len(pool):
                yield joined([pool, pins.take(~np.isin(pins.product, pool.product))])
        if pins is not None:
            yield pins

    def _sources(self, request: OfferRequest, situation: ResolvedRequest) -> Iterator[Pool]:
        if request.sources != "popular":
            pool = self._evidence_pool(request, situation)
            yield self._offering.spoken_for(pool, situation.cart) if request.sources == "evidence" else pool
        if "cross_sell" in request.kinds and request.sources != "evidence":
            if request.sources != "popular" and situation.segment != EVERYONE:
                yield fallback_pool(self.model, situation.segment)
            yield fallback_pool(self.model, EVERYONE)

    def _pins(self, request: OfferRequest, situation: ResolvedRequest) -> Pool | None:
        """Return what business rules make a candidate: at the chance that any order holds it."""
        effect = situation.effect
        if effect is None or not len(effect.pinned) or "cross_sell" not in request.kinds:
            return None
        return order_pool(self.model, effect.pinned, TIER_POPULAR)

    def _evidence_pool(self, request: OfferRequest, situation: ResolvedRequest) -> Pool:
        """Return what the account, its latest purchases and the cart speak for."""
        own = account_pool(self.model, situation.account)
        n_crosses = len(own) - int(np.count_nonzero(own.from_product >= 0))  # which stand first
        crosses, upgrades = own.part(0, n_crosses), own.part(n_crosses, len(own))
        if situation.recent:
            crosses = cart_pool(self.model, situation.recent, TIER_RECENT)
        if situation.cart:
            crosses, upgrades = self._beside_cart(crosses, upgrades, situation)
        pools = {"cross_sell": crosses, "upsell": upgrades}
        return joined([pools[kind] for kind in dict.fromkeys(request.kinds)])

    def _beside_cart(self, crosses: Pool, upgrades: Pool, situation: ResolvedRequest) -> tuple[Pool, Pool]:
        """Return the candidates of both kinds after the cart was heard."""
        account = situation.account
        cart = cart_pool(self.model, situation.cart, TIER_CART)
        of_cart = cart_upgrades(self.model, situation.cart, situation.quantities, upgrades, TIER_CART)
        if len(upgrades):
            upgrades = upgrades.take(~member(upgrades.from_product, situation.barriers.in_cart))
        if account >= 0:
            cart = self._with_repeats(cart, account)
            orders = float(self.model.accounts.orders_in_horizon[account])
            crosses, upgrades = in_this_order(crosses, orders), in_this_order(upgrades, orders)
        return combine(crosses, cart), joined([of_cart, upgrades])

    def _with_repeats(self, cart: Pool, account: int) -> Pool:
        repeats = repeat_rate(self.model, account, cart.product, self.config.repeat_prior_orders)
        lifted = noisy_or(cart.probability, self.config.repeat_weight * repeats)
        probability = np.where(repeats > 0, lifted, cart.probability)  # `1 - (1 - p)` would lose its last bits
        return cart.ranked_by(probability, probability)

    def rank(self, pool: Pool, request: OfferRequest, situation: ResolvedRequest) -> Ranked:
        """Return the candidates that may be offered, and their order."""
        n_considered, effect = len(pool), situation.effect
        keep, barred = situation.barriers.eligible(pool, self.catalogue)
        if not request.raw:
            for name, bars in self.floors(pool, request, effect):
                barred[name] = int(np.count_nonzero(bars & keep))
                keep &= ~bars
        pool = pool.take(keep.nonzero()[0])
        if effect is not None and len(effect.boosted):
            pool = pool.ranked_by(pool.chance * effect.boost(pool.product), pool.probability)
        worth = pool.chance
        if request.raw:
            worth, order = pool.score, raw_order(pool)
        else:
            if request.objective != "conversion":
                worth = worth * self._unit_worth(pool, request, effect)
            order = value_order(pool, worth, credible(pool, self.config.relevance_floor))
        return Ranked(pool, order, worth[order], n_considered, barred)

    def _unit_worth(self, pool: Pool, request: OfferRequest, effect: AppliedRules | None) -> Float64:
        discount = None if effect is None or not len(effect.discounted) else effect.discount(pool.product)
        return unit_worth(pool, request.objective, self.catalogue, discount)

    def floors(self, pool: Pool, request: OfferRequest, effect: AppliedRules | None) -> Iterator[tuple[str, Bool]]:
        """Yield which candidates are too faint, or worth less than what they displace."""
        faint = pool.probability < self.config.min_probability
        if effect is not None and len(effect.pinned):
            faint &= ~member(pool.product, effect.pinned)
        if faint.any():
            yield "not_credible", faint
        if request.objective != "conversion":
            value = pool.probability * self._unit_worth(pool, request, effect)
            yield "worth_less", (pool.from_product >= 0) & (value <= 0)

    def _tier(self, offers: list[Offer], situation: ResolvedRequest) -> Tier:
        """Return the best evidence among the offers; without any, what would have been asked first."""
        if offers:
            return TIERS[min(TIERS.index(offer.tier) for offer in offers)]
        if situation.account >= 0:
            return TIERS[TIER_ACCOUNT]
        return TIERS[TIER_RECENT if situation.recent else TIER_CART if situation.cart else TIER_POPULAR]
