"""Reasons in the language of the request, else the account's, else the server's; each language says all of them."""

from __future__ import annotations

import string
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from recsys.contracts.offers import CartLine, Offer, OfferRequest, ReasonCode
from recsys.errors import ConfigError
from recsys.offer_model.utf8_column import Utf8Column
from recsys.ranking.config import RankingConfig
from recsys.ranking.engine import OfferEngine
from recsys.ranking.languages import LANGUAGES, Language
from tests.support.synthetic_model import SyntheticModelConfig, synthetic_model

MODEL = synthetic_model(SyntheticModelConfig(n_accounts=20, n_products=60), np.random.default_rng(3))
SPEAKING = Utf8Column.of(["de", "fr", "de-AT", *[None] * 17])
ENGINE = OfferEngine(replace(MODEL, accounts=replace(MODEL.accounts, language=SPEAKING)))
FOR_SHOPPERS = {"product", "anchor", "category"}


def words(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


@pytest.mark.parametrize("language", LANGUAGES.values(), ids=LANGUAGES)
def test_a_language_says_every_reason_with_the_facts_that_english_says(language: Language) -> None:
    english = LANGUAGES["en"]
    assert set(language.templates) == set(get_args(ReasonCode))
    for code, template in language.templates.items():
        assert words(template.rep) == words(english.templates[code].rep)
        assert words(template.shopper) <= FOR_SHOPPERS  # no counts of others
    assert {code: words(said) for code, said in language.of_orders.items()} == {
        code: words(said) for code, said in english.of_orders.items()
    }
    assert [words(said) for said in language.dearer] == [{"reason", "amount"}] * 2
    assert (words(language.beside_cart), words(language.group)) == (words(english.beside_cart), {"segment"})


@pytest.mark.parametrize(
    ("account", "asked", "default", "spoken"),
    [
        ("A0000003", None, "en", "en"),
        ("A0000003", None, "de", "de"),
        ("A0000000", None, "en", "de"),
        ("A0000002", None, "en", "de"),  # Austrian German is German
        ("A0000000", "en-GB", "de", "en"),
        ("A0000000", "fr", "en", "de"),  # nobody speaks French here: the account's
        ("A0000001", "fr", "en", "en"),  # nor does it help that the account does
        (None, "DE", "en", "de"),
    ],
)
def test_the_language_is_the_requests_else_the_accounts_else_the_servers(
    account: str | None, asked: str | None, default: str, spoken: str
) -> None:
    slate = ENGINE.recommend(OfferRequest(account, limit=3, language=asked, default_language=default))
    assert slate.language == spoken
    words = {"en": "You|New|Popular|Something", "de": "Sie|Neu|Beliebt|Zurzeit|Bei|Etwas"}[spoken].split("|")
    assert all(offer.reason_for_shopper.startswith(tuple(words)) for offer in slate.offers)


@pytest.mark.parametrize("tag", ["German", "d", "de_AT", "de-", "12", "de\n"])
def test_a_tag_that_is_none_is_refused(tag: str) -> None:
    with pytest.raises(ConfigError, match="must be a tag such as 'de'"):
        ENGINE.recommend(OfferRequest(language=tag))


def test_numbers_and_shares_are_written_as_the_language_writes_them() -> None:
    n_both, n_antecedent = np.full_like(MODEL.rules.n_both, 1_404), np.full_like(MODEL.rules.n_both, 12_040)
    rules = replace(MODEL.rules, n_both=n_both, n_antecedent=n_antecedent)
    products = replace(MODEL.products, n_orders=np.full_like(MODEL.products.n_orders, 7))
    facts = MODEL.facts.model_copy(update={"n_orders": 1_000})
    engine = OfferEngine(replace(MODEL, rules=rules, products=products, facts=facts))
    english, german = (first(engine, language) for language in ("en", "de"))
    product, anchor = english.name, english.from_product_name
    assert english.reason == f"{product} was in 1,404 of 12,040 orders with {anchor}; 0.7 % overall"
    assert german.reason == f"{product} war in 1.404 von 12.040 Bestellungen mit {anchor}; insgesamt 0,7 %"
    assert german.reason_for_shopper == f"Sie haben {anchor} gewählt; andere bestellen {product} dazu"
    assert english.reason_code == german.reason_code == "bought_together"
    assert english.evidence == german.evidence


def first(engine: OfferEngine, language: str) -> Offer:
    request = OfferRequest(cart=(CartLine("P000010"),), kinds=("cross_sell",), explain="full", language=language)
    return engine.recommend(request).offers[0]


def test_no_explanation_leaves_both_texts_out_and_keeps_the_code() -> None:
    for offer in ENGINE.recommend(OfferRequest("A0000000", explain="none")).offers:
        assert (offer.reason, offer.reason_for_shopper, offer.evidence) == ("", "", {})
        assert offer.reason_code in get_args(ReasonCode)


@pytest.mark.parametrize("cart", [(), (CartLine("P000003"),)], ids=["no cart", "a cart"])
def test_what_few_have_bought_claims_nothing_of_earlier_purchases(cart: tuple[CartLine, ...]) -> None:
    """Before, it was "close to what was bought before", to an anonymous visitor who had bought nothing."""
    engine = OfferEngine(MODEL, RankingConfig(least_buyers=1_000_000))
    asked = OfferRequest(cart=cart, limit=20)
    told = {offer.product_id: offer for offer in engine.recommend(asked).offers if offer.reason_code == "few_yet"}
    assert told
    for offer in told.values():
        assert offer.reason == f"few have bought {offer.name or offer.product_id} yet, too few to be counted"
