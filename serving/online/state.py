"""What happened since the models were built, in force for the next request: purchases, refusals, prices, flags."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

from recsys.arrays import FloatArray
from recsys.contracts.events import AccountUpdate, Erasure, FeedPosition, Outcome, PostedLine, forget_key
from recsys.contracts.offers import EMPTY_STATE, AccountState
from recsys.events.store import EventStore
from serving.models.by_alias import LoadedModel
from serving.online.activity import OnlineActivity
from serving.online.change_feed import ChangeReader, DecisionRef, Feedback, RulesFile, StateDelta, Subject
from serving.online.entered_units import read_entered
from serving.online.overrides import AccountOverrides, ProductOverrides
from serving.online.running_experiments import ExperimentKey, Experiments
from serving.settings import Clock, Settings

_CLOCKS_APART: Final = timedelta(days=1)
_TIDIED_AT_ONCE: Final = 500
"""Histories in one go: under a millisecond, and a million of them within some twenty minutes."""


class OnlineState:
    """What the models do not know yet, by account, visitor and product.

    `read_news` and `told` may run in any thread; the other methods belong to the event loop. Applying the same fact
    twice changes nothing, so that what this worker took itself may come back from the store.
    """

    def __init__(self, store: EventStore, settings: Settings, *, since: datetime, clock: Clock) -> None:
        self.products = ProductOverrides()
        self.accounts = AccountOverrides()
        self.experiments = Experiments()
        self.rules_version: str | None = None
        self._store = store
        self._next_entered = 0.0
        self._rules_file = None if settings.rules_file is None else RulesFile(settings.rules_file)
        self._reader = ChangeReader(store, self._rules_file, declares=bool(settings.returned_is_presented))
        self._since = since
        self._cooldown = timedelta(days=settings.declined_cooldown_days)
        self._clock = clock
        self._caps = settings.fatigue
        self._position: FeedPosition | None = None
        self._of_accounts: dict[str, OnlineActivity] = {}
        self._of_visitors: dict[str, OnlineActivity] = {}
        self._links: dict[str, str] = {}
        self._most_visitors = settings.remembered_visitors
        self._erasures: set[Erasure] = set()
        self._forgotten: set[str] = set()
        self._to_tidy: Iterator[str] = iter(())

    def read_for(self, model: LoadedModel) -> StateDelta | None:
        """Return what an older model does not know, None where all of it is in memory; may run in any thread."""
        return self._all_since(model.as_of) if model.as_of < self._since else None

    def adopt(self, model: LoadedModel, older: StateDelta | None = None) -> None:
        """Put everything in force in a model before it answers, with what `read_for` has read for it."""
        self.products.adopt(model)
        if older is not None:
            self._since = min(self._since, model.as_of)
            self.apply(older)

    def read_news(self) -> StateDelta:
        """Return what reached the store since the last news that were applied; at first, all that still matters."""
        n_writes = self._n_writes()
        new = None if self._position is None else self._reader.changes(self._position, len(self._erasures))
        if new is None:
            return self._all_since(self._since)
        return replace(new, n_writes=n_writes, entered=self._entered(new))

    def _entered(self, news: StateDelta) -> dict[ExperimentKey, FloatArray]:
        """Read who is in experiments that end; all anew where somebody was erased, who is in none any more.

        Where that takes long it is done seldom: it has a twentieth of this thread's time.
        """
        begun = time.monotonic()
        if begun < self._next_entered and not news.erasures:
            return {}
        known = {} if news.erasures else self.experiments.entered()
        found = read_entered(self._store, news.experiments, self._clock(), known)
        self._next_entered = begun + 20 * (time.monotonic() - begun)
        return found

    def _n_writes(self) -> tuple[int, int]:
        return self.products.writes.n, self.accounts.writes.n

    def _all_since(self, as_of: datetime) -> StateDelta:
        n_writes = self._n_writes()
        refusing_since = self._clock() - max(self._cooldown, timedelta(days=1))
        # `recorded_at` is by the clock of whichever server took it; a day is more than clocks are apart.
        found = self._reader.everything(as_of - _CLOCKS_APART, max(as_of, refusing_since) - _CLOCKS_APART)
        return replace(found, n_writes=n_writes, entered=self._entered(found))

    def told(self, outcomes: Iterable[Outcome]) -> dict[str, DecisionRef]:
        """Return what the store knows of the decisions of these outcomes."""
        return self._reader.told({outcome.decision_id for outcome in outcomes})

    def apply(self, news: StateDelta) -> None:
        """Put in force what the store holds."""
        self.forget(news.erasures)
        for link in news.links:
            self.link(link["visitor_id"], link["account_id"])
        for row in news.lines:
            if row["ordered_at"] >= self._since and (history := self._history(row["account_id"], row["visitor_id"])):
                history.buy((row["order_id"], row["line_id"]), (row["ordered_at"], row["product_id"], row["quantity"]))
        self.react(news.reactions)
        self.products.read(news.products, news.n_writes[0])
        self.accounts.read(news.accounts, news.n_writes[1])
        self.experiments.apply(news.experiments)
        self.experiments.let_in(news.entered)
        if news.rules is not None:
            self.rules_version = news.rules.version
            self.products.use_rules(news.rules.in_force(self._clock()))
        self._position = news.position

    def buy(self, lines: Iterable[PostedLine]) -> None:
        """Put in force order lines as the store holds them: of two with one id, the first one."""
        for line in lines:
            if line.ordered_at >= self._since and (history := self._history(line.account_id, line.visitor_id)):
                history.buy((line.order_id, line.line_id), (line.ordered_at, line.product_id, line.quantity))

    def react(self, reactions: Iterable[Feedback]) -> None:
        """Put refusals and presentations in force."""
        for reaction in reactions:
            history = self._history(*reaction.subject)
            if history is None:
                continue
            if reaction.refuses:
                for product_id in reaction.product_ids:
                    history.refuse(product_id, reaction.when)
            else:
                history.present(reaction.product_ids, reaction.decision_id, reaction.when)

    def present(self, subject: Subject, decision_id: str, product_ids: Sequence[str], when: datetime) -> None:
        """Put in force that a surface has presented what it got."""
        self.react([Feedback(subject, decision_id, product_ids, when, refuses=False)])

    def link(self, visitor_id: str, account_id: str) -> None:
        """Let a visitor become an account, with all that it did; the first account stays."""
        if visitor_id not in self._links:
            self._links[visitor_id] = account_id
            before = self._of_visitors.pop(visitor_id, None)
            if before is not None:
                self._of_accounts.setdefault(account_id, OnlineActivity()).absorb(before)

    def account_of(self, visitor_id: str) -> str | None:
        """Return the account that a visitor has become, None where it has not."""
        return self._links.get(visitor_id)

    def forget(self, erasures: Iterable[Erasure]) -> None:
        """Drop erased accounts, and let what the bundles hold of them count for nothing from now on."""
        new = set(erasures) - self._erasures
        if new:
            keys = {erasure.account_key for erasure in new}
            self._erasures |= new
            self._forgotten |= keys
            known = {*self._of_accounts, *self.accounts.ids(), *self._links.values()}
            gone = {account_id for account_id in known if forget_key(account_id) in keys}
            self.accounts.drop(gone)
            for account_id in gone:
                self._of_accounts.pop(account_id, None)
            self._links = {visitor: account for visitor, account in self._links.items() if account not in gone}
            self.experiments.forget()

    def tidy(self, oldest: datetime) -> None:
        """Drop what no answer needs any more, of some accounts at a time: a million at once would take a second.

        Args:
            oldest: `as_of` of the oldest model that runs; it knows what was bought before.
        """
        self._since = max(self._since, oldest)
        some = list(islice(self._to_tidy, _TIDIED_AT_ONCE))
        if not some:
            self._to_tidy = iter([*self._of_accounts, *self._of_visitors])
        now = self._clock()
        for histories in (self._of_accounts, self._of_visitors):
            for name in some:
                history = histories.get(name)
                if history is not None and not history.prune(self._since, now - self._cooldown, now.toordinal()):
                    del histories[name]

    @property
    def rules_are_old(self) -> bool:
        """Whether the file of business rules is broken, so that the last good ones are in force."""
        return self._rules_file is not None and self._rules_file.is_refused

    def is_forgotten(self, account_id: str) -> bool:
        """Return whether an account was erased."""
        return bool(self._forgotten) and forget_key(account_id) in self._forgotten

    def of(self, account_id: str | None, visitor_id: str | None, now: datetime) -> AccountState:
        """Return what is new about an account, or about a visitor without one."""
        if account_id is None:
            history = None if visitor_id is None else self._of_visitors.get(visitor_id)
            return EMPTY_STATE if history is None else self._state(history, None, now, forgotten=False)
        history, posted = self._of_accounts.get(account_id), self.accounts.get(account_id)
        forgotten = self.is_forgotten(account_id)
        if history is None and posted is None and not forgotten:
            return EMPTY_STATE
        return self._state(history, posted, now, forgotten=forgotten)

    def _state(
        self, history: OnlineActivity | None, posted: AccountUpdate | None, now: datetime, *, forgotten: bool
    ) -> AccountState:
        return AccountState(
            bought=() if history is None else history.bought(),
            suppressed={} if history is None else history.suppressed(now, self._cooldown, self._caps),
            segment=None if posted is None else posted.segment,
            region=None if posted is None else posted.region,
            do_not_offer=None if posted is None else posted.do_not_offer,
            opt_out_reason=None if history is None else history.opt_out_reason(now, self._caps),
            is_forgotten=forgotten,
        )

    def _history(self, account_id: str | None, visitor_id: str | None) -> OnlineActivity | None:
        """Return whose history a fact belongs to: the account's, a linked visitor's account's, the visitor's."""
        account = account_id or (self._links.get(visitor_id) if visitor_id is not None else None)
        if account is not None:
            return self._of_accounts.setdefault(account, OnlineActivity())
        if visitor_id is None:
            return None
        # Beyond so many visitors the one that did nothing for longest is let go.
        history = self._of_visitors.pop(visitor_id, None) or OnlineActivity()
        self._of_visitors[visitor_id] = history
        if len(self._of_visitors) > self._most_visitors:
            del self._of_visitors[next(iter(self._of_visitors))]
        return history
