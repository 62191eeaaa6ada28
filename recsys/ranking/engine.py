"""The offer engine: one request in, one slate out; lookups and a merge, no model run."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np
from pydantic import Field

from recsys.contracts.config import Config
from recsys.contracts.offers import Offer, OfferRequest, Slate, Tier
from recsys.errors import ConfigError
from recsys.ranking.combine import combine, in_this_order, noisy_or
from recsys.ranking.diversity import DiversityConfig, Picker
from recsys.ranking.model import EVERYONE, Float64, OfferModel
from recsys.ranking.pool import ACCOUNT, CART, POPULAR, RECENT, SEGMENT, TIERS, Pool, joined, member
from recsys.ranking.retrieval import account_pool, cart_pool, cart_upgrades, fallback_pool, repeat_rate
from recsys.ranking.sentences import CartReasons, Reason, Reasons
from recsys.ranking.shortfall import SILENT, shortfall_sentence
from recsys.ranking.situation import Lookup, Situation
from recsys.ranking.state import NOTHING_NEW, AccountState, LiveCatalogue
from recsys.ranking.value import check_objective, credible, raw_order, unit_worth, value_order


class RankingConfig(Config):
    """How candidates become a slate.

    Attributes:
        min_probability: below it an offer is not credible and is not made: one in ten thousand wastes a slot.
        relevance_floor: share of the best probability of its kind that a candidate must reach to be ranked by value;
            those below come after all that reach it, so that a high price alone never leads a slate.
        repeat_weight: share of an account's repeat rate that speaks for a product of the cart; what comes back anyway
            needs no offer: 0.3 lifts repeats in cart completion and takes little from what is new.
        repeat_prior_orders: orders that an account's repeat rate is shrunk by.
        recent_purchases: the latest purchases that stand for the account where the bundle does not know it.
        least_buyers: a reason that rests on fewer is not spoken.
        diversity: how alike the offers of one slate may be.
    """

    min_probability: float = Field(default=1e-4, ge=0, lt=1)
    relevance_floor: float = Field(default=0.1, ge=0, le=1)
    repeat_weight: float = Field(default=0.3, ge=0, le=1)
    repeat_prior_orders: float = Field(default=2.0, gt=0)
    recent_purchases: int = Field(default=10, ge=1)
    least_buyers: int = Field(default=5, ge=5)
    diversity: DiversityConfig = DiversityConfig()


@dataclass(frozen=True, slots=True)
class _Ranked:
    """Eligible candidates in order, before the slate is picked."""

    pool: Pool
    worth: Float64
    value: Float64
    n_considered: int
    barred: dict[str, int]


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


class OfferEngine:
    """Answers requests from one model; `catalogue` takes changes of prices and flags while it runs."""

    def __init__(self, model: OfferModel, config: RankingConfig | None = None) -> None:
        self.model = model
        self.config = config or RankingConfig()
        self.catalogue = LiveCatalogue(model)
        self._lookup = Lookup(model, self.catalogue, self.config.recent_purchases)
        self._reasons = Reasons(model, self.config.least_buyers)

    def recommend(self, request: OfferRequest, state: AccountState = NOTHING_NEW) -> Slate:
        """Return exactly `request.limit` offers, or fewer and why.

        Args:
            request: who asks, and for what.
            state: what is known of the account beyond the bundle.

        Raises:
            ConfigError: `limit` below 1, no kind, or `margin` where no product has a cost.
        """
        self._check(request)
        situation = self._lookup.situation(request, state)
        picker = self._picker(request, situation)
        offers: list[Offer] = []
        barred: Counter[str] = Counter()
        n_considered = 0
        for pool in self._stages(request, situation):
            ranked = self._rank(pool, request, situation)
            offers += self._offers(picker, ranked, request, situation, len(offers))
            barred.update(ranked.barred)
            n_considered += ranked.n_considered
            if len(offers) >= request.limit:
                break
        barred.update(picker.dropped.values())
        missing = shortfall_sentence(request.limit, len(offers), n_considered, barred)
        return Slate(
            offers=tuple(offers),
            requested=request.limit,
            shortfall=SILENT if situation.silent else missing,
            tier=self._tier(offers, situation),
            objective=request.objective,
            horizon_days=self.model.facts.horizon_days,
            unknown_products=situation.unknown,
            n_considered=n_considered,
        )

    def _check(self, request: OfferRequest) -> None:
        if request.limit < 1:
            raise ConfigError(f"limit == {request.limit}, must be 1 or more; ask for at least one offer")
        if not request.kinds:
            raise ConfigError("kinds is empty, must name at least one; give cross_sell, upsell or both")
        check_objective(request.objective, self.catalogue)

    def _picker(self, request: OfferRequest, situation: Situation) -> Picker:
        picker = Picker(self.model, self.config.diversity, diverse=not request.raw, mixed=len(request.kinds) > 1)
        picker.stand_beside(situation.cart)
        return picker

    def _stages(self, request: OfferRequest, situation: Situation) -> Iterator[Pool]:
        """Yield the candidates, the best evidence first; a later stage only fills what an earlier one left open."""
        if situation.silent:
            return
        yield self._evidence_pool(request, situation)
        if "cross_sell" in request.kinds:
            if situation.segment != EVERYONE:
                yield fallback_pool(self.model, situation.segment)
            yield fallback_pool(self.model, EVERYONE)

    def _evidence_pool(self, request: OfferRequest, situation: Situation) -> Pool:
        """Return what the account, its latest purchases and the cart speak for."""
        own = account_pool(self.model, situation.account)
        climbs = own.from_product >= 0
        upgrades, crosses = own.take(climbs), own.take(~climbs)
        if situation.recent:
            crosses = cart_pool(self.model, situation.recent, RECENT)
        if situation.cart:
            crosses, upgrades = self._beside_cart(crosses, upgrades, situation)
        pools = {"cross_sell": crosses, "upsell": upgrades}
        return joined([pools[kind] for kind in dict.fromkeys(request.kinds)])

    def _beside_cart(self, crosses: Pool, upgrades: Pool, situation: Situation) -> tuple[Pool, Pool]:
        """Return the candidates of both kinds after the cart was heard."""
        account = situation.account
        cart = cart_pool(self.model, situation.cart, CART)
        of_cart = cart_upgrades(self.model, situation.cart, situation.quantities, upgrades, CART)
        upgrades = upgrades.take(~member(upgrades.from_product, situation.barriers.in_cart))
        if account >= 0:
            cart = self._with_repeats(cart, account)
            orders = float(self.model.accounts.orders_in_horizon[account])
            crosses, upgrades = in_this_order(crosses, orders), in_this_order(upgrades, orders)
        return combine(crosses, cart), joined([of_cart, upgrades])

    def _with_repeats(self, cart: Pool, account: int) -> Pool:
        repeats = repeat_rate(self.model, account, cart.product, self.config.repeat_prior_orders)
        probability = noisy_or(cart.probability, self.config.repeat_weight * repeats)
        return replace(cart, probability=probability, chance=probability, score=probability)

    def _rank(self, pool: Pool, request: OfferRequest, situation: Situation) -> _Ranked:
        """Return the candidates that may be offered, in order."""
        keep, barred = situation.barriers.eligible(pool, self.catalogue)
        gain = unit_worth(pool, request.objective, self.catalogue)
        value = pool.probability * gain
        if not request.raw:
            for name, bars in self._floors(pool, value, request):
                barred[name] = int(np.count_nonzero(bars & keep))
                keep &= ~bars
        n_considered = len(pool)
        pool, value, gain = pool.take(keep), value[keep], gain[keep]
        worth = pool.chance if request.objective == "conversion" else pool.chance * gain
        if request.raw:
            worth, order = pool.score, raw_order(pool)
        else:
            order = value_order(pool, worth, credible(pool, self.config.relevance_floor))
        return _Ranked(pool.take(order), worth[order], value[order], n_considered, barred)

    def _floors(self, pool: Pool, value: Float64, request: OfferRequest) -> Iterator[tuple[str, np.ndarray]]:
        yield "not_credible", pool.probability < self.config.min_probability
        if request.objective != "conversion":
            yield "worth_less", (pool.from_product >= 0) & (value <= 0)

    def _offers(
        self, picker: Picker, ranked: _Ranked, request: OfferRequest, situation: Situation, n_before: int
    ) -> list[Offer]:
        pool = ranked.pool
        taken = picker.pick(pool.product, pool.from_product >= 0, ranked.worth, request.limit - n_before)
        picked = pool.take(np.array(taken, dtype=np.intp))
        rows = zip(
            *(getattr(picked, field.name).tolist() for field in fields(Pool)),
            ranked.value[taken].tolist(),
            ranked.worth[taken].tolist(),
            strict=True,
        )
        spoken = self._reasons.beside(situation.cart), self._reasons.beside(situation.recent)
        return [
            self._offer(_Picked(*row), rank, request, situation.segment, *spoken)
            for rank, row in enumerate(rows, start=n_before + 1)
        ]

    def _offer(
        self, row: _Picked, rank: int, request: OfferRequest, segment: int, cart: CartReasons, recent: CartReasons
    ) -> Offer:
        reason = self._reason(row, segment, cart, recent)
        origin = row.from_product if row.from_product >= 0 else reason.anchor
        price = float(self.catalogue.price[row.product])
        ids = self.catalogue.ids
        return Offer(
            rank=rank,
            product_id=ids[row.product],
            kind="upsell" if row.from_product >= 0 else "cross_sell",
            name=self.model.products.names[row.product] or None,
            price=None if math.isnan(price) else price,
            currency=self.model.facts.currency,
            probability=row.probability,
            probability_of="buys_within_horizon",
            expected_quantity=row.quantity,
            expected_value=row.value,
            score=row.worth,
            tier=TIERS[row.tier],
            reason="" if request.explain == "none" else reason.sentence,
            from_product_id=ids[origin] if origin >= 0 else None,
            evidence=reason.evidence if request.explain == "full" else {},
        )

    def _reason(self, row: _Picked, segment: int, cart: CartReasons, recent: CartReasons) -> Reason:
        climbs = row.from_product >= 0
        if row.tier in (SEGMENT, POPULAR):
            return self._reasons.of_fallback(row.evidence, segment if row.tier == SEGMENT else EVERYONE)
        if row.tier in (CART, RECENT) and not climbs:
            spoken = (cart if row.tier == CART else recent).reason(row.product)
            if spoken is not None:
                return spoken
        if row.evidence >= 0:
            return self._reasons.of_evidence(row.evidence, climbs=climbs)
        return self._reasons.of_popularity(row.product)

    def _tier(self, offers: list[Offer], situation: Situation) -> Tier:
        """Return the best evidence among the offers; without any, what would have been asked first."""
        if offers:
            return TIERS[min(TIERS.index(offer.tier) for offer in offers)]
        if situation.account >= 0:
            return TIERS[ACCOUNT]
        return TIERS[RECENT if situation.recent else CART if situation.cart else POPULAR]
