"""Values of products and accounts that were posted since the models were built, in force in every model."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime
from typing import Any, Final, TypeVar
from weakref import WeakSet

from recsys.contracts.events import AccountUpdate, ProductUpdate
from recsys.offer_catalogue.business_rules import BusinessRule, unknown_in_rules
from serving.models.by_alias import LoadedModel, OfferRanker

_T = TypeVar("_T", ProductUpdate, AccountUpdate)

_MOST_NAMED: Final = 20
"""Unknown names of business rules in one line of the log."""

_log = logging.getLogger("serving")


class OwnWrites:
    """Which values this worker has put in force itself, told apart from what it reads of the store.

    A row that was read while this worker wrote the same key may be older than that write, and no clock tells: the row
    may be of a worker whose clock runs ahead. It waits for the next reading, which brings a newer one where there is
    one; where there is none, the row held the write already and is the latest.

    Attributes:
        n: how many there were so far.
    """

    def __init__(self) -> None:
        self.n = 0
        self._last: dict[str, int] = {}
        self._waiting: dict[str, Mapping[str, Any]] = {}

    def note(self, key: str) -> None:
        """Remember a write that is in the store by now."""
        self.n += 1
        self._last[key] = self.n

    def settled(self, rows: Mapping[str, Mapping[str, Any]], n_before: int) -> Iterable[Mapping[str, Any]]:
        """Return the rows that no write may have overtaken, among them what waited since the reading before.

        Args:
            rows: key -> what was read of it.
            n_before: `n` when the reading began.
        """
        known = {**self._waiting, **rows}
        self._waiting = {key: row for key, row in known.items() if self._last.get(key, 0) > n_before}
        return [row for key, row in known.items() if key not in self._waiting]

    def drop(self, key: str) -> None:
        """Forget a key."""
        self._last.pop(key, None)
        self._waiting.pop(key, None)


class ProductOverrides:
    """The latest values of products and the business rules in force, brought to every model that answers."""

    def __init__(self) -> None:
        self.writes = OwnWrites()
        self._updates: dict[str, ProductUpdate] = {}
        self._engines: WeakSet[OfferRanker] = WeakSet()
        self._unknown: set[str] = set()
        self._rules: Sequence[BusinessRule] = ()

    def adopt(self, model: LoadedModel) -> None:
        """Put all of it in force in a model before it answers."""
        for update in self._updates.values():
            if model.engine.apply(update):
                self._unknown.discard(update.product_id)
        model.engine.use_rules(self._rules)
        self._engines.add(model.engine)

    def update(self, updates: Iterable[ProductUpdate]) -> None:
        """Put in force what this worker has just written."""
        for update in updates:
            self.writes.note(update.product_id)
            self._put(filled(self._updates.get(update.product_id, update), update))

    def read(self, rows: Iterable[Mapping[str, Any]], n_before: int) -> None:
        """Put in force rows of the store, but for those that this worker has overtaken since they were read.

        Args:
            rows: of products' overrides.
            n_before: how many writes this worker had put in force when the reading began.
        """
        for row in self.writes.settled({row["product_id"]: row for row in rows}, n_before):
            kept = self._updates.get(row["product_id"])
            if kept is None or row["recorded_at"] >= kept.recorded_at:
                self._put(ProductUpdate(**row))

    def use_rules(self, rules: Sequence[BusinessRule]) -> None:
        """Put business rules in force in every model."""
        if tuple(rules) != tuple(self._rules):
            self._rules = rules
            for engine in self._engines:
                engine.use_rules(rules)
            unknown = unknown_in_rules(rules, lambda kind, name: any(one.knows(kind, name) for one in self._engines))
            if unknown and self._engines:
                more = f" and {len(unknown) - _MOST_NAMED:,} more" if len(unknown) > _MOST_NAMED else ""
                _log.warning("business rules name what no model knows: %s%s", ", ".join(unknown[:_MOST_NAMED]), more)

    def is_unknown(self, product_id: str) -> bool:
        """Return whether a product with posted values is one that no model knows: they wait for one that does."""
        return product_id in self._unknown

    def recorded_at(self, product_id: str) -> datetime | None:
        """Return when a product's values last changed here, None where they never did."""
        update = self._updates.get(product_id)
        return None if update is None else update.recorded_at

    def _put(self, update: ProductUpdate) -> None:
        kept = self._updates.get(update.product_id)
        if kept is not None:
            update = replace(update, recorded_at=max(update.recorded_at, kept.recorded_at))
        self._updates[update.product_id] = update
        if kept is None or replace(kept, recorded_at=update.recorded_at) != update:
            known = [engine.apply(update) for engine in self._engines]
            if not any(known):
                self._unknown.add(update.product_id)


class AccountOverrides:
    """The latest posted values of accounts."""

    def __init__(self) -> None:
        self.writes = OwnWrites()
        self._updates: dict[str, AccountUpdate] = {}

    def get(self, account_id: str) -> AccountUpdate | None:
        """Return the values of an account, None where none were posted."""
        return self._updates.get(account_id)

    def update(self, updates: Iterable[AccountUpdate]) -> None:
        """Put in force what this worker has just written."""
        for update in updates:
            self.writes.note(update.account_id)
            kept = self._updates.get(update.account_id, update)
            recorded_at = max(kept.recorded_at, update.recorded_at)
            self._updates[update.account_id] = replace(filled(kept, update), recorded_at=recorded_at)

    def read(self, rows: Iterable[Mapping[str, Any]], n_before: int) -> None:
        """Put in force rows of the store, but for those that this worker has overtaken since they were read.

        Args:
            rows: of accounts' overrides.
            n_before: how many writes this worker had put in force when the reading began.
        """
        for row in self.writes.settled({row["account_id"]: row for row in rows}, n_before):
            kept = self._updates.get(row["account_id"])
            if kept is None or row["recorded_at"] >= kept.recorded_at:
                self._updates[row["account_id"]] = AccountUpdate(**row)

    def drop(self, account_ids: Iterable[str]) -> None:
        """Forget accounts."""
        for account_id in account_ids:
            self._updates.pop(account_id, None)
            self.writes.drop(account_id)

    def ids(self) -> list[str]:
        """Return the accounts with posted values."""
        return list(self._updates)


def filled(kept: _T, new: _T) -> _T:
    """Return `kept` with every value that `new` names."""
    named = {item.name: getattr(new, item.name) for item in fields(new) if getattr(new, item.name) is not None}
    return replace(kept, **named)
