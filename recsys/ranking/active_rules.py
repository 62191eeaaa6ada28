"""Business rules as rows of one model: computed once for each kind of request, looked up by a request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.offer_catalogue.business_rules import BusinessRule
from recsys.offer_model.tables import EVERYONE, OfferModel
from recsys.ranking.kernel.layout import RULES_TABLE, SLOT
from recsys.ranking.kernel.native import ColumnAddresses
from recsys.ranking.live_catalogue import LiveCatalogue

RULE_PREFIX: Final = "rule:"
"""Before the name of the business rule that removed a candidate."""

_MOST_KEPT: Final = 10_000
"""Region, channel and surface come from requests: their combinations must not grow without bound."""


_MOST_BOOST: Final = 1e6
"""Of all rules about one product together: beyond it a score says nothing, and far beyond it is no number."""


class RuleAnnotation(NamedTuple):
    """What goes out with an offer: the rule's name, the share off its price, and its text."""

    rule: str | None
    discount: float | None
    text: str | None


class AppliedRules(NamedTuple):
    """What the rules in force do to the requests of one segment, region, channel and surface.

    Attributes:
        blocking: row of a product -> the rule that blocks it.
        annotations: row of a product -> what goes out with its offer.
        columns: of `RULES_TABLE`: what the ranking reads.
    """

    blocking: Mapping[int, str]
    annotations: Mapping[int, RuleAnnotation]
    columns: ColumnAddresses


def _columns(**arrays: NDArray[Any]) -> ColumnAddresses:
    empty = {name: np.zeros(0, dtype=kind) for name, kind in RULES_TABLE.types.items()}
    return RULES_TABLE.at(empty | arrays)


NO_RULES: Final = AppliedRules({}, {}, _columns())
NO_ANNOTATION: Final = RuleAnnotation(None, None, None)


class ActiveRules:
    """The rules that are valid now, on the rows of one model."""

    def __init__(self, rules: Sequence[BusinessRule], model: OfferModel, catalogue: LiveCatalogue) -> None:
        self._rules = rules
        self._model = model
        self._catalogue = catalogue
        self._applied: dict[tuple[str | None, ...], AppliedRules] = {}
        self._of_category: dict[str, list[int]] = {}

    def applied(
        self, segment: str | None, region: str | None, channel: str | None, surface: str | None
    ) -> AppliedRules:
        """Return what the rules do to such a request."""
        key = (segment, region, channel, surface)
        found = self._applied.get(key)
        if found is None:  # another thread may compute or clear at the same time: what is returned is at hand
            found = self._compute([rule for rule in self._rules if rule.applies(segment, region, channel, surface)])
            if len(self._applied) >= _MOST_KEPT:
                self._applied.clear()
            self._applied[key] = found
        return found

    def _compute(self, rules: Sequence[BusinessRule]) -> AppliedRules:
        if not rules:
            return NO_RULES
        rows = {rule.name: self._rows(rule) for rule in rules}
        blocking: dict[int, str] = {}
        for rule in rules:
            if rule.action == "block":
                blocking |= {row: rule.name for row in rows[rule.name] if row not in blocking}
        offering = [rule for rule in rules if rule.action != "block"]
        boosts = _boosts((rows[rule.name], rule.factor) for rule in offering if rule.factor is not None)
        annotations = _annotations(offering, rows)
        shares = {row: said.discount for row, said in annotations.items() if said.discount is not None}
        slots, slot_products = _slots(offering, rows)
        columns = _columns(
            blocked=_sorted(blocking),
            pinned=_sorted({row for rule in offering if rule.action == "pin" for row in rows[rule.name]}),
            boosted=_sorted(boosts),
            factors=np.clip([boosts[row] for row in sorted(boosts)], 1 / _MOST_BOOST, _MOST_BOOST).astype(np.float64),
            discounted=_sorted(shares),
            shares=np.array([shares[row] for row in sorted(shares)], dtype=np.float64),
            slots=slots,
            slot_products=slot_products,
        )
        return AppliedRules(blocking, annotations, columns)

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


def _annotations(rules: Sequence[BusinessRule], rows: dict[str, list[int]]) -> dict[int, RuleAnnotation]:
    """Return what goes out with each product: of several rules a pin's, then a require's, then a boost's."""
    annotations: dict[int, RuleAnnotation] = {}
    for rule in sorted(rules, key=lambda rule: ("pin", "require", "boost").index(rule.action)):
        discount = None if rule.discount_percent is None else rule.discount_percent / 100
        for row in rows[rule.name]:
            annotations.setdefault(row, RuleAnnotation(rule.name, discount, rule.text))
    return annotations


def _slots(rules: Sequence[BusinessRule], rows: dict[str, list[int]]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the ranks that rules speak of, and their products: of two rules for one rank the file's first has it."""
    slots: dict[int, tuple[bool, list[int]]] = {}
    for rule in rules:
        if rule.action in {"pin", "require"} and rows[rule.name]:
            slots.setdefault(rule.place, (rule.action == "require", sorted(rows[rule.name])))
    products: list[int] = []
    found = np.zeros(len(slots), dtype=SLOT)
    for position, (rank, (or_before, members)) in enumerate(sorted(slots.items())):
        found[position] = (rank, len(products), len(products) + len(members), or_before)
        products += members
    return found, np.array(products, dtype=np.int32)


def _boosts(boosts: Iterable[tuple[list[int], float]]) -> dict[int, float]:
    factors: dict[int, float] = {}
    for rows, factor in boosts:
        for row in rows:
            factors[row] = factors.get(row, 1.0) * factor
    return factors


def _sorted(rows: Iterable[int]) -> NDArray[np.int32]:
    return np.array(sorted(rows), dtype=np.int32)
