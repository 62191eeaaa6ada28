"""A model of any size without training."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from pydantic import Field

from recsys.contracts.config import Config
from recsys.offer_model.facts import ModelFacts
from recsys.offer_model.tables import (
    AccountTable,
    CandidateTable,
    CartCurve,
    CartTable,
    EvidenceTable,
    FallbackTable,
    Int32,
    Int64,
    LadderTable,
    NameTable,
    OfferModel,
    OwnedTable,
    PriceTable,
    ProductTable,
    RuleTable,
    SegmentTable,
    SubstituteTable,
    noisy_or_curve,
)
from recsys.offer_model.utf8_column import Utf8Column


class SyntheticModelConfig(Config):
    """The size of a synthetic model.

    Attributes:
        n_accounts: accounts, ids `A0000000` and on.
        n_products: products, ids `P000000` and on.
        n_segments: segments of accounts.
        n_categories: categories of products, of equal size.
        candidates_per_account: cross-sell candidates; a tenth as many upgrades come on top.
        owned_per_account: products bought.
        links_per_product: rules and cart weights of each product.
        fallback_size: popular products a segment.
    """

    n_accounts: int = Field(default=50, ge=0)
    n_products: int = Field(default=100, ge=20)
    n_segments: int = Field(default=2, ge=0)
    n_categories: int = Field(default=5, ge=1)
    candidates_per_account: int = Field(default=20, ge=0)
    owned_per_account: int = Field(default=5, ge=0)
    links_per_product: int = Field(default=10, ge=0)
    fallback_size: int = Field(default=50, ge=1)


def synthetic_model(config: SyntheticModelConfig, rng: np.random.Generator) -> OfferModel:
    """Return a model whose tables fit together; its numbers are drawn, not learned.

    Of every ten products, the first is a rung below the second, and the third and fourth are substitutes.
    """
    n_products = config.n_products
    pairs = _Pairs.of(n_products)
    owned, cross, rungs = _shelves(config, rng)
    evidence, table = _evidence(cross, owned, config, rng)
    return OfferModel(
        facts=ModelFacts(
            as_of="2026-01-01T00:00:00+00:00",
            horizon_days=30,
            currency="EUR",
            n_accounts=config.n_accounts,
            n_orders=config.n_accounts * 10,
            n_first_purchases=config.n_accounts * config.owned_per_account,
            fallback_window_days=30,
        ),
        products=_products(config, pairs, rng),
        accounts=_accounts(config, rng, owned.shape[1], cross.shape[1] + rungs.shape[1]),
        candidates=_candidates(cross, rungs, owned, evidence),
        owned=OwnedTable(
            product=owned.ravel(),
            owned=np.ones(owned.size, dtype=bool),
            n_orders=rng.integers(1, 5, owned.size).astype(np.int32),
        ),
        rules=_rules(config, rng),
        substitutes=SubstituteTable(pairs.other_substitute),
        cart=CartTable(
            consequent=_linked(config).ravel(),
            weight=rng.uniform(0.01, 0.3, n_products * config.links_per_product).astype(np.float32),
            lift=rng.uniform(-0.01, 0.3, n_products * config.links_per_product).astype(np.float32),
        ),
        cart_curve=_curves(),
        ladder=LadderTable(
            to_product=pairs.upper,
            climb_rate=np.full(len(pairs.upper), 0.1, dtype=np.float32),
            n_standing=np.full(len(pairs.upper), 100, dtype=np.int32),
            n_climbed=np.full(len(pairs.upper), 10, dtype=np.int32),
            evidence=np.full(len(pairs.upper), -1, dtype=np.int32),
        ),
        segments=_segments(config),
        fallback=_fallback(config),
        evidence=table,
        categories=NameTable(Utf8Column.of([f"category {row}" for row in range(config.n_categories)])),
        families=NameTable(Utf8Column.of([f"family {row}" for row in range(n_products // 10)])),
    )


@dataclass(frozen=True)
class _Pairs:
    """Which products are rungs and which are substitutes, by row."""

    ladder_count: Int32
    upper: Int32
    substitute_count: Int32
    other_substitute: Int32

    @classmethod
    def of(cls, n_products: int) -> _Pairs:
        digit = np.arange(n_products) % 10
        whole = np.arange(n_products) < n_products - n_products % 10
        lower, third, fourth = (np.flatnonzero((digit == wanted) & whole) for wanted in (0, 2, 3))
        substitutes = np.sort(np.concatenate([third, fourth]))
        return cls(
            ladder_count=((digit == 0) & whole).astype(np.int32),
            upper=(lower + 1).astype(np.int32),
            substitute_count=(((digit == 2) | (digit == 3)) & whole).astype(np.int32),
            other_substitute=np.where(substitutes % 10 == 2, substitutes + 1, substitutes - 1).astype(np.int32),
        )


def _shelves(config: SyntheticModelConfig, rng: np.random.Generator) -> tuple[Int32, Int32, Int32]:
    """Return what each account owns (sorted), its cross-sell and its upgrade candidates, all different."""
    n_rungs = config.candidates_per_account // 10
    sizes = np.array([config.owned_per_account, config.candidates_per_account, n_rungs])
    total = min(int(sizes.sum()), config.n_products)
    first = rng.integers(0, config.n_products, config.n_accounts)[:, None]
    shelf = ((first + np.arange(total)) % config.n_products).astype(np.int32)
    owned, cross, rungs = np.split(shelf, np.minimum(np.cumsum(sizes), total)[:2], axis=1)
    return np.sort(owned, axis=1), cross, rungs


def _candidates(cross: Int32, rungs: Int32, owned: Int32, evidence: Int32) -> CandidateTable:
    n_accounts, n_cross = cross.shape
    n_rungs = rungs.shape[1] if owned.shape[1] else 0
    position = np.concatenate([np.arange(n_cross), np.arange(n_rungs)])
    lower = np.resize(owned, (n_accounts, n_rungs)) if n_rungs else rungs[:, :0]
    from_product = np.concatenate([np.full_like(cross, -1), lower], axis=1)
    return CandidateTable(
        product=np.concatenate([cross, rungs[:, :n_rungs]], axis=1).ravel(),
        from_product=from_product.ravel(),
        score=np.tile(-position.astype(np.float32), n_accounts),
        probability=np.tile((0.3 / (position + 2)).astype(np.float32), n_accounts),
        expected_quantity=np.ones(n_accounts * len(position), dtype=np.float32),
        evidence=np.concatenate([evidence, np.full_like(lower, -1)], axis=1).ravel(),
    )


def _evidence(
    cross: Int32, owned: Int32, config: SyntheticModelConfig, rng: np.random.Generator
) -> tuple[Int32, EvidenceTable]:
    """Return an evidence row for each cross-sell candidate, of one row an offered product."""
    n = config.n_products
    table = EvidenceTable(
        segment=np.zeros(n, dtype=np.int32),
        anchor=((np.arange(n) - 1) % n).astype(np.int32) if owned.size else np.full(n, -1, dtype=np.int32),
        product=np.arange(n, dtype=np.int32),
        n_anchor=rng.integers(50, 100, n).astype(np.int32),
        n_followed=rng.integers(5, 50, n).astype(np.int32),
        relation=(np.arange(n) % 4).astype(np.int8),
    )
    return cross, table


def _products(config: SyntheticModelConfig, pairs: _Pairs, rng: np.random.Generator) -> ProductTable:
    n = config.n_products
    digit = np.arange(n) % 10
    price = np.round(rng.lognormal(3, 0.5, n), 2) * np.where(digit == 1, 3.0, 1.0)
    links = np.full(n, config.links_per_product, dtype=np.int32)
    return ProductTable(
        ids=Utf8Column.of([f"P{row:06d}" for row in range(n)]),
        names=Utf8Column.of([f"Product {row}" for row in range(n)]),
        category=(np.arange(n) % config.n_categories).astype(np.int32),
        family=np.where((digit < 2) & (np.arange(n) // 10 < n // 10), np.arange(n) // 10, -1).astype(np.int32),
        tier=Utf8Column.of([""] * n),
        price=price,
        cost=np.round(price * rng.uniform(0.4, 0.8, n), 2),
        active=np.ones(n, dtype=bool),
        stock=np.full(n, np.nan),
        do_not_offer=np.zeros(n, dtype=bool),
        n_accounts=rng.integers(5, 500, n).astype(np.int32),
        n_orders=rng.integers(500, 2000, n).astype(np.int32),
        n_follow_ons=rng.integers(0, 100, n),
        usual_quantity=np.ones(n, dtype=np.float32),
        cart_prior=np.zeros(n, dtype=np.float32),
        rules_start=_starts(links),
        rules_count=links,
        cart_start=_starts(links),
        cart_count=links,
        ladder_start=_starts(pairs.ladder_count),
        ladder_count=pairs.ladder_count,
        substitutes_start=_starts(pairs.substitute_count),
        substitutes_count=pairs.substitute_count,
        details=Utf8Column.of([None] * n),
        variant_group=np.zeros(n, dtype=np.int32),
        held_back=np.zeros(n, dtype=np.float32),
    )


def _accounts(config: SyntheticModelConfig, rng: np.random.Generator, n_owned: int, n_candidates: int) -> AccountTable:
    n = config.n_accounts
    owned, candidates = np.full(n, n_owned, dtype=np.int32), np.full(n, n_candidates, dtype=np.int32)
    return AccountTable(
        ids=Utf8Column.of([f"A{row:07d}" for row in range(n)]),
        segment=rng.integers(0, config.n_segments + 1, n).astype(np.int32),
        do_not_offer=np.zeros(n, dtype=bool),
        n_orders=rng.integers(5, 20, n).astype(np.int32),  # no fewer than hold one product
        orders_in_horizon=rng.gamma(1.0, 0.5, n).astype(np.float32),
        candidates_start=_starts(candidates),
        candidates_count=candidates,
        owned_start=_starts(owned),
        owned_count=owned,
        names=Utf8Column.of([f"Account {row}" for row in range(n)]),
        language=Utf8Column.of([None] * n),
        lifetime_value=np.full(n, 100.0),
        lifetime_value_low=np.full(n, 50.0),
        lifetime_value_high=np.full(n, 200.0),
    )


def _linked(config: SyntheticModelConfig) -> Int32:
    """Return the consequents of each product, `(n_products, links_per_product)`, sorted."""
    steps = 7 * np.arange(1, config.links_per_product + 1)
    rows = (np.arange(config.n_products)[:, None] + steps) % config.n_products
    return np.sort(rows, axis=1).astype(np.int32)


def _rules(config: SyntheticModelConfig, rng: np.random.Generator) -> RuleTable:
    n_both = rng.integers(5, 50, config.n_products * config.links_per_product).astype(np.int32)
    return RuleTable(
        consequent=_linked(config).ravel(),
        n_both=n_both,
        n_antecedent=n_both * 5,
        n_buyers=n_both,
        relation=np.ones(len(n_both), dtype=np.int8),
    )


def _segments(config: SyntheticModelConfig) -> SegmentTable:
    n = config.n_segments + 1
    counts = np.full(n, min(config.fallback_size, config.n_products), dtype=np.int32)
    return SegmentTable(
        names=Utf8Column.of(["", *(f"segment {row}" for row in range(1, n))]),
        n_accounts=np.full(n, config.n_accounts // n, dtype=np.int32),
        fallback_start=_starts(counts),
        fallback_count=counts,
    )


def _fallback(config: SyntheticModelConfig) -> FallbackTable:
    size = min(config.fallback_size, config.n_products)
    lists = [(np.arange(size) * 3 + segment) % config.n_products for segment in range(config.n_segments + 1)]
    rank = np.tile(np.arange(size), config.n_segments + 1)
    return FallbackTable(
        product=np.concatenate(lists).astype(np.int32),
        probability=(0.1 / (rank + 1)).astype(np.float32),
        n_buyers=(1000 // (rank + 1)).astype(np.int32),
    )


def _starts(counts: Int32) -> Int64:
    return np.concatenate([[0], np.cumsum(counts[:-1], dtype=np.int64)]).astype(np.int64)[: len(counts)]


def _curves() -> CartCurve:
    """Carts of two lines and more have a lower curve; what an account never bought, a lower chance."""
    one = noisy_or_curve()
    lines = np.repeat(np.array([0, 2], dtype=np.int32), len(one.score))
    probability = np.concatenate([one.probability, one.probability / 2])
    return CartCurve(np.tile(one.score, 2), probability, lines, probability * 0.6, probability**0.7, probability * 0.9)


def with_price_breaks(model: OfferModel, rng: np.random.Generator) -> OfferModel:
    """Return the model with prices that depend on quantity and segment for every second product or so."""
    rows = []
    for product in np.flatnonzero(rng.random(len(model.products.ids)) < 0.5).tolist():
        price = rng.uniform(1, 40)
        for segment in np.flatnonzero(rng.random(len(model.segments.names)) < 0.7).tolist():
            least = np.unique(rng.integers(0, 12, rng.integers(1, 4)))
            least[0] = least[0] if segment == 0 else 0
            rows += [(product, segment, units, price * 0.9**place) for place, units in enumerate(least.tolist())]
    products, segments, quantities, prices = zip(*rows, strict=True)
    table = PriceTable(
        product=np.array(products, dtype=np.int32),
        segment=np.array(segments, dtype=np.int32),
        least_quantity=np.array(quantities, dtype=np.float64),
        price=np.array(prices, dtype=np.float64),
    )
    return replace(model, prices=table)
