"""Products that differ in a colour alone: not among the first beside one of them, unless they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from recsys.contracts.offers import EMPTY_STATE, CartLine, OfferRequest, Slate
from recsys.ranking.config import DiversityConfig, RankingConfig
from recsys.ranking.engine import OfferEngine
from recsys.ranking.why_not import why_not
from tests.support.synthetic_model import SyntheticModelConfig, synthetic_model

PLAIN = synthetic_model(SyntheticModelConfig(n_accounts=30, n_products=90), np.random.default_rng(3))
GROUP = np.where(np.arange(90) % 2 == 0, np.arange(90) // 10 + 1, 0).astype(np.int32)
MODEL = replace(PLAIN, products=replace(PLAIN.products, variant_group=GROUP))
ENGINE = OfferEngine(MODEL)
LATE = OfferEngine(MODEL, RankingConfig(diversity=DiversityConfig(variant_ranks=12)))
IDS = list(MODEL.products.ids)
ACCOUNTS = list(MODEL.accounts.ids)


def groups(slate: Slate, kind: str | None = None, ranks: int = 20) -> list[int]:
    rows = [IDS.index(offer.product_id) for offer in slate.offers[:ranks] if kind in {None, offer.kind}]
    return [int(GROUP[row]) for row in rows if GROUP[row]]


def asked_beside() -> Iterator[tuple[int, OfferRequest]]:
    """A cart and a page of each group, and the group."""
    for row, account_id in enumerate(ACCOUNTS):
        request = OfferRequest(account_id, limit=20)
        yield int(GROUP[row * 2]), replace(request, cart=(CartLine(IDS[row * 2]),))
        yield int(GROUP[row * 2]), replace(request, viewed_product_id=IDS[row * 2])


def test_the_first_ranks_have_one_of_a_group() -> None:
    n_kept = 0
    for account_id in ACCOUNTS:
        request = OfferRequest(account_id, limit=20)
        found = groups(ENGINE.recommend(request), ranks=4)
        kept = groups(ENGINE.recommend(replace(request, variants="keep")), ranks=4)
        assert len(found) == len(set(found))
        n_kept += len(kept) - len(set(kept))
    assert n_kept > 5


def test_beside_a_cart_its_variants_come_after_the_first_ranks_and_say_so() -> None:
    n_before = n_waited = 0
    for group, request in asked_beside():
        slate, kept = LATE.recommend(request), LATE.recommend(replace(request, variants="keep"))
        assert group not in groups(slate, "cross_sell", ranks=12)
        assert slate.offers[:4] == LATE.recommend(replace(request, limit=4)).offers
        n_before += group in groups(kept, "cross_sell", ranks=12)
        waited = [offer for offer in slate.offers if offer.moved_by == "variants"]
        assert all(offer.rank > 12 for offer in waited)
        n_waited += group in [int(GROUP[IDS.index(offer.product_id)]) for offer in waited]
    assert min(n_before, n_waited) > 5


def test_what_had_to_wait_follows_the_first_ranks_and_says_so() -> None:
    n_waited = 0
    for account_id in ACCOUNTS:
        offers = ENGINE.recommend(OfferRequest(account_id, limit=20, mix="none")).offers
        waited = [offer for offer in offers if offer.moved_by == "variants"]
        assert all(offer.rank > 4 for offer in waited)
        kept = ENGINE.recommend(OfferRequest(account_id, limit=90, mix="none", variants="keep")).offers
        assert {offer.product_id for offer in waited} <= {offer.product_id for offer in kept}
        n_waited += len(waited)
    assert n_waited > 5


@pytest.mark.parametrize("ranks", [0, 2, 20])
def test_how_many_ranks_are_the_first_is_an_option(ranks: int) -> None:
    engine = OfferEngine(MODEL, RankingConfig(diversity=DiversityConfig(variant_ranks=ranks)))
    doubled = 0
    for account_id in ACCOUNTS:
        slate = engine.recommend(OfferRequest(account_id, limit=20))
        first, found = groups(slate, ranks=ranks), groups(slate)
        assert len(first) == len(set(first))
        doubled += len(found) - len(set(found))
    assert bool(doubled) == (ranks < 20)


def test_the_configuration_decides_where_a_request_does_not() -> None:
    keeping = OfferEngine(MODEL, RankingConfig(diversity=DiversityConfig(variants="keep")))
    for account_id in ACCOUNTS:
        request = OfferRequest(account_id, limit=20)
        assert keeping.recommend(request) == ENGINE.recommend(replace(request, variants="keep"))
        assert keeping.recommend(replace(request, variants="leave_out")) == ENGINE.recommend(request)


def test_raw_is_the_rankers_own_order_with_all_variants() -> None:
    for account_id in ACCOUNTS:
        slate = ENGINE.recommend(OfferRequest(account_id, limit=20, raw=True))
        assert (slate.mix, slate.variants) == ("none", "keep")
        assert slate.offers == OfferEngine(PLAIN).recommend(OfferRequest(account_id, limit=20, raw=True)).offers


def test_why_not_names_the_variant_that_is_there() -> None:
    beside = [OfferRequest(ACCOUNTS[row], cart=(CartLine(IDS[2 * row]),), limit=12) for row in range(30)]
    others: set[str] = set()
    for request in [OfferRequest(account_id, limit=12) for account_id in ACCOUNTS] + beside:
        for row in np.flatnonzero(GROUP > 0).tolist():
            told = why_not(LATE, request, EMPTY_STATE, IDS[row], {})
            if told.code == "near_duplicate" and GROUP[IDS.index(str(told.values["other"]))] == GROUP[row]:
                in_cart = [line.product_id for line in request.cart]
                others.add("cart" if told.values["other"] in in_cart else "offers")
    assert others == {"cart", "offers"}
