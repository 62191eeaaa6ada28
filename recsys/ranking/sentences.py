"""Says why: one sentence from counts, that a person can say aloud."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from recsys.ranking.model import EVERYONE, OfferModel

Evidence = dict[str, float | int | str]


@dataclass(frozen=True, slots=True)
class Reason:
    """A sentence, the counts that it speaks, and the product that it starts from (-1: none)."""

    sentence: str
    evidence: Evidence
    anchor: int = -1


class Reasons:
    """Turns the counts of a model into sentences; none rests on fewer than `least` buyers."""

    def __init__(self, model: OfferModel, least: int) -> None:
        self._model = model
        self._least = least
        self._names: dict[int, str] = {}  # of the products that were named so far; at most one entry a product

    def name(self, product: int) -> str:
        """Return a product's name, or its id where it has none."""
        name = self._names.get(product)
        if name is None:
            name = self._model.products.names[product] or self._model.products.ids[product]
            self._names[product] = name
        return name

    def of_evidence(self, row: int, *, climbs: bool) -> Reason:
        """Return the reason that stands in row `row` of the evidence table."""
        table = self._model.evidence
        segment, anchor, product = int(table.segment[row]), int(table.anchor[row]), int(table.product[row])
        n_anchor, n_followed = int(table.n_anchor[row]), int(table.n_followed[row])
        counts: Evidence = {"peer_group": self._peer_group(segment), "n_peers": n_anchor, "n_buyers": n_followed}
        who = f"{_spoken(n_followed)} of {_spoken(n_anchor)} accounts{self._like_this(segment)}"
        if anchor < 0:
            return Reason(f"{who} have bought {self.name(product)}", counts)
        facts, overall = self._model.facts, int(self._model.products.n_follow_ons[product])
        counts |= {
            "anchor_product_id": self._model.products.ids[anchor],
            "window_days": facts.reason_window_days,
            "n_follow_ons_overall": overall,
            "n_purchases_overall": facts.n_first_purchases,
        }
        verb = "went on to" if climbs else "added"
        share = _percent(overall / max(facts.n_first_purchases, 1))
        return Reason(
            f"{who} that buy {self.name(anchor)} {verb} {self.name(product)} "
            f"within {facts.reason_window_days} days; {share} overall",
            counts,
            anchor,
        )

    def beside(self, cart: Sequence[int]) -> CartReasons:
        """Return the reasons that the products of a cart give."""
        return CartReasons(self, self._model, cart, self._least)

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
        counts: Evidence = {"peer_group": self._peer_group(segment), "n_peers": n_peers, "n_buyers": n_buyers}
        if days:
            counts["window_days"] = days
        sentence = f"{_spoken(n_buyers)} of {_spoken(n_peers)} {what} {verb} {self.name(product)}{window}"
        return Reason(sentence, counts)

    def of_popularity(self, product: int) -> Reason:
        """Return how many accounts ever bought a product, or a sentence without a count where they are too few."""
        n_buyers, n_accounts = int(self._model.products.n_accounts[product]), self._model.facts.n_accounts
        if n_buyers < self._least:
            return Reason(f"{self.name(product)} is close to what was bought before; few have bought it yet", {})
        sentence = f"{_spoken(n_buyers)} of {_spoken(n_accounts)} accounts have bought {self.name(product)}"
        return Reason(sentence, {"peer_group": "all accounts", "n_peers": n_accounts, "n_buyers": n_buyers})

    def _like_this(self, segment: int) -> str:
        return "" if segment == EVERYONE else f" like this one (segment {self._model.segments.names[segment]})"

    def _peer_group(self, segment: int) -> str:
        return "all accounts" if segment == EVERYONE else f"segment {self._model.segments.names[segment]}"


class CartReasons:
    """How often orders with a product of one cart hold another product."""

    def __init__(self, reasons: Reasons, model: OfferModel, cart: Sequence[int], least: int) -> None:
        self._reasons = reasons
        self._model = model
        self._least = least
        self._slices = []
        for antecedent in cart:
            start, count = int(model.products.rules_start[antecedent]), int(model.products.rules_count[antecedent])
            if count:
                self._slices.append((antecedent, start, model.rules.consequent[start : start + count]))

    def reason(self, product: int) -> Reason | None:
        """Return the sentence of one product; None where too few buyers stand behind it.

        Of several products of the cart, the one whose orders hold this product most often is named.
        """
        best: tuple[float, int, int, int] | None = None
        for antecedent, start, consequents in self._slices:
            position = int(consequents.searchsorted(product))
            if position == len(consequents) or consequents[position] != product:
                continue
            row = start + position
            if self._model.rules.n_buyers[row] >= self._least:
                n_both, n_antecedent = int(self._model.rules.n_both[row]), int(self._model.rules.n_antecedent[row])
                found = (n_both / max(n_antecedent, 1), -antecedent, n_both, n_antecedent)
                best = found if best is None else max(best, found)
        return None if best is None else self._spoken(product, -best[1], best[2], best[3])

    def _spoken(self, product: int, antecedent: int, n_both: int, n_antecedent: int) -> Reason:
        names = self._reasons.name(product), self._reasons.name(antecedent)
        sentence = f"{names[0]} was in {_spoken(n_both)} of {_spoken(n_antecedent)} orders with {names[1]}"
        counts: Evidence = {
            "anchor_product_id": self._model.products.ids[antecedent],
            "n_orders_with_both": n_both,
            "n_orders_with_anchor": n_antecedent,
        }
        return Reason(sentence, counts, antecedent)


def _spoken(count: int) -> str:
    return f"{count:,}"


def _percent(share: float) -> str:
    if share >= 0.01:
        return f"{100 * share:.0f} %"
    return f"{100 * share:.1f} %" if share >= 0.001 else "under 0.1 %"
