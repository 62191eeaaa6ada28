"""A model without training, behind the same seam as the real one: for tests, and for trying the API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from recsys.contracts.offers import EMPTY_STATE, AccountState, NameKind, Offer, OfferRequest, ProductChange, Slate, Tier
from recsys.errors import ConfigError
from recsys.offer_catalogue.business_rules import BusinessRule
from recsys.ranking.ranked import Exploration, draw, widened
from serving.encoding import EncodedSlate, encode
from serving.models.by_alias import LoadedModel

AS_OF = datetime(2026, 1, 1, tzinfo=UTC)
FAKE_SEGMENTS = frozenset({"retail", "wholesale"})
FAKE_CATEGORIES = frozenset({"Toys"})


class FakeEngine:
    """Offers `P0`, `P1`, ... in order; knows the accounts `A0`, `A1`, ... and nothing of their purchases.

    The cart shifts the order, so that account and cart both matter. Products that it does not know are reported.
    """

    def __init__(self, n_accounts: int = 10, n_products: int = 30) -> None:
        self._accounts = {f"A{i}": i for i in range(n_accounts)}
        self._products = {f"P{i}": i for i in range(n_products)}
        self._prices = dict.fromkeys(self._products, 10.0)
        self._withdrawn: dict[str, str] = {}
        self._rules: Sequence[BusinessRule] = ()

    def knows(self, kind: NameKind, name: str) -> bool:
        """Return whether it knows a product, or one of the two segments and the one category that it was given."""
        return name in {"product": self._products, "segment": FAKE_SEGMENTS, "category": FAKE_CATEGORIES}[kind]

    def apply(self, change: ProductChange) -> bool:
        """Put new values of a product in force; return whether it knows the product."""
        if change.product_id not in self._products:
            return False
        if change.price is not None:
            self._prices[change.product_id] = change.price
        flags = {"inactive": change.active is False, "do_not_offer": change.do_not_offer is True}
        refusals = [name for name, holds in {**flags, "out_of_stock": change.stock == 0}.items() if holds]
        self._withdrawn.pop(change.product_id, None)
        if refusals:
            self._withdrawn[change.product_id] = refusals[0]
        return True

    def use_rules(self, rules: Sequence[BusinessRule]) -> None:
        """Put business rules in force; it knows those that block products."""
        self._rules = rules

    def answer(
        self, request: OfferRequest, state: AccountState = EMPTY_STATE, exploration: Exploration | None = None
    ) -> EncodedSlate:
        """Return the ranked answer to one request as text, its last offer drawn where that is wanted.

        Raises:
            ConfigError: as `recommend`.
        """
        if exploration is not None:
            wide = self.recommend(widened(request), state)
            drawn = draw(len(wide.offers), request.limit, exploration)
            if drawn is not None:
                last = wide.offers[drawn.position]._replace(rank=request.limit, propensity=drawn.propensity)
                offers = (*wide.offers[: request.limit - 1], last)
                return encode(replace(wide, offers=offers, requested=request.limit, shortfall=None))
        return encode(self.recommend(request, state))

    def recommend(self, request: OfferRequest, state: AccountState = EMPTY_STATE) -> Slate:
        """Return the ranked answer to one request.

        Raises:
            ConfigError: margin is asked for, and the fake has no costs.
        """
        if request.objective == "margin":
            raise ConfigError("objective == 'margin', needs costs; this model has none, ask for conversion or revenue")
        cart = [line.product_id for line in request.cart]
        known = [product for product in cart if product in self._products]
        shift = self._accounts.get(request.account_id or "", 0) + sum(self._products[product] for product in known)
        region = request.region or state.region
        blocking = [
            rule for rule in self._rules if rule.applies(state.segment, region, request.channel, request.surface)
        ]
        blocked = {product: f"rule:{rule.name}" for rule in blocking for product in rule.products}
        refused = {**blocked, **self._withdrawn}
        barred = {*cart, *request.exclude, *state.bought, *state.suppressed, *refused}
        if state.opt_out_reason or state.do_not_offer:
            barred |= set(self._products)
        tier: Tier = "account" if request.account_id in self._accounts else "cart" if known else "popular"
        order = [f"P{(shift + i) % len(self._products)}" for i in range(len(self._products))]
        chosen = [product for product in order if product not in barred][: request.limit]
        offers = tuple(self._offer(rank, product, tier, request) for rank, product in enumerate(chosen, start=1))
        return Slate(
            offers=offers,
            requested=request.limit,
            shortfall=None if len(offers) == request.limit else f"only {len(offers)} products may be offered",
            tier=tier,
            objective=request.objective,
            horizon_days=30,
            unknown_products=tuple(product for product in cart if product not in self._products),
            unknown_categories=tuple(name for name in dict.fromkeys(request.categories) if name not in FAKE_CATEGORIES),
            n_considered=len(order),
            refused=refused,
            language=request.language or request.default_language,
            mix=request.mix or "none",
            variants=request.variants or "keep",
        )

    def _offer(self, rank: int, product: str, tier: Tier, request: OfferRequest) -> Offer:
        probability = 1 / (1 + rank)
        reason = "" if request.explain == "none" else f"{product} is bought with what is in the cart."
        return Offer(
            rank=rank,
            product_id=product,
            kind=request.kinds[0],
            name=f"Product {product}",
            price=self._prices[product],
            currency="EUR",
            probability=probability,
            probability_of="buys_within_horizon",
            expected_quantity=1.0,
            expected_value=10.0 * probability,
            score=probability,
            tier=tier,
            reason=reason,
            from_product_id=request.cart[0].product_id if request.cart else None,
            evidence={"n_orders": 412} if request.explain == "full" else {},
        )


def fake_model(engine: FakeEngine | None = None, version: str = "fake-1", currency: str | None = "EUR") -> LoadedModel:
    """Return a loaded model around a fake engine."""
    return LoadedModel(
        version=version,
        source="fake",
        engine=engine or FakeEngine(),
        as_of=AS_OF,
        horizon_days=30,
        currency=currency,
        n_accounts=10,
        n_products=30,
        loaded_at=AS_OF,
        warm_up=(OfferRequest(account_id="A0"),),
    )
