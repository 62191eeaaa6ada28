"""One declaration of an offer: what is answered, kept and read again comes from it."""

from __future__ import annotations

from typing import get_type_hints

import pytest

from recsys.contracts.offers import ANSWERED, LOGGED, Offer, json_text, logged_products
from serving.schemas.offers import OfferAnswer

KEPT = (1, "P1", "upsell", 9.5, "GBP", 0.25, "buys_within_horizon", 2.0, 4.9, 0.5, "cart", 0.1, "P2", "autumn", 0.5)
UNKEPT = (
    "price_breaks",
    "price_to_pay",
    "price_difference",
    "name",
    "reason",
    "evidence",
    "text",
    "reason_code",
    "reason_for_shopper",
    "from_product_name",
    "url",
    "image_url",
    "attributes",
    "rank_probability",
    "boost",
    "moved_by",
)
OFFER = Offer.from_logged(KEPT)._replace(name="Tin", reason="often together", evidence={"n_orders": 4}, text="Now")


def test_every_field_is_answered_but_the_propensity() -> None:
    names = list(Offer._fields)
    assert [*ANSWERED, "propensity"] == names
    assert set(LOGGED) == set(names) - {*UNKEPT}
    assert tuple(OfferAnswer.model_fields) == tuple(OFFER.answered()) == ANSWERED


def test_the_answer_has_the_types_and_words_of_the_declaration() -> None:
    declared = get_type_hints(Offer)
    for name, field in OfferAnswer.model_fields.items():
        assert field.is_required()
        assert (field.annotation, bool(field.description)) == (declared[name], True)
    answer = OfferAnswer.model_validate_json(json_text(OFFER.answered()))
    assert answer.model_dump() == OFFER.answered()


def test_what_is_kept_comes_back() -> None:
    assert OFFER.logged() == KEPT
    assert Offer.from_logged(KEPT).logged() == KEPT
    assert Offer.from_logged(KEPT) == OFFER._replace(name=None, reason="", evidence={}, text=None)
    assert logged_products(json_text([KEPT, OFFER._replace(product_id="P3").logged()])) == ["P1", "P3"]


@pytest.mark.parametrize(("values", "rule"), [(KEPT[:12], None), ((*KEPT, "new", 7), "autumn")])
def test_what_an_older_or_newer_release_kept_can_be_read(values: tuple[object, ...], rule: str | None) -> None:
    offer = Offer.from_logged(values)
    assert (offer.product_id, offer.propensity, offer.rule) == ("P1", 0.1, rule)
