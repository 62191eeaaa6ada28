"""What of the products table goes out with an offer, from the file to the answer, and what must not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from recsys.bundle.load import load_bundle
from recsys.bundle.save import save_bundle
from recsys.contracts import columns as c
from recsys.contracts.offers import OfferRequest, json_text
from recsys.data.dataset import Dataset
from recsys.errors import BundleCorruptError, ConfigError, DataError
from recsys.fitting.catalogue import check_catalogue, product_details
from recsys.fitting.products import Vocabulary
from recsys.offer_model.utf8_column import Utf8Column
from recsys.ranking.engine import OfferEngine
from serving.encoding import EncodingEngine
from tests.support.synthetic_model import SyntheticModelConfig, synthetic_model

MODEL = synthetic_model(SyntheticModelConfig(n_accounts=10, n_products=40), np.random.default_rng(2))
PRODUCTS = """product_id,name,name_de,name.fr,url,image_url,colour,article,supplier
P1,Mug,Becher,Tasse,https://shop.example/P1,/P1.jpg,red,0042,Hall
P2,Pot,,,,,,,
"""
ORDERS = """order_id,account_id,product_id,ordered_at,quantity,unit_price
1,A1,P1,2026-01-01,1,5
1,A1,P2,2026-01-01,1,9
"""


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    (tmp_path / "products.csv").write_text(PRODUCTS)
    (tmp_path / "orders.csv").write_text(ORDERS)
    return Dataset.read(tmp_path / "orders.csv", products=tmp_path / "products.csv").products


def details_of(frame: pd.DataFrame, *attributes: str) -> list[dict[str, Any] | None]:
    texts = product_details(Vocabulary.of(np.array([], dtype=object), frame[c.PRODUCT_ID]), frame, attributes)
    return [None if text is None else json.loads(text) for text in texts]


def test_addresses_and_names_pass_and_of_further_columns_those_that_are_named(table: pd.DataFrame) -> None:
    addresses = {"url": "https://shop.example/P1", "image_url": "/P1.jpg", "names": {"de": "Becher", "fr": "Tasse"}}
    assert details_of(table) == [addresses, None]
    named = details_of(table, "colour", "article")
    assert named == [addresses | {"attributes": {"colour": "red", "article": "0042"}}, None]  # a code stays a text


def test_numbers_and_flags_stay_what_they_are() -> None:
    frame = pd.DataFrame({c.PRODUCT_ID: ["P1", "P2"], "watts": [60, 40], "dim": [True, False], "kg": [0.5, np.nan]})
    assert details_of(frame, "watts", "dim", "kg") == [
        {"attributes": {"watts": 60, "dim": True, "kg": 0.5}},
        {"attributes": {"watts": 40, "dim": False}},
    ]


def test_an_offer_brings_them_in_the_language_that_is_spoken() -> None:
    text = json.dumps({"url": "/x", "names": {"de": "Becher"}, "attributes": {"colour": "red", "watts": 60}})
    details = Utf8Column.of([text] * len(MODEL.products.ids))
    engine = OfferEngine(replace(MODEL, products=replace(MODEL.products, details=details)))
    for language, name in (("de", "Becher"), ("en", None)):
        request = OfferRequest("A0000001", limit=5, explain="full", language=language)
        slate = engine.recommend(request)
        for offer in slate.offers:
            usual = MODEL.products.names[MODEL.products.ids.find(offer.product_id)]
            assert (offer.name, offer.url, offer.image_url) == (name or usual, "/x", None)
            assert offer.attributes == {"colour": "red", "watts": 60}
            assert offer.from_product_name == name or language == "en"
            assert (name or usual) in offer.reason
        answered = [json.loads(json_text(offer.answered())) for offer in slate.offers]
        assert json.loads(EncodingEngine(engine).answer(request).offers) == answered


@pytest.mark.parametrize(
    ("products", "accounts", "attributes", "fault"),
    [
        (
            {"colour": ["red"]},
            {},
            ("color",),
            r"offers.attributes has 'color', must name columns .* product_id, colour",
        ),
        ({c.URL: ["javascript:alert(1)"]}, {}, (), "url of product_id 'P1' is 'javascript"),
        ({c.IMAGE_URL: ["shop.example/a b"]}, {}, (), "must begin with https://"),
        ({}, {c.LANGUAGE: ["German"]}, (), "language of account_id 'A1' is 'German', must be a tag"),
    ],
)
def test_what_could_not_go_out_is_refused_before_anything_is_learned(
    products: dict[str, list[str]], accounts: dict[str, list[str]], attributes: tuple[str, ...], fault: str
) -> None:
    with pytest.raises((ConfigError, DataError), match=fault):
        check_catalogue(
            pd.DataFrame({c.PRODUCT_ID: ["P1"], **products}),
            pd.DataFrame({c.ACCOUNT_ID: ["A1"], **accounts}),
            attributes,
        )


def test_a_bundle_with_details_comes_back_and_one_with_broken_ones_is_refused(tmp_path: Path) -> None:
    texts: list[str | None] = [None] * len(MODEL.products.ids)
    texts[3] = '{"names": {"de": "Becher"}}'
    model = replace(MODEL, products=replace(MODEL.products, details=Utf8Column.of(texts)))
    save_bundle(tmp_path / "bundle", model)
    assert load_bundle(tmp_path / "bundle").engine().details.name(3, "de") == "Becher"
    for broken in ("[]", '{"url": 3}', '{"page": "x"}', "{"):
        texts[3] = broken
        with pytest.raises(BundleCorruptError, match=r"products\.details: row 3"):
            replace(MODEL, products=replace(MODEL.products, details=Utf8Column.of(texts))).check()
