"""The ranking written plainly, an array operation for each step: the oracle of the compiled ranking.

It answers from the same engine, so from the same catalogue and the same business rules in force.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recsys.contracts.offers import EMPTY_STATE, AccountState, OfferRequest
from recsys.offer_model.tables import EVERYONE, Bool, Float64, Int32, owned_by
from recsys.ranking.active_rules import NO_RULES, RULE_PREFIX, AppliedRules, segment_name
from recsys.ranking.engine import OfferEngine
from recsys.ranking.explanations import OPTED_OUT_SENTENCE, shortfall_sentence
from recsys.ranking.kernel.layout import (
    BY_RELEVANCE,
    BY_RULE,
    NO_ROW,
    NOT_MOVED,
    TIER_ACCOUNT,
    TIER_CART,
    TIER_POPULAR,
    TIER_RECENT,
)
from recsys.ranking.ranked import RankedOffer
from tests.support.reference_ranker.bought_before import as_bought_before
from tests.support.reference_ranker.candidates import (
    Pool,
    account_pool,
    boosts,
    cart_pool,
    cart_upgrades,
    combine,
    fallback_pool,
    habitual,
    has_crosses,
    in_this_order,
    joined,
    member,
    noisy_or,
    one_chance,
    order_pool,
    raised,
    repeat_rate,
)
from tests.support.reference_ranker.filters import BLOCKED_BY_RULE, CHANGING, NO_ROWS, Barriers, Bounds, prices_of
from tests.support.reference_ranker.order import brings_more, credible, raw_order, unit_worth, value_order
from tests.support.reference_ranker.picker import Picker, Slot


@dataclass(frozen=True, slots=True)
class Situation:
    """What one request is about: rows of the account, the cart and what is ruled out."""

    account: int
    segment: int
    cart: list[int]
    quantities: list[float]
    recent: list[int]
    barriers: Barriers
    opted_out: str | None
    rules: AppliedRules
    n_lines: int

    def column(self, name: str) -> NDArray[np.int32]:
        """Return rows of products that business rules name."""
        return self.rules.columns.arrays[name]

    def by_product(self, products: Int32, rows: str, values: str, default: float) -> Float64:
        """Return what business rules say of each product."""
        said = dict(zip(self.column(rows).tolist(), self.column(values).tolist(), strict=True))
        return np.array([said.get(product, default) for product in products.tolist()], dtype=np.float64)

    def slots(self) -> list[Slot]:
        """Return the ranks that business rules speak of."""
        products = self.column("slot_products").tolist()
        return [
            Slot(rank, frozenset(products[begin:end]), bool(or_before))
            for rank, begin, end, or_before in self.column("slots").tolist()
        ]


@dataclass(frozen=True, slots=True)
class Ranked:
    """Eligible candidates and their order, before the slate is picked; the last columns are in that order."""

    pool: Pool
    order: NDArray[np.intp]
    worth: Float64
    unboosted: Float64
    boost: Float64
    relevant: Bool
    n_considered: int
    removed: dict[str, int]


@dataclass(frozen=True, slots=True)
class ReferenceSlate:
    """The fields of `RankedSlate` that the oracle works out."""

    offers: list[RankedOffer]
    account: int
    segment: int
    tier: int
    shortfall: str | None
    is_opted_out: bool
    n_considered: int
    refused: dict[str, str]


class ReferenceRanker:
    """Ranks what `engine` ranks."""

    def __init__(self, engine: OfferEngine) -> None:
        self.engine = engine
        self.model = engine.model

    def rank(self, request: OfferRequest, state: AccountState = EMPTY_STATE) -> ReferenceSlate:
        """Return the ranked answer to one request."""
        situation = self.situation(request, state)
        picker = self.picker(request, situation)
        offers: list[RankedOffer] = []
        removed: Counter[str] = Counter()
        refused: dict[int, str] = {}
        n_considered = 0
        for pool in self.stages(request, situation):
            ranked = self.order(pool, request, situation)
            taken = self.pick(picker, ranked, request.limit - len(offers))
            offers += self._offers(ranked, taken, picker.moved[len(offers) :], request, situation)
            removed.update(ranked.removed)
            if not CHANGING.isdisjoint(ranked.removed):
                refused |= situation.barriers.changing(pool, self.engine.catalogue)
            n_considered += ranked.n_considered
            if len(offers) >= request.limit:
                break
        removed.update(picker.dropped.values())
        missing = shortfall_sentence(request.limit, len(offers), n_considered, removed)
        return ReferenceSlate(
            offers,
            situation.account,
            situation.segment,
            self._tier(offers, situation),
            situation.opted_out or missing,
            situation.opted_out is not None,
            n_considered,
            self._named(refused, situation),
        )

    def situation(self, request: OfferRequest, state: AccountState) -> Situation:
        """Return what a request is about."""
        model, row = self.model, self.engine.catalogue.row
        known = request.account_id is not None and not state.is_forgotten
        account = model.accounts.ids.find(request.account_id) if known and request.account_id is not None else NO_ROW
        cart: dict[int, float] = {}
        for line in request.cart:
            if row(line.product_id) >= 0:
                cart[row(line.product_id)] = cart.get(row(line.product_id), 0.0) + line.quantity
        if request.viewed_product_id is not None and row(request.viewed_product_id) >= 0:
            cart.setdefault(row(request.viewed_product_id), 1.0)
        named = {request.viewed_product_id, *(line.product_id for line in request.cart)} - {None}
        n_lines = len(cart) + sum(row(name) < 0 for name in named if name is not None)
        bought = self._known(state.bought)
        speaking = bought if account < 0 or not has_crosses(model, account) else []
        if account >= 0 and not has_crosses(model, account):
            speaking = [*bought, *habitual(model, account)]
        recent = [product for product in dict.fromkeys(speaking) if product not in cart]
        segment = int(model.accounts.segment[account]) if account >= 0 else EVERYONE
        name = segment_name(model, segment)
        if state.segment is not None:
            names = {name: number for number, name in enumerate(model.segments.names) if number != EVERYONE}
            segment, name = names.get(state.segment, EVERYONE), state.segment
        rules = NO_RULES
        if self.engine.rules is not None and not request.raw:
            rules = self.engine.rules.applied(name, request.region or state.region, request.channel, request.surface)
        of_model = account >= 0 and bool(model.accounts.do_not_offer[account])
        wants_none = of_model if state.do_not_offer is None else state.do_not_offer
        barriers = Barriers(
            in_cart=_sorted(list(cart)),
            excluded=_sorted(self._known(request.exclude)),
            suppressed=_sorted(self._known(state.suppressed)),
            owned=self._owned(account, bought, rules_out=not n_lines or request.new_only, ever=request.new_only),
            new_only=request.new_only,
            blocked=rules.columns.arrays["blocked"],
            bounds=self._bounds(request, segment),
        )
        return Situation(
            account,
            segment,
            list(cart),
            list(cart.values()),
            recent[: self.engine.config.recent_purchases],
            barriers,
            OPTED_OUT_SENTENCE if wants_none else state.opt_out_reason,
            rules,
            n_lines or (len(state.bought) if account < 0 else 0),
        )

    def _owned(self, account: int, bought: list[int], *, rules_out: bool, ever: bool) -> Int32:
        if not rules_out:
            return NO_ROWS
        owned = NO_ROWS if account < 0 else owned_by(self.model, account, ever=ever)
        return np.union1d(owned, np.array(bought, dtype=np.int32)) if bought else owned

    def _bounds(self, request: OfferRequest, segment: int) -> Bounds | None:
        if not request.categories and request.min_price is None and request.max_price is None:
            return None
        codes = {name: code for code, name in enumerate(self.model.categories.names)}
        wanted = _sorted([codes[name] for name in set(request.categories) & codes.keys()])
        categories = wanted if request.categories else None
        return Bounds(self.model.products.category, categories, request.min_price, request.max_price, segment)

    def _known(self, product_ids: Iterable[str]) -> list[int]:
        return [row for row in map(self.engine.catalogue.row, product_ids) if row >= 0]

    def picker(self, request: OfferRequest, situation: Situation) -> Picker:
        """Return what picks the slate of one request."""
        diversity, mixed = self.engine.config.diversity, len(set(request.kinds)) > 1
        picker = Picker(
            self.model,
            diversity,
            diverse=not request.raw,
            mixed=mixed,
            mix=request.mix or diversity.mix,
            leaves_variants_out=(request.variants or diversity.variants) == "leave_out",
        )
        picker.stand_beside(situation.cart)
        picker.stand_by(situation.slots())
        return picker

    def pick(self, picker: Picker, ranked: Ranked, n: int) -> list[int]:
        """Return the positions of up to `n` more offers in the order of `ranked`."""
        products, lower = ranked.pool.product[ranked.order], ranked.pool.from_product[ranked.order]
        return picker.pick(products, lower >= 0, ranked.worth, n)

    def stages(self, request: OfferRequest, situation: Situation) -> Iterator[Pool]:
        """Yield the candidates, the best evidence first; a later stage only fills what an earlier one left open."""
        if situation.opted_out is not None:
            return
        pinned = situation.column("pinned") if "cross_sell" in request.kinds else NO_ROWS
        pins = order_pool(self.model, pinned, TIER_POPULAR)
        for pool in self._sources(request, situation):
            if len(pool):
                yield joined([pool, pins.take(~np.isin(pins.product, pool.product))])
        yield pins

    def _sources(self, request: OfferRequest, situation: Situation) -> Iterator[Pool]:
        if request.sources != "popular":
            pool = self._evidence_pool(request, situation)
            yield self._explained(pool, situation.cart) if request.sources == "evidence" else pool
        if "cross_sell" in request.kinds and request.sources != "evidence":
            if request.sources != "popular" and situation.segment != EVERYONE:
                yield fallback_pool(self.model, situation.segment, situation.n_lines)
            yield fallback_pool(self.model, EVERYONE, situation.n_lines)

    def _explained(self, pool: Pool, cart: Sequence[int]) -> Pool:
        rows = zip(pool.product.tolist(), pool.from_product.tolist(), strict=True)
        kept = [lower >= 0 or self._rule(product, cart)[0] >= 0 for product, lower in rows]
        return pool.take(np.flatnonzero(kept))

    def _evidence_pool(self, request: OfferRequest, situation: Situation) -> Pool:
        """Return what the account, its latest purchases and the cart speak for."""
        own = account_pool(self.model, situation.account)
        n_crosses = len(own) - int(np.count_nonzero(own.from_product >= 0))  # which stand first
        crosses, upgrades = own.part(0, n_crosses), own.part(n_crosses, len(own))
        if situation.recent:
            crosses, _ = cart_pool(self.model, situation.recent, TIER_RECENT)
        placed = upgrades
        if situation.n_lines and situation.account >= 0:  # an order is placed, whatever is in it
            orders = float(self.model.accounts.orders_in_horizon[situation.account])
            crosses, placed = in_this_order(crosses, orders), in_this_order(upgrades, orders)
        if situation.cart:
            crosses, placed = self._beside_cart(crosses, upgrades, placed, situation)
        n_lines = situation.n_lines if situation.cart else 0
        crosses, upgrades = one_chance(self.model, crosses, placed, situation.segment, n_lines)
        if len(set(request.kinds)) > 1 and not request.raw:
            dearer = upgrades.product[self._brings_more(upgrades, request, situation)]
            crosses = crosses.take(~np.isin(crosses.product, dearer))
        pools = {"cross_sell": crosses, "upsell": upgrades}
        return joined([pools[kind] for kind in dict.fromkeys(request.kinds)])

    def _brings_more(self, upgrades: Pool, request: OfferRequest, situation: Situation) -> Bool:
        discount = situation.by_product(upgrades.product, "discounted", "shares", 0.0)
        return brings_more(upgrades, request.objective, self.engine.catalogue, situation.segment, discount)

    def _beside_cart(self, crosses: Pool, upgrades: Pool, placed: Pool, situation: Situation) -> tuple[Pool, Pool]:
        """Return the candidates of both kinds after the cart was heard; `placed`: upgrades as of one order more."""
        account = situation.account
        cart, score = cart_pool(self.model, situation.cart, TIER_CART)
        of_cart = cart_upgrades(self.model, situation.cart, situation.quantities, upgrades, TIER_CART)
        placed = placed.take(~member(placed.from_product, situation.barriers.in_cart))
        if account >= 0:
            repeats = repeat_rate(self.model, account, cart.product, self.engine.config.repeat_prior_orders)
            lifted = noisy_or(cart.probability, self.engine.config.repeat_weight * repeats)
            probability = np.where(repeats > 0, lifted, cart.probability)  # `1 - (1 - p)` would lose its last bits
            cart = cart.ranked_by(probability, probability)
            cart = cart.ranked_by(probability, as_bought_before(self.model, account, cart, score, len(situation.cart)))
        cart = raised(self.model, cart, score, situation.segment)
        return combine(crosses, cart), joined([of_cart, placed])

    def order(self, pool: Pool, request: OfferRequest, situation: Situation) -> Ranked:
        """Return the candidates that may be offered, and their order."""
        n_considered = len(pool)
        keep, removed = situation.barriers.eligible(pool, self.engine.catalogue)
        if not request.raw:
            for name, bars in self.floors(pool, request, situation):
                removed[name] = int(np.count_nonzero(bars & keep))
                keep &= ~bars
        pool = pool.take(keep.nonzero()[0])
        unboosted, boost = pool.chance, np.ones(len(pool))
        if len(situation.column("boosted")):
            boost = situation.by_product(pool.product, "boosted", "factors", 1.0)
            pool = pool.ranked_by(pool.chance * boost, pool.probability)
        if not request.raw and (situation.cart or not situation.n_lines):
            boost = boost * boosts(self.model, pool, situation.cart, self.engine.config)
            pool = replace(pool, chance=unboosted * boost)
        worth, relevant = pool.chance, np.ones(len(pool), dtype=bool)
        if request.raw:
            worth, order = pool.score, raw_order(pool)
        else:
            if request.objective != "conversion":
                worth = worth * self._unit_worth(pool, request, situation)
            relevant = credible(pool, self.engine.config.relevance_floor, request.objective)
            order = value_order(pool, worth, relevant)
        return Ranked(pool, order, worth[order], unboosted[order], boost[order], relevant[order], n_considered, removed)

    def _unit_worth(self, pool: Pool, request: OfferRequest, situation: Situation) -> Float64:
        discount = situation.by_product(pool.product, "discounted", "shares", 0.0)
        return unit_worth(pool, request.objective, self.engine.catalogue, situation.segment, discount)

    def floors(self, pool: Pool, request: OfferRequest, situation: Situation) -> Iterator[tuple[str, Bool]]:
        """Yield which candidates are too faint, or bring no more than what they displace."""
        faint = pool.probability < self.engine.config.min_probability
        yield "not_credible", faint & ~member(pool.product, situation.column("pinned"))
        yield "worth_less", (pool.from_product >= 0) & ~self._brings_more(pool, request, situation)

    def _tier(self, offers: list[RankedOffer], situation: Situation) -> int:
        """Return the best evidence among the offers; without any, what would have been asked first."""
        if offers:
            return min(offer.tier for offer in offers)
        if situation.account >= 0:
            return TIER_ACCOUNT
        return TIER_RECENT if situation.recent else TIER_CART if situation.cart else TIER_POPULAR

    def _offers(
        self, ranked: Ranked, taken: list[int], moved: list[int], request: OfferRequest, situation: Situation
    ) -> Iterator[RankedOffer]:
        picked = ranked.pool.take(ranked.order[taken])
        value = picked.probability * self._unit_worth(picked, request, situation)
        price = prices_of(picked.product, picked.quantity, situation.segment, self.engine.catalogue)
        columns = picked.product, picked.from_product, picked.evidence, picked.tier
        scores = ranked.worth[taken], ranked.unboosted[taken], ranked.boost[taken]
        numbers = price, picked.probability, picked.quantity, value, *scores
        rows = zip(*[column.tolist() for column in (*columns, *numbers)], strict=True)
        for moved_by, relevant, row in zip(moved, ranked.relevant[taken].tolist(), rows, strict=True):
            product, lower, evidence, tier, *money = row
            explaining = {TIER_CART: situation.cart, TIER_RECENT: situation.recent}.get(tier, [])
            rule = self._rule(product, explaining) if lower < 0 else (NO_ROW, NO_ROW)
            by = moved_by
            if moved_by == NOT_MOVED and tier == TIER_POPULAR and evidence == NO_ROW:
                by = BY_RULE
            elif moved_by == NOT_MOVED and not relevant:
                by = BY_RELEVANCE
            yield RankedOffer._make([product, lower, evidence, tier, *rule, *money, by])

    def _rule(self, product: int, antecedents: Sequence[int]) -> tuple[int, int]:
        """Return the mined rule whose orders hold the product most often for certain, and its antecedent."""
        products, rules = self.model.products, self.model.rules
        best: tuple[float, int, int] | None = None
        for antecedent in antecedents:
            start = int(products.rules_start[antecedent])
            for row in range(start, start + int(products.rules_count[antecedent])):
                if rules.consequent[row] == product and rules.n_buyers[row] >= self.engine.config.least_buyers:
                    share = least_share(int(rules.n_both[row]), int(rules.n_antecedent[row]))
                    best = max(best or (-1.0, 0, 0), (share, -antecedent, row))
        return (NO_ROW, NO_ROW) if best is None else (best[2], -best[1])

    def _named(self, refused: dict[int, str], situation: Situation) -> dict[str, str]:
        ids, blocking = self.engine.catalogue.ids, situation.rules.blocking
        return {
            ids[row]: f"{RULE_PREFIX}{blocking[row]}" if name == BLOCKED_BY_RULE else name
            for row, name in refused.items()
        }


def _sorted(rows: list[int]) -> Int32:
    return np.array(sorted(rows), dtype=np.int32) if rows else NO_ROWS


def least_share(n: int, n_of: int) -> float:
    """The lower end of the Wilson interval at 95 %."""
    total, z = max(n_of, 1), 1.96
    share, spread = n / total, z * z / total
    margin = z * math.sqrt(max(share * (1.0 - share) / total + spread / (4.0 * total), 0.0))
    return (share + spread / 2.0 - margin) / (1.0 + spread)
