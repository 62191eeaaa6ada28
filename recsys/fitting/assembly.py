"""From what was mined and learned to the tables of one offer model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from recsys.arrays import unique_sorted
from recsys.contracts import columns as c
from recsys.contracts.config import Config
from recsys.data.history import History, epoch_seconds
from recsys.fitting.accounts import (
    account_table,
    candidate_table,
    fallback_tables,
    familiarity,
    paces,
    purchases,
    segments_of,
    window_start,
)
from recsys.fitting.catalogue import product_details
from recsys.fitting.copurchases import CopurchaseLift, EvidenceConfig, FirstPurchases, copurchase_lift, rule_table
from recsys.fitting.evidence import Purchases, choose_evidence
from recsys.fitting.exposure import ExposureConfig, shares_held_back
from recsys.fitting.links import (
    CartWeights,
    cart_table,
    ladder_table,
    strongest_rules,
    substitute_table,
    weights_of_rules,
)
from recsys.fitting.nearness import Nearness
from recsys.fitting.prices import paid_prices
from recsys.fitting.products import Links, Vocabulary, price_table, product_table, row_of_entries
from recsys.ladder.upgrade_events import EdgeRows
from recsys.models.candidates import Candidates
from recsys.models.lifetime_value import COVERAGE, LifetimeValues, lifetime_values
from recsys.offer_model.facts import LifetimeValueFacts, ModelFacts
from recsys.offer_model.tables import (
    EVERYONE,
    CartCurve,
    CartTable,
    Float64,
    LadderTable,
    OfferModel,
    RuleTable,
    SubstituteTable,
)

_RULE_COLUMNS = (c.ANTECEDENT_ID, c.CONSEQUENT_ID, c.N_BOTH, c.N_ANTECEDENT, c.CONFIDENCE, c.RELATION)
_EDGE_COLUMNS = (c.FROM_PRODUCT_ID, c.TO_PRODUCT_ID, c.CLIMB_RATE, c.N_STANDING, c.N_CLIMBED)


class OfferModelConfig(Config):
    """What of the evidence a model keeps.

    Attributes:
        candidates_per_kind: candidates of one account and kind; enough for a slate of 20 when half are removed.
        rules_per_product: mined pairs of one antecedent, complements and substitutes first.
        cart_weights_per_product: cart weights of one antecedent; more than a slate, so that carts of several add up.
        fallback_size: popular products of one segment; a cart or an owned list never uses up two hundred.
        least_segment_accounts: accounts that a segment needs to have a list of its own.
        most_segments: segments that have lists and counts of their own, the largest; each costs a row of all products.
        owned_window_days: how long a purchase counts as owned, days; None: the whole history.
        owned_window_by_category: the same for single categories, days: consumables come back, machines stay.
        evidence: how reasons are counted.
        exposure: how many accounts may be shown one product first.
        attributes: further columns of the products table that go out with an offer; none by default, because what a
            table holds for the house alone (a supplier, a cost) must not reach a page by itself.
    """

    candidates_per_kind: int = Field(default=60, ge=1)
    rules_per_product: int = Field(default=200, ge=1)
    cart_weights_per_product: int = Field(default=200, ge=1)
    fallback_size: int = Field(default=200, ge=1)
    least_segment_accounts: int = Field(default=50, ge=1)
    most_segments: int = Field(default=50, ge=1)
    owned_window_days: int | None = Field(default=None, ge=1)
    owned_window_by_category: dict[str, int] = Field(default_factory=dict)
    evidence: EvidenceConfig = EvidenceConfig()
    exposure: ExposureConfig = ExposureConfig()
    attributes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LearnedParts:
    """What mining and propensity hand over.

    Attributes:
        cross: cross-sell candidates over the history's rows.
        up: upgrade candidates over the history's rows; None where there is no ladder.
        rules: mined pairs with the rule columns of `recsys.contracts.columns`; None where no orders were mined.
        ladder: upgrade edges `from_product_id to_product_id n_standing n_climbed climb_rate`; None without a ladder.
        cart: weights that rank cart add-ons; None: the noisy-or of the complements' confidences.
    """

    cross: Candidates
    up: Candidates | None = None
    rules: pd.DataFrame | None = None
    ladder: pd.DataFrame | None = None
    cart: CartWeights | None = None


def build_offer_model(
    history: History,
    products: pd.DataFrame,
    accounts: pd.DataFrame,
    learned: LearnedParts,
    config: OfferModelConfig,
    *,
    as_of: datetime,
    horizon_days: int,
    currency: str | None = None,
) -> OfferModel:
    """Return the offer model of a history and of what was learned from it.

    Args:
        history: the cleaned order lines; those at or after `as_of` are not used.
        products: the products table, one row an id; may lack any column but the id, and products without orders.
        accounts: the accounts table, one row an id; may be empty.
        learned: candidates, rules, ladder and cart weights.
        config: what is kept.
        as_of: the moment that the model is made for.
        horizon_days: the window of the candidates' probabilities.
        currency: of every price.
    """
    past = history.before(as_of)
    parts = _Parts(
        past,
        Vocabulary.of(past.product_ids, products[c.PRODUCT_ID]),
        Vocabulary.of(past.account_ids, accounts[c.ACCOUNT_ID]),
        products,
        accounts,
        learned,
        config,
        epoch_seconds(as_of),
    )
    lifetime = lifetime_values(past, parts.as_of_seconds)
    return _assemble(parts, parts.facts(horizon_days, currency, lifetime), lifetime)


@dataclass(frozen=True)
class _Parts:
    """What every step of the assembly takes."""

    history: History
    products: Vocabulary
    accounts: Vocabulary
    product_frame: pd.DataFrame
    account_frame: pd.DataFrame
    learned: LearnedParts
    config: OfferModelConfig
    as_of_seconds: int

    def facts(self, horizon_days: int, currency: str | None, lifetime: LifetimeValues) -> ModelFacts:
        span = int(self.history.seconds.max() - self.history.seconds.min()) if len(self.history) else 0
        known = self.history.known()
        return ModelFacts(
            as_of=datetime.fromtimestamp(self.as_of_seconds, tz=UTC).isoformat(),
            horizon_days=horizon_days,
            currency=currency,
            n_accounts=len(unique_sorted(known.account)),
            n_orders=len(unique_sorted(self.history.order)),
            n_first_purchases=len(known.first_purchases()),
            reason_window_days=self.config.evidence.window_days,
            # Orders without times all stand at one moment: then the whole history is the window.
            fallback_window_days=horizon_days if span > 0 else None,
            fallback_unit="accounts" if len(known) else "orders",
            lifetime_value=LifetimeValueFacts(
                expected=lifetime.total, low=lifetime.total_low, high=lifetime.total_high, coverage=COVERAGE
            ),
        )

    def rules(self) -> pd.DataFrame:
        return self.learned.rules if self.learned.rules is not None else pd.DataFrame(columns=list(_RULE_COLUMNS))

    def edges(self) -> pd.DataFrame:
        return self.learned.ladder if self.learned.ladder is not None else pd.DataFrame(columns=list(_EDGE_COLUMNS))


@dataclass(frozen=True)
class _Linked:
    """The tables that hang on products, and where each product's rows are."""

    rules: RuleTable
    together: CopurchaseLift
    substitutes: SubstituteTable
    cart: CartTable
    cart_curve: CartCurve
    ladder: LadderTable
    links: Links


def _linked(parts: _Parts) -> _Linked:
    config = parts.config
    rules = strongest_rules(parts.rules(), config.rules_per_product)
    substitutes, substitute_ranges = substitute_table(rules, parts.products)
    cart = parts.learned.cart or weights_of_rules(rules, parts.history.product_ids)
    cart_rows, cart_ranges = cart_table(cart, parts.products, config.cart_weights_per_product)
    least = config.evidence.least_accounts
    rule_rows, rule_ranges = rule_table(rules, cart_rows, cart_ranges, parts.history, parts.products, least)
    together = copurchase_lift(rule_rows, rule_ranges, parts.history, parts.products, least)
    ladder, ladder_ranges = ladder_table(parts.edges(), parts.products)
    links = Links(rule_ranges, cart_ranges, ladder_ranges, substitute_ranges, cart.prior)
    return _Linked(rule_rows, together, substitutes, cart_rows, cart.curve, ladder, links)


def _assemble(parts: _Parts, facts: ModelFacts, lifetime: LifetimeValues) -> OfferModel:
    config, history = parts.config, parts.history
    pace = paces(history, parts.accounts, as_of_seconds=parts.as_of_seconds, horizon_days=facts.horizon_days)
    segments = segments_of(
        parts.accounts, parts.account_frame, pace.n_orders, config.least_segment_accounts, config.most_segments
    )
    since = window_start(parts.as_of_seconds, facts.fallback_window_days)
    segment_rows, fallback = fallback_tables(
        history, parts.accounts, parts.products, segments, since_seconds=since, size=config.fallback_size
    )
    owned, owned_rows = purchases(
        history,
        parts.accounts,
        parts.products,
        as_of_seconds=parts.as_of_seconds,
        window_days=_owned_windows(parts.products.column(parts.product_frame, c.CATEGORY, None), config),
    )
    candidates, candidate_rows = candidate_table(
        parts.learned.cross, parts.learned.up, parts.accounts, parts.products, config.candidates_per_kind
    )
    peers = FirstPurchases.of(history, parts.accounts, parts.products, segments)
    linked = _linked(parts)
    edges = EdgeRows(lower=row_of_entries(linked.links.ladder.count), upper=linked.ladder.to_product)
    account = row_of_entries(candidate_rows.count)
    evidence = choose_evidence(
        candidates,
        account,
        edges,
        Purchases(owned, owned_rows, familiarity(history, parts.accounts, parts.products, owned, owned_rows)),
        peers,
        segments.of_account,
        linked.together,
        Nearness.of(parts.products, parts.product_frame),
        config.evidence,
    )
    paid = paid_prices(history, segments.of_account[parts.accounts.history_rows], facts.currency)
    catalogue, categories, families = product_table(
        parts.products,
        parts.product_frame,
        history,
        paid.usual,
        linked.links,
        evidence.n_follow_ons,
        product_details(parts.products, parts.product_frame, config.attributes),
    )
    n_buyers, popular = np.zeros(len(parts.products), np.int64), slice(0, int(segment_rows.fallback_count[EVERYONE]))
    n_buyers[fallback.product[popular]] = fallback.n_buyers[popular]
    recent = history.known() if since is None else history.known().select(history.known().seconds >= since)
    is_active = np.zeros(len(parts.accounts), dtype=bool)
    is_active[parts.accounts.history_rows[recent.account]] = True
    is_offerable = catalogue.active & ~catalogue.do_not_offer
    return OfferModel(
        facts=facts,
        products=replace(
            catalogue,
            held_back=shares_held_back(
                candidates, candidate_rows, is_offerable, is_active, n_buyers, catalogue.variant_group, config.exposure
            ),
        ),
        accounts=account_table(
            parts.accounts, parts.account_frame, pace, segments.of_account, candidate_rows, owned_rows, lifetime
        ),
        candidates=replace(candidates, evidence=evidence.of_candidates),
        owned=owned,
        rules=linked.rules,
        substitutes=linked.substitutes,
        cart=linked.cart,
        cart_curve=linked.cart_curve,
        ladder=replace(linked.ladder, evidence=evidence.of_edges),
        segments=segment_rows,
        fallback=fallback,
        evidence=evidence.table,
        categories=categories,
        families=families,
        prices=price_table(paid, parts.products, parts.product_frame),
    )


def _owned_windows(categories: NDArray[np.object_], config: OfferModelConfig) -> Float64:
    """Return how long a purchase of each product counts as owned, days."""
    default = np.inf if config.owned_window_days is None else float(config.owned_window_days)
    return np.array([float(config.owned_window_by_category.get(name, default)) for name in categories])
