"""Combines the evidence of the account and of the cart for the same product.

Both are causes of one event, a purchase within the horizon: the account's own course, and what lies in the cart now.
With independent causes the event fails to happen only if every cause fails (noisy-or, Pearl 1988, section 4.3.2)::

    p = 1 - (1 - p_account)(1 - p_cart)

For small probabilities this is their sum: a cart that says nothing leaves the account's order as it is, and the other
way round. That an account has bought a product before is a third cause of the same kind, in a cart answer.

The cart speaks of this order, the account of the horizon. Of the `1 + m` orders that an account places within the
horizon from this one on, each is as likely to hold the purchase: `chance`, which ranks, takes `p_account / (1 + m)`.
"""

from __future__ import annotations

import numpy as np

from recsys.offer_model.tables import Float32, Float64, Int32
from recsys.ranking.pool import Pool, joined


def noisy_or(one: Float64, other: Float64) -> Float64:
    """Return `1 - (1 - one)(1 - other)`.

    Example:
        >>> float(noisy_or(np.array([0.5]), np.array([0.2]))[0])
        0.6
    """
    combined: Float64 = 1.0 - (1.0 - one) * (1.0 - other)
    return combined


def in_this_order(account: Pool, orders_in_horizon: float) -> Pool:
    """Return the account's candidates with their chance in this order, of `1 + orders_in_horizon` in the horizon.

    Example:
        >>> from recsys.ranking.pool import TIERS, crosses
        >>> pool = crosses(np.array([3]), np.array([0.3]), np.ones(1), TIERS.index("account"))
        >>> in_this_order(pool, 2.0).chance.round(6).tolist()
        [0.1]
    """
    return account.ranked_by(account.probability / (1.0 + orders_in_horizon))


def combine(account: Pool, cart: Pool) -> Pool:
    """Return the cross-sell candidates of both; one that both name has the noisy-or of their probabilities and chances.

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
    probability[rows] = noisy_or(probability[rows], cart.probability[at])
    merged = Pool(
        account.product, account.from_product, probability, chance, account.quantity, chance, account.evidence, tier
    )
    alone = np.ones(len(cart), dtype=bool)
    alone[at] = False
    return joined([merged, cart.take(alone.nonzero()[0])])


def merge_weights(products: list[Int32], weights: list[Float32]) -> tuple[Int32, Float64]:
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
