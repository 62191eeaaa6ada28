"""Which reason a candidate gets: the nearest thing that the account owns, with ten buyers behind, else a weaker one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from recsys.contracts import columns as c
from recsys.contracts.offers import Offer, OfferRequest
from recsys.data.history import History
from recsys.fitting.assembly import LearnedParts, OfferModelConfig, build_offer_model
from recsys.models.candidates import Candidates
from recsys.ranking.engine import OfferEngine

AS_OF = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = {
    "bunting": "PARTY BUNTING",
    "spotty": "SPOTTY PARTY BUNTING",
    "tin": "CAKE TIN",
    "jug": "ENAMEL JUG",
    "lamp": "READING LAMP",
}
Orders = list[tuple[str, int, list[str]]]
"""Account, day, products of one order each."""


def others(n: int, *products: str, account: str = "other") -> Orders:
    return [(f"{account} {row}", row % 300, list(products)) for row in range(n)]


NAMED = pd.DataFrame({c.PRODUCT_ID: list(NAMES), c.NAME: list(NAMES.values())})


def reason_for(product: str, orders: Orders, products: pd.DataFrame = NAMED) -> Offer:
    """What `ann` is told of a product."""
    rows = [
        (f"{position}", account, item, AS_OF - timedelta(days=400 - day), 1.0, 2.0)
        for position, (account, day, items) in enumerate(orders)
        for item in items
    ]
    names = [c.ORDER_ID, c.ACCOUNT_ID, c.PRODUCT_ID, c.ORDERED_AT, c.QUANTITY, c.UNIT_PRICE]
    history = History.from_frame(pd.DataFrame(rows, columns=names))
    ann, row = history.account_ids.tolist().index("ann"), history.product_ids.tolist().index(product)
    one = {"score": [1.0], "probability": [0.2], "expected_quantity": [1.0]}
    cross = Candidates(
        np.array([ann], dtype=np.int32),
        np.array([row], dtype=np.int32),
        np.array([-1], dtype=np.int32),
        **{name: np.array(value, dtype=np.float32) for name, value in one.items()},
    )
    model = build_offer_model(
        history,
        products,
        pd.DataFrame({c.ACCOUNT_ID: ["ann"]}),
        LearnedParts(cross=cross, rules=pairs(history)),
        OfferModelConfig(),
        as_of=AS_OF,
        horizon_days=30,
    )
    model.check()
    return OfferEngine(model).recommend(OfferRequest("ann", limit=1, explain="full")).offers[0]


def pairs(history: History) -> pd.DataFrame:
    """Every pair of products as mined, without a relation."""
    ids = history.product_ids.tolist()
    both = [(one, other) for one in ids for other in ids if one != other]
    frame = pd.DataFrame(both, columns=[c.ANTECEDENT_ID, c.CONSEQUENT_ID])
    for name, value in ((c.N_BOTH, 1), (c.N_ANTECEDENT, 1), (c.CONFIDENCE, 0.1), (c.RELATION, "none")):
        frame[name] = value
    return frame


ANN: Orders = [("ann", 1, ["jug"]), ("ann", 2, ["tin"]), ("ann", 3, ["tin"]), ("ann", 4, ["tin"])]
POPULAR = others(60, "lamp", account="reader")


def test_what_stands_in_orders_together_is_the_reason() -> None:
    told = reason_for("spotty", ANN + POPULAR + others(12, "tin", "spotty"))
    assert (told.reason_code, told.from_product_id, told.from_product_name) == ("bought_together", "tin", "CAKE TIN")
    assert told.reason.startswith("the account buys CAKE TIN: 12 of 15 orders with it hold SPOTTY PARTY BUNTING too")
    assert told.reason_for_shopper == "You chose CAKE TIN; others order SPOTTY PARTY BUNTING with it"


def test_nine_buyers_are_too_few_to_be_spoken_of() -> None:
    told = reason_for("spotty", ANN + POPULAR + others(9, "tin", "spotty"))
    assert told.reason_code == "few_yet"
    assert not told.evidence


def test_without_counts_the_reason_is_what_is_close_by_name() -> None:
    """Before, it was a bare count of who has bought it."""
    bunting = [("ann", 9, ["bunting"])]
    told = reason_for("spotty", ANN + bunting + POPULAR + others(40, "spotty"))
    assert (told.reason_code, told.from_product_id) == ("close_to", "bunting")
    assert told.reason == "the account buys PARTY BUNTING; SPOTTY PARTY BUNTING is close to it, and new to the account"
    assert told.evidence == {"anchor_product_id": "bunting"}


@pytest.mark.parametrize(("column", "code"), [(c.FAMILY, "close_to"), (c.CATEGORY, "same_category")])
def test_a_family_is_close_and_a_category_comes_last(column: str, code: str) -> None:
    products = pd.DataFrame({c.PRODUCT_ID: ["tin", "spotty"], column: ["Tins", "Tins"]})
    told = reason_for("spotty", ANN + POPULAR + others(40, "spotty"), products)
    assert (told.reason_code, told.from_product_id) == (code, "tin")


def test_a_purchase_of_the_latest_orders_goes_before_one_of_long_ago() -> None:
    """The jug's share is a little larger, but the account bought it once, four orders ago."""
    together = others(12, "tin", "spotty") + others(12, "jug", "spotty", account="host") + others(2, "tin", account="x")
    assert reason_for("spotty", ANN + POPULAR + together).from_product_id == "tin"
    far_stronger = others(40, "tin", account="baker")
    assert reason_for("spotty", ANN + POPULAR + together + far_stronger).from_product_id == "jug"


def test_only_what_the_account_owns_nothing_near_to_is_called_popular() -> None:
    told = reason_for("lamp", ANN + POPULAR)
    assert (told.reason_code, told.from_product_id) == ("popular", None)
    assert told.reason == "60 of 61 accounts have bought READING LAMP"
