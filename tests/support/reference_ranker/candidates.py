"""Candidates of one request as parallel arrays, where they come from, and how evidence for one product is combined.

The account's own course and the cart are causes of one event, a purchase within the horizon. With independent causes
the event fails to happen only if every cause fails (noisy-or, Pearl 1988, section 4.3.2)::

    p = 1 - (1 - p_account)(1 - p_cart)

The cart speaks of this order, the account of the horizon: of the `1 + m` orders within it this one is the first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recsys.offer_model.tables import (
    CONFIDENCE_LINES,
    EVERYONE,
    Bool,
    CartCurve,
    Float64,
    Int32,
    OfferModel,
)
from recsys.ranking.config import RankingConfig
from recsys.ranking.kernel.layout import LATER_OF_CARTS, TIER_ACCOUNT, TIER_POPULAR, TIER_SEGMENT


@dataclass(frozen=True, slots=True)
class Pool:
    """Candidates of one request, shape `(n_candidates,)` each.

    Attributes:
        product: row of the product.
        from_product: the rung that an upgrade starts from; -1: a cross-sell.
        probability: within the model's horizon.
        chance: what ranks: beside a cart the probability that this very order holds it, else `probability`.
        quantity: expected units.
        score: the ranker's own order, comparable within one kind.
        evidence: row of the evidence table, of the fallback table in the tiers segment and popular; -1 without one.
        tier: position in `TIERS`.
    """

    product: Int32
    from_product: Int32
    probability: Float64
    chance: Float64
    quantity: Float64
    score: Float64
    evidence: Int32
    tier: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.product)

    def part(self, begin: int, end: int) -> Pool:
        """Return the candidates from `begin` to before `end`, without a copy."""
        rows = slice(begin, end)
        return Pool(
            self.product[rows],
            self.from_product[rows],
            self.probability[rows],
            self.chance[rows],
            self.quantity[rows],
            self.score[rows],
            self.evidence[rows],
            self.tier[rows],
        )

    def ranked_by(self, chance: Float64, probability: Float64 | None = None) -> Pool:
        """Return the same candidates with other chances, which are their scores too."""
        return Pool(
            self.product,
            self.from_product,
            self.probability if probability is None else probability,
            chance,
            self.quantity,
            chance,
            self.evidence,
            self.tier,
        )

    def take(self, rows: NDArray[np.intp] | Bool) -> Pool:
        """Return the candidates at `rows`."""
        return Pool(
            self.product[rows],
            self.from_product[rows],
            self.probability[rows],
            self.chance[rows],
            self.quantity[rows],
            self.score[rows],
            self.evidence[rows],
            self.tier[rows],
        )


def crosses(product: Int32, probability: Float64, quantity: Float64, tier: int, evidence: Int32 | None = None) -> Pool:
    """Return cross-sell candidates that are scored by their probability."""
    n = len(product)
    none = np.full(n, -1, dtype=np.int32)
    return Pool(
        product,
        none,
        probability,
        probability,
        quantity,
        probability,
        none if evidence is None else evidence,
        np.full(n, tier, dtype=np.int8),
    )


def joined(pools: list[Pool]) -> Pool:
    """Return the candidates of all pools, in their order; at least one pool."""
    filled = [pool for pool in pools if len(pool.product)]
    if len(filled) <= 1:
        return filled[0] if filled else pools[0]
    return Pool(
        np.concatenate([pool.product for pool in filled]),
        np.concatenate([pool.from_product for pool in filled]),
        np.concatenate([pool.probability for pool in filled]),
        np.concatenate([pool.chance for pool in filled]),
        np.concatenate([pool.quantity for pool in filled]),
        np.concatenate([pool.score for pool in filled]),
        np.concatenate([pool.evidence for pool in filled]),
        np.concatenate([pool.tier for pool in filled]),
    )


def member(rows: Int32, among: Int32) -> Bool:
    """Return which `rows` stand in `among`, which is sorted."""
    if not len(among):
        return np.zeros(len(rows), dtype=bool)
    position = np.minimum(among.searchsorted(rows), len(among) - 1)
    found: Bool = among[position] == rows
    return found


def account_pool(model: OfferModel, account: int) -> Pool:
    """Return the stored candidates of the account in row `account`, both kinds; none for row -1."""
    start = int(model.accounts.candidates_start[account]) if account >= 0 else 0
    return candidate_rows(
        model, slice(start, start + (int(model.accounts.candidates_count[account]) if account >= 0 else 0))
    )


def candidate_rows(model: OfferModel, rows: slice) -> Pool:
    """Return rows of the candidate table."""
    table = model.candidates
    product, probability = table.product[rows], table.probability[rows].astype(np.float64)
    return Pool(
        product,
        table.from_product[rows],
        probability,
        probability,
        table.expected_quantity[rows].astype(np.float64),
        table.score[rows].astype(np.float64),
        table.evidence[rows],
        np.full(len(product), TIER_ACCOUNT, dtype=np.int8),
    )


def has_crosses(model: OfferModel, account: int) -> bool:
    """Return whether a cross-sell candidate of the account is stored; they stand before its upgrades."""
    if not model.accounts.candidates_count[account]:
        return False
    return bool(model.candidates.from_product[model.accounts.candidates_start[account]] < 0)


def habitual(model: OfferModel, account: int) -> list[int]:
    """Return the rows of what the account bought, the most often first, ties to the smaller id."""
    start = int(model.accounts.owned_start[account])
    rows = slice(start, start + int(model.accounts.owned_count[account]))
    often = np.argsort(-model.owned.n_orders[rows], kind="stable")
    habits: list[int] = model.owned.product[rows][often].tolist()
    return habits


def repeat_rate(model: OfferModel, account: int, products: Int32, prior_orders: float) -> Float64:
    """Return the share of the account's orders that hold each product, shrunk: `n_with / (n_orders + prior_orders)`."""
    start = int(model.accounts.owned_start[account])
    rows = slice(start, start + int(model.accounts.owned_count[account]))
    owned = model.owned.product[rows]
    if not len(owned):
        return np.zeros(len(products))
    position = np.minimum(owned.searchsorted(products), len(owned) - 1)
    n_with = np.where(owned[position] == products, model.owned.n_orders[rows][position], 0)
    rate: Float64 = n_with / (float(model.accounts.n_orders[account]) + prior_orders)
    return rate


def cart_pool(model: OfferModel, cart: list[int], tier: int) -> tuple[Pool, Float64]:
    """Return what goes with the products in rows `cart`, and its scores: prior and the sum of their weights."""
    table, products = model.cart, model.products
    slices = []
    for row in cart:
        start = int(products.cart_start[row])
        slices.append(slice(start, start + int(products.cart_count[row])))
    share = 1.0 / (len(cart) + CONFIDENCE_LINES)
    weights = [table.weight[rows].astype(np.float64) + share * table.lift[rows].astype(np.float64) for rows in slices]
    product, score = merge_weights([table.consequent[rows] for rows in slices], weights)
    score += products.cart_prior[product]
    curve = curve_of(model, len(cart))
    probability = np.interp(score, curve.score, curve.probability)
    return crosses(product, probability, products.usual_quantity[product].astype(np.float64), tier), score


def curve_of(model: OfferModel, n_lines: int) -> CartCurve:
    """Return the curve of carts of so many lines."""
    parts = model.cart_curve.of_sizes()
    return ([parts[0]] + [curve for curve in parts[1:] if curve.lines[0] <= n_lines])[-1]


def order_pool(model: OfferModel, products: Int32, tier: int) -> Pool:
    """Return products as candidates at the chance that an order holds them, whatever else it holds."""
    curve = model.cart_curve.of_sizes()[0]
    probability = np.interp(model.products.cart_prior[products], curve.score, curve.probability)
    return crosses(product=products, probability=probability, quantity=_usual(model, products), tier=tier)


def _usual(model: OfferModel, products: Int32) -> Float64:
    return model.products.usual_quantity[products].astype(np.float64)


def cart_upgrades(model: OfferModel, cart: list[int], quantities: list[float], known: Pool, tier: int) -> Pool:
    """Return the rungs above the cart's products, at the cart's quantity.

    An upgrade that the account's own propensity knows (`known`) keeps that probability, and its evidence.
    """
    products, table = model.products, model.ladder
    parts = []
    for row, quantity in zip(cart, quantities, strict=True):
        start, count = int(products.ladder_start[row]), int(products.ladder_count[row])
        if count:
            rows = slice(start, start + count)
            parts.append((table.to_product[rows], table.climb_rate[rows], table.evidence[rows], row, quantity))
    if not parts:
        return crosses(np.zeros(0, np.int32), np.zeros(0), np.zeros(0), tier)
    counts = [len(part[0]) for part in parts]
    product = np.concatenate([part[0] for part in parts])
    lower = np.repeat(np.array([part[3] for part in parts], dtype=np.int32), counts)
    rate = np.concatenate([part[1] for part in parts]).astype(np.float64)
    evidence = np.concatenate([part[2] for part in parts])
    for index in member(known.from_product, np.unique(lower)).nonzero()[0].tolist():
        same = (product == known.product[index]) & (lower == known.from_product[index])
        rate[same], evidence[same] = known.probability[index], known.evidence[index]
    units: Float64 = np.repeat(np.array([part[4] for part in parts], dtype=np.float64), counts)
    return Pool(product, lower, rate, rate, units, rate, evidence, np.full(len(product), tier, dtype=np.int8))


def raised(model: OfferModel, cart: Pool, score: Float64, segment: int) -> Pool:
    """Return what goes with a cart at no less than its chance as a popular product of a segment or of everyone."""
    probability = cart.probability.copy()
    for popular in (fallback_pool(model, segment, 0), fallback_pool(model, EVERYONE, 0)):
        for product, chance in zip(popular.product.tolist(), popular.probability.tolist(), strict=True):
            here = (cart.product == product) & (score > model.products.cart_prior[product])
            probability[here] = np.maximum(probability[here], chance)
    return cart.ranked_by(cart.chance, probability)


def fallback_pool(model: OfferModel, segment: int, n_cart: int) -> Pool:
    """Return the popular products of a segment, row 0 for everyone; `evidence` is their row of the fallback table."""
    start, count = int(model.segments.fallback_start[segment]), int(model.segments.fallback_count[segment])
    rows = slice(start, start + count)
    product = model.fallback.product[rows]
    probability = model.fallback.probability[rows].astype(np.float64)
    if n_cart:
        curve = curve_of(model, n_cart)
        beside = np.interp(probability, curve.score, curve.of_unlinked)
        probability = np.maximum(probability, beside)
    return crosses(
        product,
        probability,
        model.products.usual_quantity[product].astype(np.float64),
        TIER_SEGMENT if segment else TIER_POPULAR,
        evidence=np.arange(start, start + count, dtype=np.int32),
    )


def boosts(model: OfferModel, pool: Pool, cart: list[int], config: RankingConfig) -> Float64:
    """Return how well each cross-sell goes with the line of the cart that it goes with best, one pair at a time.

    Without a cart it is what is not held back of what the account speaks for.
    """
    products, links, rules = model.products, model.cart.consequent, model.rules
    if not cart:
        return np.where(pool.tier == TIER_ACCOUNT, 1.0 - products.held_back[pool.product].astype(np.float64), 1.0)
    lift = np.ones(len(pool))
    for at, product in enumerate(pool.product.tolist()):
        usual = float(products.n_orders[product]) / max(model.facts.n_orders, 1)
        for line in [] if pool.tier[at] in (TIER_SEGMENT, TIER_POPULAR) else cart:
            linked = links[products.cart_start[line] :][: products.cart_count[line]]
            start = int(products.rules_start[line])
            for rule in range(start, start + int(products.rules_count[line])) if product in linked else ():
                if rules.consequent[rule] == product and rules.n_buyers[rule] >= config.least_buyers:
                    expected = (rules.n_antecedent[rule] + 20) * max(usual, 1e-9)
                    lift[at] = max(lift[at], (rules.n_both[rule] + 20 * usual) / expected)
    factor: Float64 = (np.minimum(lift, 10.0) / 10.0) ** config.relation_weight
    return np.where(pool.from_product < 0, factor, 1.0)


def one_chance(model: OfferModel, crosses: Pool, upgrades: Pool, segment: int, n_lines: int) -> tuple[Pool, Pool]:
    """Return cross-sells and upgrades with the largest chance that any of them tells of the same product.

    What nothing but an upgrade speaks for has no lower chance than as a popular product, beside `n_lines` of a cart.
    """
    both = joined([crosses, upgrades])
    probability, chance = both.probability.copy(), both.chance.copy()
    for product in set(upgrades.product.tolist()):
        same = both.product == product
        probability[same], chance[same] = probability[same].max(), chance[same].max()
    for popular in [fallback_pool(model, row, n_lines) for row in (segment, EVERYONE) if n_lines]:
        for product, of_popular in zip(popular.product.tolist(), popular.probability.tolist(), strict=True):
            if product not in crosses.product:
                same = both.product == product
                probability[same] = np.maximum(probability[same], of_popular)
    told = replace(both, probability=probability, chance=chance)
    return told.part(0, len(crosses)), told.part(len(crosses), len(both))


def noisy_or(one: Float64, other: Float64) -> Float64:
    """Return `1 - (1 - one)(1 - other)`.

    Example:
        >>> float(noisy_or(np.array([0.5]), np.array([0.2]))[0])
        0.6
    """
    combined: Float64 = 1.0 - (1.0 - one) * (1.0 - other)
    return combined


def in_this_order(account: Pool, orders_in_horizon: float) -> Pool:
    """Return the account's candidates beside a cart: one more order than the `orders_in_horizon` that were expected.

    Their chance in this order counts `LATER_OF_CARTS` times, as cart probabilities count later orders too.

    Example:
                >>> pool = in_this_order(crosses(np.array([3]), np.array([0.3]), np.ones(1), TIER_ACCOUNT), 2.0)
        >>> pool.chance.round(6).tolist(), pool.probability.round(6).tolist()
        ([0.13], [0.37])
    """
    share = account.probability / (1.0 + orders_in_horizon)
    chance: Float64 = np.minimum(LATER_OF_CARTS * account.probability / (1.0 + orders_in_horizon), 1.0)
    return account.ranked_by(chance, noisy_or(account.probability, share))


def combine(account: Pool, cart: Pool) -> Pool:
    """Return the cross-sell candidates of both; of one that both name the larger probability, the noisy-or of chances.

    Such a candidate names as its tier the stronger of the two; `cart.product` is sorted.
    """
    if not len(cart):
        return account
    if not len(account):
        return cart
    position = np.minimum(cart.product.searchsorted(account.product), len(cart) - 1)
    both = cart.product[position] == account.product
    rows, at = both.nonzero()[0], position[both]
    if not len(rows):
        return joined([account, cart])
    chance, probability, tier = account.chance.copy(), account.probability.copy(), account.tier.copy()
    of_cart = cart.chance[at]
    tier[rows] = np.where(of_cart > chance[rows], cart.tier[at], tier[rows])
    chance[rows] = noisy_or(chance[rows], of_cart)
    probability[rows] = np.maximum(probability[rows], cart.probability[at])
    merged = Pool(
        account.product, account.from_product, probability, chance, account.quantity, chance, account.evidence, tier
    )
    alone = np.ones(len(cart), dtype=bool)
    alone[at] = False
    return joined([merged, cart.take(alone.nonzero()[0])])


def merge_weights(products: list[Int32], weights: list[Float64]) -> tuple[Int32, Float64]:
    """Return the distinct products, sorted, and the sum of the weights of each."""
    if len(products) == 1:
        return products[0], weights[0].astype(np.float64)
    product, weight = np.concatenate(products), np.concatenate(weights).astype(np.float64)
    if not len(product):
        return product, weight
    order = product.argsort(kind="stable")
    product = product[order]
    first = np.empty(len(product), dtype=bool)
    first[0] = True
    np.not_equal(product[1:], product[:-1], out=first[1:])
    # Added one after the other, in the order of the cart: `reduceat` would pair them, and the last bit would differ.
    return product[first], np.bincount(np.cumsum(first) - 1, weight[order]).astype(np.float64)
