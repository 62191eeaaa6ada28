"""Reasons of offers from counts, their sentences, and why a slate is shorter than what was asked for."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final, NamedTuple

from recsys.contracts.offers import LANGUAGE_TAG, OfferRequest, ReasonCode
from recsys.errors import ConfigError
from recsys.offer_model.tables import ALIKE, EVERYONE, FOLLOWED, SAME_CATEGORY, TOGETHER, OfferModel
from recsys.ranking.kernel.layout import NO_ROW, TIER_CART, TIER_SEGMENT
from recsys.ranking.languages import LANGUAGES, Language
from recsys.ranking.product_details import ProductDetails
from recsys.ranking.ranked import N_ROWS, RankedOffer

EvidenceCounts = dict[str, float | int | str]

_MOST_KEPT: Final = 50_000
"""Reasons that are kept once spoken, some 25 MB at the most; then all are spoken anew."""
_TAG: Final = re.compile(LANGUAGE_TAG)
_FIRST_LANGUAGE: Final = next(iter(LANGUAGES.values()))
_RELATED: Final[dict[int, ReasonCode]] = {
    TOGETHER: "bought_together",
    ALIKE: "close_to",
    SAME_CATEGORY: "same_category",
}


class Reason(NamedTuple):
    """Why an offer is made; `Reasons` speaks it.

    Attributes:
        code: what kind of reason it is.
        product: that is offered.
        anchor: the product that the reason starts from; -1: none.
        n: how many accounts or orders speak for it.
        n_of: of how many.
        segment: row of the segment that was counted.
        is_beside_cart: whether the anchor is in the cart, or the product that is viewed.
    """

    code: ReasonCode
    product: int
    anchor: int = NO_ROW
    n: int = 0
    n_of: int = 0
    segment: int = EVERYONE
    is_beside_cart: bool = False


class Spoken(NamedTuple):
    """A reason in the words of one language.

    Attributes:
        reason: what is spoken.
        for_rep: one sentence with counts, that a sales person says of the account.
        for_shopper: what a shop shows.
    """

    reason: Reason
    for_rep: str
    for_shopper: str


class Reasons:
    """Finds the reasons of offers in the counts of a model and speaks them; none rests on fewer than `least` buyers."""

    def __init__(self, model: OfferModel, least: int, details: ProductDetails) -> None:
        self._model = model
        self._details = details
        self._least = least
        self._said: dict[str, dict[tuple[float, ...], Spoken]] = {tag: {} for tag in LANGUAGES}
        languages = model.accounts.language
        self._languages = languages if len(languages.data) else None
        # A memoryview gives a number of Python's in a third of the time that an array takes.
        evidence, rules = model.evidence, model.rules
        self._evidence = [
            column.data
            for column in (
                *(evidence.relation, evidence.segment, evidence.anchor, evidence.product),
                *(evidence.n_anchor, evidence.n_followed),
            )
        ]
        self._rules = [column.data for column in (rules.consequent, rules.n_both, rules.n_antecedent)]

    def of_offer(self, offer: RankedOffer, segment: int) -> Reason:
        """Return why an offer is made; `segment` is the row of the segment that was answered."""
        if offer.tier >= TIER_SEGMENT and offer.evidence != NO_ROW:
            return self.of_fallback(offer.evidence, segment if offer.tier == TIER_SEGMENT else EVERYONE)
        if offer.rule != NO_ROW:
            return self.of_rule(offer.rule, offer.antecedent, is_beside_cart=offer.tier == TIER_CART)
        return self.of_candidate(offer.product, offer.from_product, offer.evidence)

    def of_candidate(self, product: int, from_product: int, evidence: int) -> Reason:
        """Return why a product is a candidate, an upgrade where `from_product` is one."""
        if evidence != NO_ROW:
            return self.of_evidence(evidence, is_upgrade=from_product != NO_ROW)
        if from_product != NO_ROW:
            return Reason("higher_version", product, from_product)
        return self.of_popularity(product)

    def of_evidence(self, row: int, *, is_upgrade: bool) -> Reason:
        """Return the reason that stands in row `row` of the evidence table."""
        relation, segment, anchor, product, n_of, n = (column[row] for column in self._evidence)
        code: ReasonCode = "upgraded" if is_upgrade else "bought_next"
        if anchor < 0:
            code = "popular" if segment == EVERYONE else "popular_with_peers"
        elif relation != FOLLOWED:
            code = _RELATED[relation]
        return Reason(code, product, anchor, n, n_of, segment)

    def of_rule(self, row: int, antecedent: int, *, is_beside_cart: bool) -> Reason:
        """Return the reason that row `row` of the rules gives for its consequent."""
        consequent, n_both, n_antecedent = (column[row] for column in self._rules)
        return Reason("bought_together", consequent, antecedent, n_both, n_antecedent, is_beside_cart=is_beside_cart)

    def of_fallback(self, row: int, segment: int) -> Reason:
        """Return how many of a segment bought the product in row `row` of the fallback table lately."""
        table, facts = self._model.segments, self._model.facts
        product, n = int(self._model.fallback.product[row]), int(self._model.fallback.n_buyers[row])
        if n < self._least:
            return self.of_popularity(product)
        code: ReasonCode = "popular_lately" if facts.fallback_window_days else "popular"
        return Reason(code, product, NO_ROW, n, int(table.n_accounts[segment]), segment)

    def of_popularity(self, product: int) -> Reason:
        """Return how many accounts ever bought a product, or that too few did."""
        n = int(self._model.products.n_accounts[product])
        if n < self._least:
            return Reason("few_yet", product)
        return Reason("popular", product, NO_ROW, n, self._model.facts.n_accounts)

    def language(self, request: OfferRequest, account: int) -> Language:
        """Return the language of a request, else of the account in row `account`, else the request's default.

        What an account's language says that is no tag counts for nothing.

        Raises:
            ConfigError: the request's tag is none.
        """
        if request.language is None and self._languages is None:  # the usual request, in a third of the time
            usual = LANGUAGES.get(request.default_language)
            if usual is not None:
                return usual
        if request.language is not None and not _TAG.fullmatch(request.language):
            raise ConfigError(f"language == {request.language!r}, must be a tag such as 'de' or 'de-AT'; name one")
        for tag in (request.language, self._language_of(account), request.default_language):
            known = LANGUAGES.get(tag.split("-")[0].lower()) if tag else None
            if known is not None:
                return known
        return _FIRST_LANGUAGE

    def _language_of(self, account: int) -> str | None:
        return self._languages[account] if self._languages is not None and account != NO_ROW else None

    def name(self, product: int, language: Language) -> str:
        """Return a product's name in a language, or its id where it has none."""
        return self._details.name(product, language.tag) or self._model.products.ids[product]

    def spoken(
        self, offer: RankedOffer, segment: int, language: Language, price_difference: float | None = None
    ) -> Spoken:
        """Return why an offer is made in words, and what an upgrade costs more to pay; a reason once spoken is kept."""
        said = self._said[language.tag]
        rows = offer[:N_ROWS]
        found = said.get(rows)
        if found is None:
            if len(said) > _MOST_KEPT:
                said.clear()
            found = said[rows] = self.speak(self.of_offer(offer, segment), language)
        return self.dearer(found, price_difference, language)

    def dearer(self, spoken: Spoken, difference: float | None, language: Language) -> Spoken:
        """Return a reason with what a unit costs more to pay, and as it is where that is not known or not more."""
        if difference is None or difference <= 0:
            return spoken
        amount = language.amount(difference, self._model.facts.currency)
        for_rep = language.dearer.rep.format(reason=spoken.for_rep, amount=amount)
        return Spoken(spoken.reason, for_rep, language.dearer.shopper.format(reason=spoken.for_shopper, amount=amount))

    def speak(self, reason: Reason, language: Language) -> Spoken:
        """Return a reason in words."""
        facts, code = self._model.facts, reason.code
        template = language.templates[code]
        for_rep = template.rep
        if reason.is_beside_cart:
            for_rep = language.beside_cart
        elif facts.fallback_unit == "orders" and reason.anchor < 0:
            for_rep = language.of_orders.get(code, for_rep)
        is_of_everyone = reason.segment == EVERYONE
        words: dict[str, object] = {
            "product": self.name(reason.product, language),
            "n": language.count(reason.n),
            "n_of": language.count(reason.n_of),
            "group": "" if is_of_everyone else language.group.format(segment=self._segment(reason)),
        }
        if reason.anchor >= 0:
            words["anchor"] = self.name(reason.anchor, language)
        if code in _COMPARED:
            words["days"], words["share"] = facts.reason_window_days, language.percent(self._overall(reason))
        elif code == "popular_lately":
            words["days"], words["as_of"] = facts.fallback_window_days, language.day(facts.as_of)
        elif code == "same_category":
            words["category"] = self._category(reason)
        return Spoken(reason, for_rep.format_map(words), template.shopper.format_map(words))

    def evidence(self, reason: Reason) -> EvidenceCounts:
        """Return the counts that the sentence speaks, by name."""
        code, facts = reason.code, self._model.facts
        anchored: EvidenceCounts = {}
        if reason.anchor >= 0:
            anchored["anchor_product_id"] = self._model.products.ids[reason.anchor]
        if code == "bought_together":
            overall = int(self._model.products.n_orders[reason.product])
            return anchored | {
                "n_orders_with_both": reason.n,
                "n_orders_with_anchor": reason.n_of,
                "n_orders_overall": overall,
                "n_orders": facts.n_orders,
            }
        if not reason.n_of:
            return anchored
        group = f"segment {self._segment(reason)}" if reason.segment != EVERYONE else "all accounts"
        counts: EvidenceCounts = {"peer_group": group, "n_peers": reason.n_of, "n_buyers": reason.n}
        if code in _COMPARED:
            return (
                counts
                | anchored
                | {
                    "window_days": facts.reason_window_days,
                    "n_follow_ons_overall": int(self._model.products.n_follow_ons[reason.product]),
                    "n_purchases_overall": facts.n_first_purchases,
                }
            )
        return counts | {"window_days": facts.fallback_window_days or 0} if code == "popular_lately" else counts

    def _overall(self, reason: Reason) -> float:
        if reason.code == "bought_together":
            return int(self._model.products.n_orders[reason.product]) / max(self._model.facts.n_orders, 1)
        n_follow_ons = int(self._model.products.n_follow_ons[reason.product])
        return n_follow_ons / max(self._model.facts.n_first_purchases, 1)

    def _segment(self, reason: Reason) -> str:
        return self._model.segments.names[reason.segment]

    def _category(self, reason: Reason) -> str:
        row = int(self._model.products.category[reason.product])
        return self._model.categories.names[row] if row >= 0 else ""


_COMPARED: Final = frozenset({"bought_together", "bought_next", "upgraded"})
"""Reasons that compare with how often orders hold the product, or how often it follows any purchase."""


SPOKEN = {
    "inactive": "inactive",
    "do_not_offer": "flagged do_not_offer",
    "out_of_stock": "out of stock",
    "blocked": "blocked by business rules",
    "filtered": "outside the categories or prices asked for",
    "in_cart": "in the cart",
    "excluded": "excluded by the request",
    "withheld": "withheld for this account now",
    "owned": "owned",
    "not_credible": "below the least probability",
    "worth_less": "worth no more than what they displace",
    "near_duplicate": "near-duplicates",
    "substitute": "substitutes",
}
OPTED_OUT_SENTENCE = "the account wants no offers"


def shortfall_sentence(requested: int, returned: int, n_considered: int, removed: Counter[str]) -> str | None:
    """Return why `returned < requested`, None where all came.

    Example:
        >>> shortfall_sentence(3, 1, 5, Counter(owned=4))
        'asked for 3, found 1 in 5 candidates; left out: 4 owned'
        >>> shortfall_sentence(2, 0, 0, Counter())
        'asked for 2, there is no candidate: nothing goes with this account, cart or product'
    """
    if returned >= requested:
        return None
    if n_considered == 0:
        return f"asked for {requested}, there is no candidate: nothing goes with this account, cart or product"
    found = f"asked for {requested}, found {returned or 'nothing credible'} in {n_considered} candidates"
    parts = [f"{removed[name]} {words}" for name, words in SPOKEN.items() if removed[name]]
    return f"{found}; left out: {', '.join(parts)}" if parts else found
