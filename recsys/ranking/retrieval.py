"""Looks the candidates of one request up: the account's, the cart's, the ladder's and the fallback lists."""

from __future__ import annotations

import numpy as np

from recsys.offer_model.tables import Float64, Int32, OfferModel
from recsys.ranking.combine import merge_weights
from recsys.ranking.kernel import TIER_ACCOUNT, TIER_POPULAR, TIER_SEGMENT
from recsys.ranking.pool import Pool, crosses, member


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


def owned_by(model: OfferModel, account: int, *, ever: bool) -> Int32:
    """Return the sorted rows of what the account owns, or `ever` bought."""
    start = int(model.accounts.owned_start[account])
    rows = slice(start, start + int(model.accounts.owned_count[account]))
    product = model.owned.product[rows]
    return product if ever else product[model.owned.owned[rows]]


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


def cart_pool(model: OfferModel, cart: list[int], tier: int) -> Pool:
    """Return what goes with the products in rows `cart`: prior and the sum of their weights, as a probability."""
    table, products = model.cart, model.products
    slices = []
    for row in cart:
        start = int(products.cart_start[row])
        slices.append(slice(start, start + int(products.cart_count[row])))
    product, score = merge_weights([table.consequent[rows] for rows in slices], [table.weight[rows] for rows in slices])
    score += products.cart_prior[product]
    probability = np.interp(score, model.cart_curve.score, model.cart_curve.probability)
    return crosses(product, probability, products.usual_quantity[product].astype(np.float64), tier)


def order_pool(model: OfferModel, products: Int32, tier: int) -> Pool:
    """Return products as candidates at the chance that an order holds them, whatever else it holds."""
    curve = model.cart_curve
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


def fallback_pool(model: OfferModel, segment: int) -> Pool:
    """Return the popular products of a segment, row 0 for everyone; `evidence` is their row of the fallback table."""
    start, count = int(model.segments.fallback_start[segment]), int(model.segments.fallback_count[segment])
    rows = slice(start, start + count)
    product = model.fallback.product[rows]
    return crosses(
        product,
        model.fallback.probability[rows].astype(np.float64),
        model.products.usual_quantity[product].astype(np.float64),
        TIER_SEGMENT if segment else TIER_POPULAR,
        evidence=np.arange(start, start + count, dtype=np.int32),
    )
