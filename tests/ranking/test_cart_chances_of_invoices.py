"""Chances that are told beside real carts, on product pages and after purchases, against what was bought then."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import scipy.sparse as sp

from recsys.arrays import BoolArray, FloatArray
from recsys.contracts.offers import AccountState, CartLine, OfferRequest
from recsys.data.dataset import ReadSpec, read_dataset
from recsys.data.history import SECONDS_A_DAY, History, binary
from recsys.fitting.pipeline import fit
from recsys.models.cart_curve import PlacedOrders, cut
from recsys.offer_model.tables import CartCurve, OfferModel
from recsys.ranking.engine import OfferEngine
from tests.support.proofs import write_proof
from training.gate import TrainConfig

# None of them was developed on, nor is any order after them in the training.
CUTOFFS = (datetime(2010, 7, 15, tzinfo=UTC), datetime(2010, 11, 1, tzinfo=UTC), datetime(2011, 5, 1, tzinfo=UTC))
HORIZON_DAYS, N_ORDERS, N_OFFERS = 30, 1_500, 10
NOBODY = AccountState()
WHAT = (
    f"chances of {N_OFFERS} offers beside each of {N_ORDERS} later orders of known accounts, Online Retail II, default"
    " configuration; bought: in the rest of the order or within 30 days after it"
)


class Place(NamedTuple):
    """Where offers are made: lines of the cart, None for half an order; the smallest order; who asks."""

    n_lines: int | None
    least_size: int
    with_account: bool = False
    kind: str = "cart"


PLACES = {
    "one line": Place(1, 2),
    "one line, account": Place(1, 2, with_account=True),
    "three lines": Place(3, 4),
    "three lines, account": Place(3, 4, with_account=True),
    "half an order": Place(None, 4),
    "half an order, account": Place(None, 4, with_account=True),
    "product page": Place(1, 2, kind="page"),
    "recent purchases": Place(None, 4, kind="recent"),
}


ASKED_FOR = ("one line", "one line, account", "half an order", "half an order, account", "product page")
"""Where each fifth should hold. What three lines are the beginning of, a large order or a small one, nothing tells."""


def asked(place: Place, account_id: str, cart: list[str]) -> tuple[OfferRequest, AccountState]:
    """The question of one place."""
    if place.kind == "page":
        page = OfferRequest(viewed_product_id=cart[0], kinds=("cross_sell",), limit=N_OFFERS, sources="evidence")
        return page, NOBODY
    if place.kind == "recent":
        visitor = OfferRequest(account_id="a visitor", kinds=("cross_sell",), limit=N_OFFERS)
        return visitor, AccountState(bought=tuple(cart))
    lines = tuple(CartLine(product) for product in cart)
    account = account_id if place.with_account else None
    return OfferRequest(account_id=account, cart=lines, kinds=("cross_sell",), limit=N_OFFERS), NOBODY


class Later(NamedTuple):
    """Orders after the cutoff, `(n_orders, n_products)` and their account; what was bought within 30 days of each."""

    products: sp.csr_array
    account: np.ndarray[Any, Any]
    bought_later: sp.csr_array

    @classmethod
    def of(cls, history: History, cutoff: datetime) -> Later:
        """Return orders of two products or more of known accounts, drawn by a fixed seed."""
        lines = history.between(cutoff, 2 * HORIZON_DAYS + 1).known()
        shape = (history.n_orders, history.n_products)
        products = binary(lines.order, lines.product, shape)
        seconds, account = np.zeros(shape[0]), np.full(shape[0], -1)
        seconds[lines.order], account[lines.order] = lines.seconds, lines.account
        is_early = seconds < (cutoff + timedelta(days=HORIZON_DAYS)).timestamp()
        rows = np.flatnonzero((np.diff(products.indptr) >= 2) & is_early)
        rows = np.sort(np.random.default_rng(1).permutation(rows)[:N_ORDERS])
        placed = PlacedOrders(products, (seconds.max() - seconds) / SECONDS_A_DAY, account)
        return cls(products[rows], account[rows], placed.bought_later(rows, HORIZON_DAYS))


def told(engine: OfferEngine, history: History, later: Later, place: Place) -> Iterator[tuple[float, bool, int]]:
    """Yield each offer's chance, whether it was bought in the rest of the order or within 30 days, and the order."""
    cart, rest = cut(later.products, place.n_lines, np.random.default_rng(5))
    bought = sp.csr_array(rest + later.bought_later)
    row_of, ids = {name: row for row, name in enumerate(history.product_ids)}, history.product_ids
    for row in np.flatnonzero(np.diff(later.products.indptr) >= place.least_size):
        account_id = str(history.account_ids[later.account[row]])
        if place.with_account and engine.model.accounts.ids.find(account_id) < 0:
            continue
        lines = [str(ids[product]) for product in cart.indices[cart.indptr[row] : cart.indptr[row + 1]]]
        products = set(bought.indices[bought.indptr[row] : bought.indptr[row + 1]].tolist())
        for offer in engine.recommend(*asked(place, account_id, lines)).offers:
            yield offer.probability, row_of[offer.product_id] in products, int(row)


def log_loss(chance: FloatArray, is_bought: BoolArray) -> float:
    """The mean of minus the log of what was told of what came."""
    safe = np.clip(chance, 1e-6, 1 - 1e-6)
    return float(-np.log(np.where(is_bought, safe, 1 - safe)).mean())


def figures(engine: OfferEngine, former: OfferEngine, history: History, later: Later, place: Place) -> dict[str, Any]:
    """Return observed over stated in each fifth of the stated chance, and the log losses."""
    chance, is_bought, order = (np.array(column) for column in zip(*told(engine, history, later, place), strict=True))
    fifth = np.searchsorted(np.quantile(chance, [0.2, 0.4, 0.6, 0.8]), chance)
    before, was_bought, _ = (np.array(column) for column in zip(*told(former, history, later, place), strict=True))
    parts = [ratio(chance[fifth == part], is_bought[fifth == part], order[fifth == part]) for part in range(5)]
    return {
        "offers": len(chance),
        "bought": float(is_bought.mean()),
        "observed_over_stated": float(is_bought.sum() / chance.sum()),
        "by_fifth": [found.observed_over_stated for found in parts],
        "interval_by_fifth": [[found.low, found.high] for found in parts],
        "stated_by_fifth": [float(chance[fifth == part].mean()) for part in range(5)],
        "log_loss": log_loss(chance, is_bought),
        "log_loss_of_a_constant": log_loss(np.full(len(chance), is_bought.mean()), is_bought),
        "log_loss_of_one_curve_for_all": log_loss(before, was_bought),
    }


class Ratio(NamedTuple):
    """Observed over stated, and its 95 % interval."""

    observed_over_stated: float
    low: float
    high: float


def ratio(chance: FloatArray, is_bought: BoolArray, order: np.ndarray[Any, Any]) -> Ratio:
    """Return what was bought over what was stated; the offers of one order stand or fall together in its interval."""
    found = float(is_bought.sum() / chance.sum())
    off = np.bincount(order, weights=is_bought - found * chance)
    half = 1.96 * float(np.sqrt(np.square(off).sum()) / chance.sum())
    return Ratio(found, found - half, found + half)


def with_one_curve(model: OfferModel) -> OfferModel:
    """The model as it was before its curves told apart who asks and what no weight speaks for."""
    curve = model.cart_curve
    return replace(model, cart_curve=CartCurve.plain(curve.score, curve.probability, curve.lines))


@pytest.mark.data
@pytest.mark.proof  # three trainings, ten minutes; test_cart_curve.py guards every change
@pytest.mark.timeout(2_400)
def test_chances_beside_carts_hold_in_months_that_nobody_saw(online_retail_path: Path) -> None:
    spec = ReadSpec(orders=str(online_retail_path), preset="online-retail-ii")
    history, found = read_dataset(spec).history(), {}
    for cutoff in CUTOFFS:
        model = fit(read_dataset(spec.model_copy(update={"as_of": cutoff})), TrainConfig()).model
        engines, later = (OfferEngine(model), OfferEngine(with_one_curve(model))), Later.of(history, cutoff)
        places = {name: figures(*engines, history, later, place) for name, place in PLACES.items()}
        found[f"{cutoff:%Y-%m-%d}"] = places
        write_proof("cart_chances.json", WHAT, cutoffs=found)
    for places in found.values():
        for name, place in places.items():
            assert place["log_loss"] < place["log_loss_of_a_constant"]
            assert 0.8 <= place["observed_over_stated"] <= 1.25
            if "account" in name:
                assert place["log_loss"] < place["log_loss_of_one_curve_for_all"]
    intervals = [
        interval for places in found.values() for name in ASKED_FOR for interval in places[name]["interval_by_fifth"]
    ]
    assert all(may_hold(*interval) for interval in intervals)


def may_hold(low: float, high: float) -> bool:
    """Whether an interval overlaps .8 to 1.25."""
    return low <= 1.25 and high >= 0.8
