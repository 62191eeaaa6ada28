"""Every way to ask for offers takes the same options by the same names: routes, clients, command and library."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest

from recsys.cli.recommend import recommend_command
from recsys.client import AsyncOfferClient, OfferClient
from recsys.client._calls import ProductPage
from recsys.contracts.offers import OfferRequest
from recsys.recommender import Recommender
from serving.schemas.offers import AccountOffersQuery, OffersBody, ProductOffersQuery


def parameters(function: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(function).parameters) - {"self"}


OPTIONS = {field.name for field in fields(OfferRequest)}
OF_THE_FILE = {"model", "out", "log", "store", "tracking_uri"}
WAYS = {
    "POST /v1/offers": set(OffersBody.model_fields),
    "GET /v1/accounts/{id}/offers": set(AccountOffersQuery.model_fields),
    "GET /v1/products/{id}/complements": set(ProductOffersQuery.model_fields),
    "client, offers": OPTIONS,
    "client, complements": set(ProductPage.__annotations__),
    "offers recommend": parameters(recommend_command) - OF_THE_FILE,
    "Recommender.recommend": parameters(Recommender.recommend) - {"k"},
    "Recommender.recommend_all": parameters(Recommender.recommend_all) - {"k", "account_ids"},
}


@pytest.mark.parametrize("way", WAYS)
def test_what_shapes_an_answer_can_be_asked_in_every_way(way: str) -> None:
    assert WAYS[way] >= {"mix", "variants", "language"}


@pytest.mark.parametrize("way", WAYS)
def test_an_option_has_one_name(way: str) -> None:
    of_a_visit = {"visitor_id", "experiment_id", "filters"}
    assert WAYS[way] - OPTIONS <= of_a_visit


@pytest.mark.parametrize("client", [OfferClient, AsyncOfferClient])
@pytest.mark.parametrize("page", ["complements", "upgrades"])
def test_a_client_asks_a_products_page_for_all_that_its_route_takes(client: type, page: str) -> None:
    assert parameters(getattr(client, page)) == {"product_id", "deadline_ms", "options"}
    assert WAYS["client, complements"] == WAYS["GET /v1/products/{id}/complements"]


def test_both_clients_have_the_same_calls() -> None:
    names = [name for name in vars(OfferClient) if not name.startswith("_") and name != "queue"]
    assert names
    for name in names:
        assert parameters(getattr(OfferClient, name)) == parameters(getattr(AsyncOfferClient, name)), name


def test_many_accounts_are_asked_for_as_one_is() -> None:
    assert WAYS["Recommender.recommend_all"] == WAYS["Recommender.recommend"] - {"account_id", "cart"}
