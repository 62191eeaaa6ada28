"""What one account or visitor did since the model was trained."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from sys import intern
from typing import Final, TypeAlias

from serving.settings import FrequencyCaps

PurchaseLine: TypeAlias = tuple[datetime, str, float]
"""When, which product, how many units; negative where they came back."""

DECLINED: Final = "declined lately"
TIRED: Final = "presented often enough today"


class OnlineActivity:
    """Purchases, refusals and today's presentations of one account or visitor.

    Every fact has a key of its own, so that the same fact from the store and from this worker counts once. There may be
    a million of these: product ids are interned, and a decision's presentations are one tuple.
    """

    __slots__ = ("_day", "_lines", "_refused", "_shown", "_times")

    def __init__(self) -> None:
        self._lines: dict[tuple[str, str], PurchaseLine] = {}
        self._refused: dict[str, datetime] = {}
        self._day = 0
        self._shown: dict[str, tuple[str, ...]] = {}  # decision -> the products that it presented today
        self._times: dict[str, int] = {}  # product -> today's presentations

    def buy(self, key: tuple[str, str], line: PurchaseLine) -> None:
        """Add an order line as the store holds it."""
        when, product_id, quantity = line
        self._lines[key] = when, intern(product_id), quantity

    def refuse(self, product_id: str, when: datetime) -> None:
        """Add a refusal; the latest one of a product counts."""
        self._refused[intern(product_id)] = max(self._refused.get(product_id, when), when)

    def present(self, product_ids: Iterable[str], decision_id: str, when: datetime) -> None:
        """Add presented offers of a decision; each decision presents a product once."""
        day = when.toordinal()
        if day < self._day:
            return
        if day > self._day:
            self._day, self._shown, self._times = day, {}, {}
        known = self._shown.get(decision_id, ())
        new = tuple(intern(product_id) for product_id in dict.fromkeys(product_ids) if product_id not in known)
        if new:
            self._shown[decision_id] = known + new
            for product_id in new:
                self._times[product_id] = self._times.get(product_id, 0) + 1

    def absorb(self, other: OnlineActivity) -> None:
        """Add all that another history holds: a visitor has become this account."""
        for key, line in other._lines.items():
            self._lines.setdefault(key, line)
        for product_id, when in other._refused.items():
            self.refuse(product_id, when)
        for decision_id, product_ids in other._shown.items():
            self.present(product_ids, decision_id, datetime.fromordinal(other._day))

    def prune(self, lines_since: datetime, refused_since: datetime, today: int) -> bool:
        """Drop what changes no answer any more; return whether anything is left.

        Args:
            lines_since: every model that runs knows the earlier purchases.
            refused_since: earlier refusals rest no more.
            today: ordinal of the day.
        """
        self._lines = {key: line for key, line in self._lines.items() if line[0] >= lines_since}
        self._refused = {product: at for product, at in self._refused.items() if at >= refused_since}
        if self._day < today:
            self._shown, self._times = {}, {}
        return bool(self._lines or self._refused or self._shown)

    def bought(self) -> tuple[str, ...]:
        """Return the products of which more was bought than came back, the latest purchase first."""
        units: dict[str, float] = defaultdict(float)
        latest: dict[str, datetime] = {}
        for when, product, quantity in self._lines.values():
            units[product] += quantity
            if quantity > 0 and (product not in latest or when > latest[product]):
                latest[product] = when
        kept = [product for product in latest if units[product] > 0]
        return tuple(sorted(kept, key=lambda product: (latest[product], product), reverse=True))

    def suppressed(self, now: datetime, cooldown: timedelta, caps: FrequencyCaps) -> dict[str, str]:
        """Return the products that rest now, and why."""
        found = {product: DECLINED for product, at in self._refused.items() if now < at + cooldown}
        if self._day == now.toordinal():
            for product, n_times in self._times.items():
                if n_times >= caps.product_a_day:
                    found.setdefault(product, TIRED)
        return found

    def opt_out_reason(self, now: datetime, caps: FrequencyCaps) -> str | None:
        """Return why no offer at all may be made now, None where one may."""
        if caps.offers_a_day is None or self._day != now.toordinal():
            return None
        n_presented = sum(self._times.values())
        return f"{n_presented} offers were presented today" if n_presented >= caps.offers_a_day else None
