"""Every count that a reason speaks, recomputed by a pandas query over the training orders."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

from recsys.contracts import columns as c
from recsys.contracts.offers import CartLine, Offer, OfferRequest
from recsys.data.history import History
from recsys.fitting.assembly import LearnedParts, OfferModelConfig, build_offer_model
from recsys.fitting.copurchases import EvidenceConfig
from recsys.models.candidates import Candidates
from recsys.ranking.engine import OfferEngine

pytestmark = pytest.mark.slow

START, AS_OF = datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
N_ACCOUNTS, N_PRODUCTS = 300, 40
WINDOW_DAYS = 45


@dataclass(frozen=True)
class Market:
    """Orders as a frame, and the engine made of them."""

    lines: pd.DataFrame
    segments: pd.Series
    engine: OfferEngine


@pytest.fixture(scope="module")
def market() -> Market:
    rng = np.random.default_rng(20)
    lines = random_lines(rng)
    accounts = pd.DataFrame({c.ACCOUNT_ID: [f"A{row:03d}" for row in range(N_ACCOUNTS)]})
    accounts[c.SEGMENT] = np.where(np.arange(N_ACCOUNTS) % 3 == 0, "office", "shop")
    accounts.loc[accounts.index % 50 == 7, c.SEGMENT] = "rare"  # six accounts: too few for a list of their own
    products = pd.DataFrame({c.PRODUCT_ID: [f"P{row:02d}" for row in range(N_PRODUCTS)]})
    products[c.NAME] = "thing " + products[c.PRODUCT_ID]
    history = History.from_frame(lines)
    model = build_offer_model(
        history,
        products,
        accounts,
        LearnedParts(
            cross=novel(history, rng),
            up=upgrades(history),
            rules=pair_rules(lines[lines[c.ORDERED_AT] < AS_OF]),
            ladder=edges(),
        ),
        OfferModelConfig(evidence=EvidenceConfig(window_days=WINDOW_DAYS)),
        as_of=AS_OF,
        horizon_days=30,
        currency="EUR",
    )
    model.check()
    segments = accounts.set_index(c.ACCOUNT_ID)[c.SEGMENT]
    # The history holds later lines too: the model must not have used them, and the queries do not see them.
    before = lines[lines[c.ORDERED_AT] < AS_OF]
    assert len(before) < len(lines)
    return Market(before, segments[segments != "rare"], OfferEngine(model))


def random_lines(rng: np.random.Generator) -> pd.DataFrame:
    """Orders over a year; whoever buys an even product is likely to buy the next one a few weeks later."""
    rows = []
    for order in range(1_800):
        account = int(rng.integers(N_ACCOUNTS)) if rng.random() < 0.8 else None
        at = START + timedelta(hours=int(rng.integers(24 * 364)))
        for product in rng.choice(N_PRODUCTS, size=int(rng.integers(1, 4)), replace=False, p=popularity()):
            rows.append((order, account, int(product), at))
            if product % 2 == 0 and account is not None and rng.random() < 0.5:
                rows.append((10_000 + order, account, int(product) + 1, at + timedelta(days=int(rng.integers(1, 60)))))
    frame = pd.DataFrame(rows, columns=["order", "account", "product", c.ORDERED_AT])
    return pd.DataFrame(
        {
            c.ORDER_ID: "O" + frame["order"].astype(str),
            c.ACCOUNT_ID: [None if np.isnan(row) else f"A{int(row):03d}" for row in frame["account"].astype(float)],
            c.PRODUCT_ID: [f"P{row:02d}" for row in frame["product"]],
            c.ORDERED_AT: frame[c.ORDERED_AT],
            c.QUANTITY: 1.0,
            c.UNIT_PRICE: 2.0 + frame["product"] % 2,  # the product that is gone on to costs more
        }
    )


def popularity() -> np.ndarray:
    weight = 1.0 / (3 + np.arange(N_PRODUCTS))
    return weight / weight.sum()


def novel(history: History, rng: np.random.Generator) -> Candidates:
    """Ten products that each account does not own, in random order."""
    owned = history.owned().toarray() > 0
    picks = [rng.permutation(np.flatnonzero(~row))[:10] for row in owned]
    account = np.repeat(np.arange(len(picks)), [len(pick) for pick in picks]).astype(np.int32)
    product = np.concatenate(picks).astype(np.int32)
    place = np.concatenate([np.arange(len(pick)) for pick in picks])
    return candidates(account, product, np.full(len(product), -1), -place, 0.2 / (place + 1))


def upgrades(history: History) -> Candidates:
    """From each even product that an account owns to the next, where it does not own that."""
    owned = history.owned().toarray() > 0
    account, lower = np.nonzero(owned[:, 0::2] & ~owned[:, 1::2])
    keep = np.concatenate([[True], account[1:] != account[:-1]])
    account, lower = account[keep], lower[keep] * 2
    n = len(account)
    return candidates(account, lower + 1, lower, np.zeros(n), np.full(n, 0.1))


def edges() -> pd.DataFrame:
    """Each even product is a rung below the next."""
    lower = range(0, N_PRODUCTS, 2)
    ids = {c.FROM_PRODUCT_ID: [f"P{row:02d}" for row in lower], c.TO_PRODUCT_ID: [f"P{row + 1:02d}" for row in lower]}
    return pd.DataFrame({**ids, c.CLIMB_RATE: 0.1, c.N_STANDING: 10, c.N_CLIMBED: 1})


def candidates(account: Any, product: Any, lower: Any, score: Any, probability: Any) -> Candidates:
    return Candidates(
        np.asarray(account, dtype=np.int32),
        np.asarray(product, dtype=np.int32),
        np.asarray(lower, dtype=np.int32),
        np.asarray(score, dtype=np.float32),
        np.asarray(probability, dtype=np.float32),
        np.ones(len(account), dtype=np.float32),
    )


def pair_rules(lines: pd.DataFrame) -> pd.DataFrame:
    """All pairs that stand together in an order, as complements."""
    once = lines[[c.ORDER_ID, c.PRODUCT_ID]].drop_duplicates()
    pairs = once.merge(once, on=c.ORDER_ID, suffixes=("_a", "_b"))
    pairs = pairs[pairs["product_id_a"] != pairs["product_id_b"]]
    counts = pairs.groupby(["product_id_a", "product_id_b"]).size().rename(c.N_BOTH).reset_index()
    n_orders = once.groupby(c.PRODUCT_ID).size()
    n_antecedent = n_orders.loc[counts["product_id_a"]].to_numpy()
    return pd.DataFrame(
        {
            c.ANTECEDENT_ID: counts["product_id_a"],
            c.CONSEQUENT_ID: counts["product_id_b"],
            c.N_BOTH: counts[c.N_BOTH],
            c.N_ANTECEDENT: n_antecedent,
            c.CONFIDENCE: counts[c.N_BOTH] / n_antecedent,
            c.RELATION: "complement",
        }
    )


class Query:
    """The questions behind the reasons, asked of the frame of lines."""

    def __init__(self, market: Market) -> None:
        self.lines = market.lines
        self.segments = market.segments
        known = self.lines.dropna(subset=[c.ACCOUNT_ID])
        self.first = known.groupby([c.ACCOUNT_ID, c.PRODUCT_ID])[c.ORDERED_AT].min().reset_index()
        self.n_orders = self.lines[c.ORDER_ID].nunique()
        self.orders_of = {str(product): frozenset(ids) for product, ids in self.lines.groupby(c.PRODUCT_ID)[c.ORDER_ID]}
        self.bought = cache(self._bought)
        self.followed = cache(self._followed)
        self.follow_ons_overall = cache(self._follow_ons_overall)
        self.buyers_of = cache(self._buyers_of)

    def peers(self, group: str) -> pd.DataFrame:
        if group == "all accounts":
            return self.first
        members = self.segments.index[self.segments == group.removeprefix("segment ")]
        return self.first[self.first[c.ACCOUNT_ID].isin(members)]

    def _bought(self, group: str, product: str) -> pd.Series:
        peers = self.peers(group)
        return peers[peers[c.PRODUCT_ID] == product].set_index(c.ACCOUNT_ID)[c.ORDERED_AT]

    def _followed(self, group: str, anchor: str, product: str) -> int:
        gap = self.bought(group, product) - self.bought(group, anchor)  # nothing where an account lacks one of them
        return int(((gap > timedelta(0)) & (gap <= timedelta(days=WINDOW_DAYS))).sum())

    def _follow_ons_overall(self, product: str) -> int:
        both = self.first.merge(self.bought("all accounts", product).rename("then"), on=c.ACCOUNT_ID)
        gap = both["then"] - both[c.ORDERED_AT]
        return int(((gap > timedelta(0)) & (gap <= timedelta(days=WINDOW_DAYS))).sum())

    def buyers_since(self, group: str, product: str, days: int) -> int:
        known = self.lines[self.lines[c.ORDERED_AT] >= AS_OF - timedelta(days=days)]
        members = set(self.peers(group)[c.ACCOUNT_ID])
        buyers = known.loc[known[c.PRODUCT_ID] == product, c.ACCOUNT_ID].dropna()
        return len(set(buyers) & members)

    def orders_with(self, *products: str) -> frozenset[str]:
        return frozenset.intersection(*(self.orders_of[product] for product in products))

    def _buyers_of(self, orders: frozenset[str]) -> int:
        lines = self.lines[self.lines[c.ORDER_ID].isin(orders)].drop_duplicates(c.ORDER_ID)
        return lines[c.ACCOUNT_ID].nunique() + int(lines[c.ACCOUNT_ID].isna().sum())


def check_follow_on(query: Query, offer: Offer) -> None:
    told = offer.evidence
    group, anchor = str(told["peer_group"]), str(told["anchor_product_id"])
    assert told["window_days"] == WINDOW_DAYS
    assert told["n_peers"] == len(query.bought(group, anchor))
    assert told["n_buyers"] == query.followed(group, anchor, offer.product_id)
    assert told["n_follow_ons_overall"] == query.follow_ons_overall(offer.product_id)
    assert told["n_purchases_overall"] == len(query.first)
    assert int(told["n_buyers"]) >= 10


def check_popularity(query: Query, offer: Offer) -> None:
    told, group = offer.evidence, str(offer.evidence["peer_group"])
    assert told["n_peers"] == query.peers(group)[c.ACCOUNT_ID].nunique()
    assert told["n_buyers"] == len(query.bought(group, offer.product_id))
    assert int(told["n_buyers"]) >= 10


def check_lately(query: Query, offer: Offer) -> None:
    told, group = offer.evidence, str(offer.evidence["peer_group"])
    assert told["n_peers"] == query.peers(group)[c.ACCOUNT_ID].nunique()
    assert told["n_buyers"] == query.buyers_since(group, offer.product_id, int(told["window_days"]))
    assert int(told["n_buyers"]) >= 10


def check_cart(query: Query, offer: Offer) -> None:
    told, anchor = offer.evidence, str(offer.evidence["anchor_product_id"])
    together = query.orders_with(anchor, offer.product_id)
    assert told["n_orders_with_both"] == len(together)
    assert told["n_orders_with_anchor"] == len(query.orders_with(anchor))
    assert told["n_orders_overall"] == len(query.orders_with(offer.product_id))
    assert told["n_orders"] == query.n_orders
    assert query.buyers_of(together) >= 10


CHECKS: dict[str, Callable[[Query, Offer], None]] = {
    "bought_together": check_cart,
    "bought_next": check_follow_on,
    "upgraded": check_follow_on,
    "popular_with_peers": check_popularity,
    "popular": check_popularity,
    "popular_lately": check_lately,
}
UNCOUNTED = {"higher_version", "few_yet"}


def served(engine: OfferEngine, lines: pd.DataFrame) -> Iterator[Offer]:
    accounts = sorted(lines[c.ACCOUNT_ID].dropna().unique())
    for row, account in enumerate(accounts[:60]):
        cart: tuple[CartLine, ...] = (CartLine(f"P{row % 12:02d}"),) if row % 3 == 0 else ()
        yield from engine.recommend(OfferRequest(account_id=account, cart=cart, limit=5, explain="full")).offers
    for cart in ((), (CartLine("P01"), CartLine("P02"))):
        yield from engine.recommend(OfferRequest(cart=cart, limit=8, explain="full")).offers


def test_two_hundred_served_reasons_equal_a_query(market: Market) -> None:
    query, codes = Query(market), list[str]()
    for offer in served(market.engine, market.lines):
        code = str(offer.reason_code)
        codes.append(code)
        if code in UNCOUNTED:
            assert not {name for name in offer.evidence if name.startswith("n_")}
        else:
            CHECKS[code](query, offer)
    counts = pd.Series(codes).value_counts()
    assert counts.drop(labels=list(UNCOUNTED), errors="ignore").sum() >= 200
    assert set(counts.index) >= {"bought_together", "bought_next", "popular_lately"}, counts.to_dict()


def test_the_sentence_speaks_the_counts_of_its_evidence(market: Market) -> None:
    for offer in served(market.engine, market.lines):
        spoken = [
            int(text.replace(",", ""))
            for text in re.findall(r"(?<![\w.])\d[\d,]*(?= of| accounts| orders)", offer.reason)
        ]
        silent = {"n_orders_overall", "n_orders", "n_follow_ons_overall", "n_purchases_overall"}  # the share says them
        counts = [value for name, value in offer.evidence.items() if name.startswith("n_") and name not in silent]
        assert sorted(spoken) == sorted(int(value) for value in counts), offer
        assert f"thing {offer.product_id}" in offer.reason


def test_an_upgrade_is_explained_by_the_rung_it_starts_from(market: Market) -> None:
    accounts = sorted(market.lines[c.ACCOUNT_ID].dropna().unique())
    offers = [
        offer
        for account in accounts
        for offer in market.engine.recommend(OfferRequest(account, kinds=("upsell",), explain="full")).offers
    ]
    assert len(offers) > 50
    assert {offer.reason_code for offer in offers} <= {"upgraded", "higher_version", "popular_lately"}
    anchored = [offer for offer in offers if "anchor_product_id" in offer.evidence]
    assert all(offer.evidence["anchor_product_id"] == offer.from_product_id for offer in anchored)
    for offer in anchored:
        words = {"upgraded": "went on to", "higher_version": "is a higher-value version of"}[str(offer.reason_code)]
        assert words in offer.reason
        assert offer.from_product_name == f"thing {offer.from_product_id}"


def test_an_upgrade_from_the_cart_of_someone_unknown_is_explained_by_everyone(market: Market) -> None:
    query, explained = Query(market), 0
    for row in range(0, N_PRODUCTS, 2):
        request = OfferRequest(cart=(CartLine(f"P{row:02d}"),), kinds=("upsell",), explain="full")
        for offer in market.engine.recommend(request).offers:
            assert offer.evidence["anchor_product_id"] == offer.from_product_id == f"P{row:02d}"
            if offer.reason_code == "upgraded":
                assert offer.evidence["peer_group"] == "all accounts"
                check_follow_on(query, offer)
                explained += 1
    assert explained >= 5


def test_accounts_of_a_rare_segment_are_compared_with_everyone(market: Market) -> None:
    for account in ("A007", "A057"):
        for offer in market.engine.recommend(OfferRequest(account, limit=5, explain="full")).offers:
            assert offer.evidence.get("peer_group", "all accounts") == "all accounts"
            assert "rare" not in offer.reason


def test_the_anchor_is_what_the_account_bought_lately_with_the_largest_lift(market: Market) -> None:
    """By lower ends of intervals, in its own segment first; what stands in orders together counts beside it."""
    query, found = Query(market), 0
    for account in [f"A{row:03d}" for row in range(1, 40, 3)]:
        own = f"segment {market.segments[account]}" if account in market.segments else "all accounts"
        present = familiarity(query.lines, account)
        request = OfferRequest(account, kinds=("cross_sell",), explain="full")
        for offer in market.engine.recommend(request).offers:
            if offer.tier != "account":
                continue
            best, scores = "", dict[str, float]()
            for group in (own, "all accounts"):
                lifts = {
                    anchor: max(follow_lift(query, group, anchor, offer), together_lift(query, anchor, offer))
                    for anchor in present
                }
                scores = {anchor: lifts[anchor] * (1 + present[anchor]) for anchor in present}
                best = max(scores, key=lambda anchor: (scores[anchor], anchor))
                if scores[best] > 0:
                    break
            is_counted = offer.reason_code in ("bought_together", "bought_next")
            assert is_counted == (scores[best] > 0)
            if is_counted:
                assert scores[str(offer.from_product_id)] == pytest.approx(scores[best])
                found += 1
    assert found >= 5
    assert market.engine.model.facts.n_first_purchases == len(query.first)


def familiarity(lines: pd.DataFrame, account: str) -> dict[str, float]:
    """1 for what stands in the three latest orders, else the share of orders that hold it."""
    mine = lines[lines[c.ACCOUNT_ID] == account]
    placed = mine.groupby(c.ORDER_ID)[c.ORDERED_AT].max().sort_values(ascending=False)
    latest = set(mine.loc[mine[c.ORDER_ID].isin(placed.index[:3]), c.PRODUCT_ID])
    shares = mine.groupby(c.PRODUCT_ID)[c.ORDER_ID].nunique() / len(placed)
    return {str(product): 1.0 if product in latest else float(share) for product, share in shares.sort_index().items()}


def follow_lift(query: Query, group: str, anchor: str, offer: Offer) -> float:
    hits = query.followed(group, anchor, offer.product_id)
    base = query.follow_ons_overall(offer.product_id) / len(query.first)
    return lift(hits, len(query.bought(group, anchor)), base, hits)


def together_lift(query: Query, anchor: str, offer: Offer) -> float:
    both = query.orders_with(anchor, offer.product_id)
    base = len(query.orders_with(offer.product_id)) / query.n_orders
    return lift(len(both), len(query.orders_with(anchor)), base, query.buyers_of(both))


def lift(hits: int, n: int, base: float, n_buyers: int) -> float:
    if n_buyers < 10:
        return 0.0
    z, p = 1.959964, hits / n
    low = (p + z * z / (2 * n) - z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))) / (1 + z * z / n)
    return low / base if low > base else 0.0
