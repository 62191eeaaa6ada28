"""Chances beside a cart of what its account bought before, and of what it never bought."""

from __future__ import annotations

import math

import numpy as np

from recsys.offer_model.tables import LEAST_PACE, REPEAT_PRIOR_ORDERS, REPEAT_SCORE, Float64, OfferModel
from recsys.ranking.compiled_ranker import usual_pace
from tests.support.reference_ranker.candidates import Pool, curve_of, repeat_rate


def as_bought_before(model: OfferModel, account: int, cart: Pool, score: Float64, n_lines: int) -> Float64:
    """Return the chances of what a cart speaks for, by what the account bought before; the cart's where not known."""
    curve = curve_of(model, n_lines)
    share = repeat_rate(model, account, cart.product, REPEAT_PRIOR_ORDERS)
    bought = np.interp(score + REPEAT_SCORE * share, curve.score, curve.of_bought)
    pace = max(float(model.accounts.orders_in_horizon[account]), LEAST_PACE)
    odds = math.sqrt(math.sqrt(pace / usual_pace(model.accounts.orders_in_horizon)))
    bought = odds * bought / (1.0 + (odds - 1.0) * bought)
    new = np.interp(score, curve.score, curve.of_new)
    return np.where(share > 0, bought, new) if curve.of_new[-1] > 0 else cart.probability
