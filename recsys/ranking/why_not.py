"""Why a product was not offered: the first rule that removed it, with the values that it looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np

from recsys.contracts.offers import AccountState, OfferRequest
from recsys.ranking.active_rules import RULE_PREFIX
from recsys.ranking.engine import OfferEngine
from recsys.ranking.kernel import layout
from recsys.ranking.live_catalogue import REFUSALS
from recsys.ranking.ranked import RankedSlate, Watched

Values: TypeAlias = dict[str, float | int | str | bool | None]

SENTENCES: Final = {
    "unknown_product": "the model does not know the product",
    "silent": "the account gets no offers: {why}",
    "inactive": "it is not sold any more",
    "do_not_offer": "it is flagged do_not_offer",
    "out_of_stock": "it was out of stock",
    "blocked": "the business rule {rule!r} blocks it",
    "filtered": "it is outside the categories or prices that the request asks for",
    "in_cart": "it is in the cart, or it is the product that is viewed",
    "excluded": "the request excludes it",
    "withheld": "it is withheld for this account: {why}",
    "owned": "the account owns it",
    "not_credible": "its probability is below the least that an offer needs",
    "worth_less": "it costs no more than what it would displace, or is worth no more",
    "near_duplicate": "it is of the same family as {other!r}, or a variant of it",
    "substitute": "it replaces {other!r}",
    "outranked": "others ranked before it",
    "not_reached": "enough offers came from better evidence; it is among the popular products below",
    "not_a_candidate": "neither the account's history nor the cart speaks for it, and it is not among the popular",
    "offered": "it was offered",
    "displaced": "another offer was drawn for the last place, to learn what else is wanted",
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

    Raises:
        ConfigError: the model can't answer such a request.
    """
    row = engine.catalogue.row(product_id)
    if row < 0:
        return reason_for("unknown_product")
    ranked = engine.rank(request, state, watched=row)
    if ranked.is_opted_out:
        return reason_for("silent", why=ranked.shortfall)
    if product_id in refused:
        return _refused(engine, row, refused[product_id])
    if ranked.watched is None or ranked.watched.state == layout.NOT_A_CANDIDATE:
        return reason_for("not_a_candidate")
    return _became(engine, row, ranked, ranked.watched, state)


def _refused(engine: OfferEngine, row: int, reason: str) -> WhyNot:
    if reason.startswith(RULE_PREFIX):
        return reason_for("blocked", rule=reason.removeprefix(RULE_PREFIX))
    return reason_for(reason, dict(engine.catalogue.values(row)))


def _became(engine: OfferEngine, row: int, ranked: RankedSlate, watched: Watched, state: AccountState) -> WhyNot:
    if watched.state == layout.WAS_OFFERED:
        return reason_for("offered_now")
    if watched.state == layout.WAS_NOT_REACHED:
        return reason_for("not_reached")
    if watched.state == layout.WAS_FILTERED:
        return _filtered(engine, row, ranked, watched, state)
    if watched.state == layout.WAS_PASSED_OVER:
        others = [*ranked.resolved.cart, *(offer.product for offer in ranked.offers)]
        other = _alike(engine, row, others, watched.filter)
        return reason_for(watched.filter, other=engine.catalogue.ids[other])
    values: Values = {"place": watched.place, "n_eligible": watched.n_eligible, "score": watched.utility}
    return reason_for("outranked", values)


def _filtered(engine: OfferEngine, row: int, ranked: RankedSlate, watched: Watched, state: AccountState) -> WhyNot:
    name, catalogue = watched.filter, engine.catalogue
    if name == "blocked":
        return reason_for(name, rule=ranked.resolved.rules.blocking[row])
    if name == "withheld":
        return reason_for(name, why=state.suppressed[catalogue.ids[row]])
    if name == "filtered":
        code = int(engine.model.products.category[row])
        category = engine.model.categories.names[code] if code >= 0 else None
        return reason_for(name, {"price": catalogue.values(row)["price"], "category": category})
    if name in {"not_credible", "worth_less"}:
        floor = engine.config.min_probability
        return reason_for(name, {"probability": watched.probability, "min_probability": floor})
    return reason_for(name, dict(catalogue.values(row)) if name in REFUSALS else {})


def _alike(engine: OfferEngine, row: int, others: Sequence[int], reason: str) -> int:
    """Return which of the offered is of the product's family, a variant of it, or replaced by it."""
    model = engine.model
    if reason == "near_duplicate":
        family, group = model.products.family, model.products.variant_group
        return next(
            other
            for other in others
            if (family[row] >= 0 and family[other] == family[row]) or (group[row] and group[other] == group[row])
        )
    for other in others:
        start, count = int(model.products.substitutes_start[other]), int(model.products.substitutes_count[other])
        if np.isin(row, model.substitutes.product[start : start + count]):
            return other
    raise AssertionError(f"product row {row} was passed over as a substitute of none of {list(others)}")
