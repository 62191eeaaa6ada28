"""Business rules as rows of one model: computed once for each segment, region and channel, looked up by a request."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from recsys.offer_catalogue.business_rules import BusinessRule
from recsys.offer_model.tables import EVERYONE, Float64, Int32, OfferModel
from recsys.ranking.eligibility import NO_ROWS
from recsys.ranking.live_catalogue import LiveCatalogue

_MOST_EFFECTS: Final = 10_000
"""Region and channel come from requests: their combinations must not grow without bound."""


class RuleAnnotation(NamedTuple):
    """What goes out with an offer: the rule's name, the share off its price, and its text."""

    rule: str | None
    discount: float | None
    text: str | None


class PinnedSlot(NamedTuple):
    """A rank that a rule speaks of: one of `rows` stands there, or stood before where `or_before`."""

    rank: int
    rows: frozenset[int]
    or_before: bool


@dataclass(frozen=True, slots=True)
class AppliedRules:
    """What the rules in force do to the requests of one segment, region and channel.

    Attributes:
        blocked: rows that are never offered, sorted.
        blocking: row -> the rule that blocks it.
        pinned: rows that are candidates in any case.
        places: who stands at which rank, in order of rank.
        told: row -> what goes out with its offer.
        boosted: rows whose worth is multiplied, sorted.
        factors: by what, of the same shape.
        discounted: rows with money off, sorted.
        shares: of the price, of the same shape, in (0, 1).
    """

    blocked: Int32 = field(default_factory=lambda: NO_ROWS)
    blocking: dict[int, str] = field(default_factory=dict)
    pinned: Int32 = field(default_factory=lambda: NO_ROWS)
    places: tuple[PinnedSlot, ...] = ()
    told: dict[int, RuleAnnotation] = field(default_factory=dict)
    boosted: Int32 = field(default_factory=lambda: NO_ROWS)
    factors: Float64 = field(default_factory=lambda: np.ones(0))
    discounted: Int32 = field(default_factory=lambda: NO_ROWS)
    shares: Float64 = field(default_factory=lambda: np.zeros(0))

    def boost(self, products: Int32) -> Float64:
        """Return what the worth of each product is multiplied by."""
        return _looked_up(products, self.boosted, self.factors, 1.0)

    def discount(self, products: Int32) -> Float64:
        """Return the share of its price that comes off each product."""
        return _looked_up(products, self.discounted, self.shares, 0.0)


class ActiveRules:
    """The rules that are valid now, on the rows of one model."""

    def __init__(self, rules: Sequence[BusinessRule], model: OfferModel, catalogue: LiveCatalogue) -> None:
        self._rules = rules
        self._model = model
        self._catalogue = catalogue
        self._effects: dict[tuple[str | None, str | None, str | None], AppliedRules | None] = {}
        self._of_category: dict[str, list[int]] = {}

    def effect(self, segment: str | None, region: str | None, channel: str | None) -> AppliedRules | None:
        """Return what the rules do to such a request; None where no rule is about it."""
        key = (segment, region, channel)
        if key not in self._effects:
            if len(self._effects) >= _MOST_EFFECTS:
                self._effects.clear()
            self._effects[key] = self._compute([rule for rule in self._rules if rule.applies(*key)])
        return self._effects[key]

    def _compute(self, rules: Sequence[BusinessRule]) -> AppliedRules | None:
        if not rules:
            return None
        rows = {rule.name: self._rows(rule) for rule in rules}
        blocking: dict[int, str] = {}
        for rule in rules:
            if rule.action == "block":
                blocking |= {row: rule.name for row in rows[rule.name] if row not in blocking}
        offering = [rule for rule in rules if rule.action != "block"]
        boosts = _product((rows[rule.name], rule.factor) for rule in offering if rule.factor is not None)
        told = _told(offering, rows)
        shares = {row: said.discount for row, said in told.items() if said.discount is not None}
        return AppliedRules(
            blocked=_sorted(blocking),
            blocking=blocking,
            pinned=_sorted(row for rule in offering if rule.action == "pin" for row in rows[rule.name]),
            places=_places(offering, rows),
            told=told,
            boosted=_sorted(boosts),
            factors=np.array([boosts[row] for row in sorted(boosts)], dtype=np.float64),
            discounted=_sorted(shares),
            shares=np.array([shares[row] for row in sorted(shares)], dtype=np.float64),
        )

    def _rows(self, rule: BusinessRule) -> list[int]:
        named = [row for row in map(self._catalogue.row, rule.products) if row >= 0]
        for category in rule.categories:
            if category not in self._of_category:
                codes = [code for code, name in enumerate(self._model.categories.names) if name == category]
                members = np.isin(self._model.products.category, codes).nonzero()[0]
                self._of_category[category] = members.tolist()
            named += self._of_category[category]
        return list(dict.fromkeys(named))


def segment_name(model: OfferModel, row: int) -> str | None:
    """Return the name of a segment's row, None for everyone."""
    return None if row == EVERYONE else model.segments.names[row]


def _told(rules: Sequence[BusinessRule], rows: dict[str, list[int]]) -> dict[int, RuleAnnotation]:
    """Return what goes out with each product: of several rules a pin's, then a require's, then a boost's."""
    told: dict[int, RuleAnnotation] = {}
    for rule in sorted(rules, key=lambda rule: ("pin", "require", "boost").index(rule.action)):
        discount = None if rule.discount_percent is None else rule.discount_percent / 100
        for row in rows[rule.name]:
            told.setdefault(row, RuleAnnotation(rule.name, discount, rule.text))
    return told


def _places(rules: Sequence[BusinessRule], rows: dict[str, list[int]]) -> tuple[PinnedSlot, ...]:
    """Return the places that rules speak of; of two rules for one rank the first of the file has it."""
    places: dict[int, PinnedSlot] = {}
    for rule in rules:
        if rule.action in {"pin", "require"} and rows[rule.name]:
            place = PinnedSlot(rule.place, frozenset(rows[rule.name]), rule.action == "require")
            places.setdefault(rule.place, place)
    return tuple(places[rank] for rank in sorted(places))


def _product(boosts: Iterable[tuple[list[int], float]]) -> dict[int, float]:
    factors: dict[int, float] = {}
    for rows, factor in boosts:
        for row in rows:
            factors[row] = factors.get(row, 1.0) * factor
    return factors


def _sorted(rows: Iterable[int]) -> Int32:
    return np.array(sorted(rows), dtype=np.int32)


def _looked_up(products: Int32, rows: Int32, values: Float64, default: float) -> Float64:
    if not len(rows):
        return np.full(len(products), default)
    position = np.minimum(rows.searchsorted(products), len(rows) - 1)
    found: Float64 = np.where(rows[position] == products, values[position], default)
    return found
