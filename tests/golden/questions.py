"""What is asked: drawn by a fixed seed from the options that are declared here, and what changes between questions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Any

from tests.golden.markets import Market

KINDS = (["cross_sell"], ["upsell"], ["cross_sell", "upsell"], ["upsell", "cross_sell"])
OBJECTIVES = ("conversion", "revenue", "margin")
EXPLAIN = ("none", "brief", "full")
CHANNELS = ("web", "app", "e-mail", "phone")
SURFACES = ("cart", "product page", "newsletter", "crm")
REGIONS = ("London", "Scotland", "Anglia", "Atlantis")
CATEGORIES = ("Bakeware", "Home Decor", "Kitchen Tools", "Toys", "Lighting", "Bathroom")
LIMITS = (1, 1, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 6, 8, 10, 30)
EXPERIMENTS = ("holdout-test", "visitor-test")
HOURS_BETWEEN = 6
"""From the first half of the questions to what changes the state, and to the second half."""
DECISION = "{decision}"
"""Stands in the path of a question for the id of an earlier decision."""

Asked = dict[str, Any]
"""`method`, `path`, and perhaps `params`, `json` and `of`, the case of the decision that the path is about."""


@dataclass
class Session:
    """One server: its settings, what is asked of it, and from which seed.

    Attributes:
        n_questions: of each of its two halves; what changes the state comes between them.
        rules: TOML of business rules, or nothing.
        experiments: whether two of them run.
    """

    name: str
    seed: int
    n_questions: int
    settings: dict[str, Any] = field(default_factory=dict)
    rules: str = ""
    experiments: bool = False


RULES = """
[[rule]]
name = "no toys for schools"
action = "block"
categories = ["Toys"]
segments = ["education"]
owner = "A. Buyer"
reason = "bought by contract"

[[rule]]
name = "never"
action = "block"
products = ["P000021", "P000022"]
owner = "A. Buyer"
reason = "recalled"

[[rule]]
name = "one for the cart page"
action = "require"
products = ["P000031", "P000032", "P000033"]
channels = ["web"]
rank = 2
owner = "A. Buyer"
reason = "supplier pays"
text = "New in: {name}"

[[rule]]
name = "the leaflet"
action = "pin"
products = ["P000045"]
regions = ["Scotland"]
rank = 3
discount_percent = 12.5
owner = "B. Seller"
reason = "printed already"
text = "As in the leaflet"

[[rule]]
name = "lift lighting"
action = "boost"
categories = ["Lighting", "Bathroom"]
factor = 1.75
discount_percent = 5
owner = "B. Seller"
reason = "autumn"

[[rule]]
name = "lower decor"
action = "boost"
categories = ["Home Decor"]
channels = ["app", "phone"]
factor = 0.4
valid_from = 2025-01-01
valid_to = 2026-01-01
owner = "B. Seller"
reason = "out of season"

[[rule]]
name = "over"
action = "pin"
products = ["P000005"]
valid_to = 2025-03-01
owner = "B. Seller"
reason = "of last spring"
"""

PLANS = {
    "holdout-test": """
id = "holdout-test"
unit = "account"
primary = "revenue_per_account"
planned_start = 2025-01-01
planned_end = 2098-01-01
planned_size = 1000
arms = [
  { name = "engine", weight = 2, is_control = true },
  { name = "value first", weight = 2, policy = { objective = "revenue" } },
  { name = "best sellers", weight = 1, policy = { kind = "popular" } },
  { name = "nothing", weight = 1, policy = { kind = "none" } },
]
""",
    "visitor-test": """
id = "visitor-test"
version = 2
unit = "visitor"
primary = "revenue_per_account"
planned_start = 2025-01-01
planned_end = 2098-01-01
planned_size = 1000
arms = [
  { name = "engine", weight = 1, is_control = true },
  { name = "margin first", weight = 1, policy = { objective = "margin" } },
]
""",
}


def sessions(market: Market) -> tuple[Session, ...]:
    """The servers that stand before a market's bundle one after the other."""
    own = {"objective": market.objective}
    tired = {"fatigue": {"product_a_day": 2, "offers_a_day": 12}, "returned_is_presented": ["newsletter"]}
    return (
        Session("plain", market.seed, 450, own),
        Session("rules", market.seed + 1, 400, own | tired, rules=RULES),
        Session("experiments", market.seed + 2, 400, own, experiments=True),
    )


class Draw:
    """Draws questions about a market."""

    def __init__(self, market: Market, session: Session) -> None:
        self._rng = Random(f"{market.name} {session.name} {session.seed}")
        self._market = market
        self._accounts = [f"A{i:07}" for i in range(1, market.n_accounts + 1)]
        self._products = [f"P{i:06}" for i in range(1, market.n_products + 1)]
        self._in_experiments = session.experiments
        self._decisions: list[str] = []

    def questions(self, half: str, count: int) -> Iterator[tuple[str, Asked]]:
        """Yield case names and questions."""
        weighted: tuple[tuple[int, Callable[[], Asked]], ...] = (
            (56, self._shop),
            (14, self._person),
            (3, self._batch),
            (8, self._complements),
            (5, self._upgrades),
            (4, self._call_list),
            (3, self._white_space),
            (7, self._why_not),
        )
        kinds = [kind for weight, kind in weighted for _ in range(weight)]
        for number in range(count):
            draw = self._rng.choice(kinds)
            asked = draw()
            name = f"{half} {number:04}"
            if draw in (self._shop, self._person):
                self._decisions.append(name)
            yield name, asked

    def changes(self) -> Iterator[tuple[str, Asked]]:
        """Yield what changes the state of products, accounts and visitors, with names."""
        yield "products", _post("/v1/products", {"products": [self._product() for _ in range(14)]})
        yield "accounts", _post("/v1/accounts", {"accounts": [self._account() for _ in range(12)]})
        yield "orders", _post("/v1/orders", {"orders": [self._order(i) for i in range(30)]})
        yield "orders again", _post("/v1/orders", {"orders": [{**self._order(2), "currency": "GBP"}]})
        for number in range(5):
            yield (
                f"link {number}",
                _post(f"/v1/visitors/v-{number}:link", {"account_id": self._rng.choice(self._accounts)}),
            )
        for number, case in enumerate(self._rng.sample(self._decisions, 40)):
            yield f"outcomes {number:02}", self._outcomes(number, case)

    def _shop(self) -> Asked:
        rng = self._rng
        body: dict[str, Any] = {}
        if rng.random() < 0.7:
            body["account_id"] = self._account_id()
        if rng.random() < 0.3:
            body["visitor_id"] = f"v-{rng.randrange(25)}"
        if rng.random() < 0.6:
            body["cart"] = [self._cart_line() for _ in range(rng.choice((0, 1, 1, 2, 3, 5)))]
        if rng.random() < 0.25:
            body["viewed_product_id"] = self._product_id()
        body["limit"] = rng.choice(LIMITS)
        for name, share, values in (
            ("kinds", 0.3, KINDS),
            ("objective", 0.25, OBJECTIVES),
            ("explain", 0.5, EXPLAIN),
            ("channel", 0.4, CHANNELS),
            ("surface", 0.4, SURFACES),
            ("region", 0.2, REGIONS),
            ("new_only", 0.2, (True, False)),
        ):
            if rng.random() < share:
                body[name] = rng.choice(values)
        if rng.random() < 0.2:
            body["exclude"] = [self._product_id() for _ in range(rng.randrange(6))]
        if rng.random() < 0.2:
            body["filters"] = self._filters()
        if self._in_experiments and rng.random() < 0.4:
            body["experiment_id"] = rng.choice(EXPERIMENTS)
        return _post("/v1/offers", body)

    def _person(self) -> Asked:
        rng = self._rng
        params: dict[str, Any] = {"limit": rng.choice(LIMITS)}
        for name, share, values in (
            ("kinds", 0.3, KINDS),
            ("objective", 0.3, OBJECTIVES),
            ("explain", 0.7, EXPLAIN),
            ("new_only", 0.3, ("true", "false")),
            ("channel", 0.3, CHANNELS),
            ("surface", 0.3, SURFACES),
        ):
            if rng.random() < share:
                params[name] = rng.choice(values)
        return _get(f"/v1/accounts/{self._account_id()}/offers", params)

    def _batch(self) -> Asked:
        questions = [self._shop()["json"] for _ in range(self._rng.choice((1, 3, 5)))]
        return _post("/v1/offers:batch", {"requests": questions})

    def _complements(self) -> Asked:
        return _get(f"/v1/products/{self._product_id()}/complements", self._beside())

    def _upgrades(self) -> Asked:
        return _get(f"/v1/products/{self._product_id()}/upgrades", self._beside())

    def _call_list(self) -> Asked:
        capacity = self._rng.choice((1, 3, 8, 20))
        return _get(f"/v1/products/{self._product_id()}/accounts", {"capacity": capacity})

    def _white_space(self) -> Asked:
        size = self._rng.choice((1, 2, 4))
        return _get(f"/v1/accounts/{self._account_id()}/whitespace", {"products_per_category": size})

    def _why_not(self) -> Asked:
        if not self._decisions:
            return self._shop()
        of = self._rng.choice(self._decisions)
        return _post(f"/v1/decisions/{DECISION}/why-not", {"product_id": self._product_id()}) | {"of": of}

    def _beside(self) -> dict[str, Any]:
        rng = self._rng
        params: dict[str, Any] = {"limit": rng.choice(LIMITS)}
        for name, values in (("explain", EXPLAIN), ("channel", CHANNELS), ("surface", SURFACES)):
            if rng.random() < 0.4:
                params[name] = rng.choice(values)
        return params

    def _filters(self) -> dict[str, Any]:
        rng = self._rng
        filters: dict[str, Any] = {}
        if rng.random() < 0.6:
            filters["categories"] = rng.sample(CATEGORIES, rng.choice((1, 2, 4)))
        if rng.random() < 0.5:
            filters["min_price"] = rng.choice((0.5, 1.0, 2.5))
        if rng.random() < 0.5:
            filters["max_price"] = rng.choice((3.0, 5.0, 20.0))
        return filters

    def _account_id(self) -> str:
        return self._rng.choice(self._accounts) if self._rng.random() < 0.9 else f"NEW{self._rng.randrange(20)}"

    def _product_id(self) -> str:
        return self._rng.choice(self._products) if self._rng.random() < 0.95 else f"X{self._rng.randrange(20)}"

    def _cart_line(self) -> dict[str, Any]:
        line: dict[str, Any] = {"product_id": self._product_id()}
        if self._rng.random() < 0.5:
            line["quantity"] = self._rng.choice((1, 2, 6, 0.5, 24))
        return line

    def _product(self) -> dict[str, Any]:
        rng = self._rng
        body: dict[str, Any] = {"product_id": rng.choice(self._products)}
        body |= rng.choice(
            (
                {"price": 7.25, "cost": 3.5},
                {"price": 1.1},
                {"stock": 0},
                {"stock": 40},
                {"active": False},
                {"do_not_offer": True},
                {"active": True, "do_not_offer": False},
            )
        )
        return body

    def _account(self) -> dict[str, Any]:
        values = (
            {"segment": "education"},
            {"segment": "hospitality", "region": "Scotland"},
            {"region": "Scotland"},
            {"do_not_offer": True},
            {"do_not_offer": False},
        )
        return {"account_id": self._account_id()} | self._rng.choice(values)

    def _order(self, number: int) -> dict[str, Any]:
        rng = self._rng
        who = {"account_id": self._account_id()} if rng.random() < 0.8 else {"visitor_id": f"v-{rng.randrange(25)}"}
        when = self._market.as_of + timedelta(hours=7 * number + 1)
        lines = [
            {"product_id": product, "quantity": rng.choice((1, 2, 12)), "unit_price": rng.choice((1.5, 2.25, 9.0))}
            for product in rng.sample(self._products, rng.choice((1, 2, 4)))
        ]
        if number % 9 == 8:
            lines.append({**lines[0], "line_id": "back", "status": "returned"})
        order = {"order_id": f"N{number:03}", "ordered_at": when.isoformat(), "currency": "GBP", "lines": lines}
        return who | order

    def _outcomes(self, number: int, case: str) -> Asked:
        kinds = ("shown", "pitched", "clicked", "accepted", "declined", "deferred", "referred", "dismissed")
        kind = kinds[number % len(kinds)]
        when = self._market.now + timedelta(hours=number % HOURS_BETWEEN - 1)  # some are dated before their decision
        outcome = {"outcome_id": f"o-{number}", "decision_id": DECISION, "kind": kind, "occurred_at": when.isoformat()}
        if kind in {"declined", "dismissed", "accepted"}:
            outcome["product_id"] = "{product}"
            outcome["reason"] = "has some left"
        return _post("/v1/outcomes", {"outcomes": [outcome]}) | {"of": case}


def _post(path: str, body: dict[str, Any]) -> Asked:
    return {"method": "POST", "path": path, "json": body}


def _get(path: str, params: dict[str, Any]) -> Asked:
    return {"method": "GET", "path": path, "params": params}
