"""Why a product was not offered: the first rule that removed it, with the values that it looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np

from recsys.contracts.offers import AccountState, OfferRequest
from recsys.ranking.eligibility import BLOCKED_BY_RULE, CHANGING, RULE_PREFIX
from recsys.ranking.engine import OfferEngine, Ranked
from recsys.ranking.pool import Pool
from recsys.ranking.request import ResolvedRequest

Values: TypeAlias = dict[str, float | int | str | bool | None]

SENTENCES: Final = {
    "unknown_product": "the model does not know the product",
    "silent": "the account gets no offers: {why}",
    "inactive": "it is not sold any more",
    "do_not_offer": "it is flagged do_not_offer",
    "out_of_stock": "it was out of stock",
    BLOCKED_BY_RULE: "the business rule {rule!r} blocks it",
    "filtered": "it is outside the categories or prices that the request asks for",
    "in_cart": "it is in the cart, or it is the product that is viewed",
    "excluded": "the request excludes it",
    "withheld": "it is withheld for this account: {why}",
    "owned": "the account owns it",
    "not_credible": "its probability is below the least that an offer needs",
    "worth_less": "it is worth less than what it would displace",
    "near_duplicate": "it is of the same family as {other!r}",
    "substitute": "it replaces {other!r}",
    "outranked": "others ranked before it",
    "not_reached": "enough offers came from better evidence; it is among the popular products below",
    "not_a_candidate": "neither the account's history nor the cart speaks for it, and it is not among the popular",
    "offered": "it was offered",
    "offered_now": "it would be offered now: prices, stock or business rules have changed since",
}
"""What each code says."""


@dataclass(frozen=True, slots=True)
class WhyNot:
    """Why a product was not offered.

    Attributes:
        code: the first rule that removed it, one of `SENTENCES`.
        sentence: the same for people.
        values: what the rule looked at.
        rule: the business rule, where one removed it.
    """

    code: str
    sentence: str
    values: Values = field(default_factory=dict)
    rule: str | None = None


def reason_for(code: str, values: Values | None = None, **words: object) -> WhyNot:
    """Return the answer of a code; `words` fill its sentence and stand among the values."""
    rule = words.get("rule")
    told: Values = {name: str(word) for name, word in words.items() if name != "rule"}
    return WhyNot(code, SENTENCES[code].format(**words), told | (values or {}), None if rule is None else str(rule))


def why_not(
    engine: OfferEngine,
    request: OfferRequest,
    state: AccountState,
    product_id: str,
    refused: Mapping[str, str],
) -> WhyNot:
    """Return why `product_id` was not offered to `request`.

    Args:
        engine: of the model that answered.
        request: what was asked.
        state: what was known of the account then.
        product_id: any product.
        refused: candidates that stock, flags and business rules removed then; they may have changed since.
    """
    row = engine.catalogue.row(product_id)
    if row < 0:
        return reason_for("unknown_product")
    situation = engine.situation(request, state)
    if situation.silent:
        return reason_for("silent", why=situation.silent)
    if product_id in refused:
        return _refused(engine, row, refused[product_id])
    return _Search(engine, request, state, situation, row).run()


def _refused(engine: OfferEngine, row: int, reason: str) -> WhyNot:
    if reason.startswith(RULE_PREFIX):
        return reason_for(BLOCKED_BY_RULE, rule=reason.removeprefix(RULE_PREFIX))
    return reason_for(reason, dict(engine.catalogue.values(row)))


class _Search:
    """Goes the way of a request again and watches one product."""

    def __init__(
        self, engine: OfferEngine, request: OfferRequest, state: AccountState, situation: ResolvedRequest, row: int
    ) -> None:
        self._engine = engine
        self._request = request
        self._state = state
        self._situation = situation
        self._row = row
        self._chosen: list[int] = []
        self._found: WhyNot | None = None

    def run(self) -> WhyNot:
        engine, request, situation = self._engine, self._request, self._situation
        picker = engine.picker(request, situation)
        for pool in engine.stages(request, situation):
            if len(self._chosen) >= request.limit:
                if self._row in pool.product and self._found is None:
                    self._found = self._barred(pool) or reason_for("not_reached")
                continue
            ranked = engine.rank(pool, request, situation)
            taken = engine.pick(picker, ranked, request.limit - len(self._chosen))
            self._chosen += ranked.pool.product[ranked.order][taken].tolist()
            if self._row in self._chosen:
                return reason_for("offered_now")
            if self._found is None:
                self._found = self._barred(pool) or self._passed_over(ranked, picker.dropped)
        return self._found or reason_for("not_a_candidate")

    def _barred(self, pool: Pool) -> WhyNot | None:
        """Return which rule bars the product in every form (cross-sell, upgrade) in which it is a candidate."""
        forms = pool.take((pool.product == self._row).nonzero()[0])
        for name, bars in self._situation.barriers.rules(forms, self._engine.catalogue):
            if len(forms) and bars.all():
                return self._by_barrier(name)
            forms = forms.take((~bars).nonzero()[0])
        if self._request.raw or not len(forms):
            return None
        for name, bars in self._engine.floors(forms, self._request, self._situation.effect):
            if bars.all():
                floor = self._engine.config.min_probability
                return reason_for(name, {"probability": float(forms.probability.max()), "min_probability": floor})
        return None

    def _by_barrier(self, name: str) -> WhyNot:
        row, catalogue = self._row, self._engine.catalogue
        if name == BLOCKED_BY_RULE and self._situation.effect is not None:
            return reason_for(BLOCKED_BY_RULE, rule=self._situation.effect.blocking[row])
        if name == "withheld":
            return reason_for(name, why=self._state.withheld[catalogue.ids[row]])
        if name == "filtered":
            code = int(self._engine.model.products.category[row])
            category = self._engine.model.categories.names[code] if code >= 0 else None
            return reason_for(name, {"price": catalogue.values(row)["price"], "category": category})
        return reason_for(name, dict(catalogue.values(row)) if name in CHANGING else {})

    def _passed_over(self, ranked: Ranked, dropped: Mapping[int, str]) -> WhyNot | None:
        """Return why a product that might be offered was not picked, None where it was no candidate."""
        places = (ranked.pool.product[ranked.order] == self._row).nonzero()[0]
        if not len(places):
            return None
        reason = dropped.get(self._row)
        if reason is not None and reason != "chosen":
            other = self._alike([*self._situation.cart, *self._chosen], reason)
            return reason_for(reason, other=self._engine.catalogue.ids[other])
        place = int(places[0])
        values: Values = {"place": place + 1, "n_eligible": len(ranked.order), "score": float(ranked.worth[place])}
        return reason_for("outranked", values)

    def _alike(self, others: Sequence[int], reason: str) -> int:
        """Return which of the chosen is of the product's family, or is replaced by it."""
        model = self._engine.model
        if reason == "near_duplicate":
            family = model.products.family
            return next(other for other in others if family[other] == family[self._row])
        for other in others:
            start, count = int(model.products.substitutes_start[other]), int(model.products.substitutes_count[other])
            if np.isin(self._row, model.substitutes.product[start : start + count]):
                return other
        raise AssertionError(f"product row {self._row} was dropped as a substitute of none of {list(others)}")
