"""Reasons of offers, one sentence each from counts, and why a slate is shorter than what was asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import NamedTuple

from recsys.offer_model.tables import EVERYONE, OfferModel
from recsys.ranking.kernel.layout import NO_ROW, TIER_SEGMENT
from recsys.ranking.ranked import RankedOffer

EvidenceCounts = dict[str, float | int | str]


class Reason(NamedTuple):
    """Why an offer is made.

    Attributes:
        sentence: that a person can say aloud.
        anchor: the product that it starts from; -1: none.
        counted: makes `evidence`, which few ask for.
    """

    sentence: str
    anchor: int
    counted: Callable[[], EvidenceCounts]

    @property
    def evidence(self) -> EvidenceCounts:
        """The counts that the sentence speaks, by name."""
        return self.counted()


class Reasons:
    """Turns the counts of a model into sentences; none rests on fewer than `least` buyers."""

    def __init__(self, model: OfferModel, least: int) -> None:
        self._model = model
        self._least = least
        self._names: dict[int, str] = {}  # of the products that were named so far; at most one entry a product
        self._groups = ["all accounts", *(f"segment {name}" for name in islice(model.segments.names, 1, None))]
        # A memoryview gives a number of Python's in a third of the time that an array takes.
        evidence, rules = model.evidence, model.rules
        self._evidence = [
            column.data
            for column in (evidence.segment, evidence.anchor, evidence.product, evidence.n_anchor, evidence.n_followed)
        ]
        self._rules = [column.data for column in (rules.consequent, rules.n_both, rules.n_antecedent)]

    def of_offer(self, offer: RankedOffer, segment: int) -> Reason:
        """Return why an offer is made; `segment` is the row of the segment that was answered."""
        if offer.tier >= TIER_SEGMENT and offer.evidence != NO_ROW:
            return self.of_fallback(offer.evidence, segment if offer.tier == TIER_SEGMENT else EVERYONE)
        if offer.rule != NO_ROW:
            return self.of_rule(offer.rule, offer.antecedent)
        if offer.evidence != NO_ROW:
            return self.of_evidence(offer.evidence, is_upgrade=offer.from_product != NO_ROW)
        return self.of_popularity(offer.product)

    def name(self, product: int) -> str:
        """Return a product's name, or its id where it has none."""
        name = self._names.get(product)
        if name is None:
            name = self._model.products.names[product] or self._model.products.ids[product]
            self._names[product] = name
        return name

    def of_evidence(self, row: int, *, is_upgrade: bool) -> Reason:
        """Return the reason that stands in row `row` of the evidence table."""
        segment, anchor, product, n_anchor, n_followed = (column[row] for column in self._evidence)
        who = f"{n_followed:,} of {n_anchor:,} accounts{self._like_this(segment)}"
        count = partial(self._followed, row)
        if anchor < 0:
            return Reason(f"{who} have bought {self.name(product)}", anchor, count)
        facts = self._model.facts
        verb = "went on to" if is_upgrade else "added"
        share = _percent(int(self._model.products.n_follow_ons[product]) / max(facts.n_first_purchases, 1))
        sentence = (
            f"{who} that buy {self.name(anchor)} {verb} {self.name(product)} "
            f"within {facts.reason_window_days} days; {share} overall"
        )
        return Reason(sentence, anchor, count)

    def _followed(self, row: int) -> EvidenceCounts:
        segment, anchor, product, n_anchor, n_followed = (column[row] for column in self._evidence)
        counts: EvidenceCounts = {"peer_group": self._groups[segment], "n_peers": n_anchor, "n_buyers": n_followed}
        if anchor < 0:
            return counts
        facts = self._model.facts
        return counts | {
            "anchor_product_id": self._model.products.ids[anchor],
            "window_days": facts.reason_window_days,
            "n_follow_ons_overall": int(self._model.products.n_follow_ons[product]),
            "n_purchases_overall": facts.n_first_purchases,
        }

    def of_rule(self, row: int, antecedent: int) -> Reason:
        """Return the reason that row `row` of the rules gives for its consequent."""
        consequent, n_both, n_antecedent = (column[row] for column in self._rules)
        names = self.name(consequent), self.name(antecedent)
        sentence = f"{names[0]} was in {n_both:,} of {n_antecedent:,} orders with {names[1]}"
        return Reason(sentence, antecedent, partial(self._together, row, antecedent))

    def _together(self, row: int, antecedent: int) -> EvidenceCounts:
        _, n_both, n_antecedent = (column[row] for column in self._rules)
        return {
            "anchor_product_id": self._model.products.ids[antecedent],
            "n_orders_with_both": n_both,
            "n_orders_with_anchor": n_antecedent,
        }

    def of_fallback(self, row: int, segment: int) -> Reason:
        """Return how many of a segment bought the product in row `row` of the fallback table lately."""
        table, facts = self._model.segments, self._model.facts
        product, n_buyers = int(self._model.fallback.product[row]), int(self._model.fallback.n_buyers[row])
        if n_buyers < self._least:
            return self.of_popularity(product)
        n_peers, days = int(table.n_accounts[segment]), facts.fallback_window_days
        what = f"{facts.fallback_unit}{self._like_this(segment)}"
        verb = "bought" if facts.fallback_unit == "accounts" else "hold"
        window = f" in the {days} days before {facts.as_of[:10]}" if days else ""
        counts: EvidenceCounts = {"peer_group": self._groups[segment], "n_peers": n_peers, "n_buyers": n_buyers}
        if days:
            counts["window_days"] = days
        sentence = f"{n_buyers:,} of {n_peers:,} {what} {verb} {self.name(product)}{window}"
        return Reason(sentence, NO_ROW, lambda: counts)

    def of_popularity(self, product: int) -> Reason:
        """Return how many accounts ever bought a product, or a sentence without a count where they are too few."""
        n_buyers, n_accounts = int(self._model.products.n_accounts[product]), self._model.facts.n_accounts
        if n_buyers < self._least:
            sentence = f"{self.name(product)} is close to what was bought before; few have bought it yet"
            return Reason(sentence, NO_ROW, dict)
        sentence = f"{n_buyers:,} of {n_accounts:,} accounts have bought {self.name(product)}"
        counts: EvidenceCounts = {"peer_group": self._groups[EVERYONE], "n_peers": n_accounts, "n_buyers": n_buyers}
        return Reason(sentence, NO_ROW, lambda: counts)

    def _like_this(self, segment: int) -> str:
        return "" if segment == EVERYONE else f" like this one ({self._groups[segment]})"


def _percent(share: float) -> str:
    if share >= 0.01:
        return f"{100 * share:.0f} %"
    return f"{100 * share:.1f} %" if share >= 0.001 else "under 0.1 %"


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
    "worth_less": "worth less than what they displace",
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
