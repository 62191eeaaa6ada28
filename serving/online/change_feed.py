"""What reached the event store since it was last looked at, and the file of business rules when it has changed."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from recsys.arrays import FloatArray
from recsys.contracts.decisions import ASSIGNMENT_COLUMNS, AssignedArm, assignments_of
from recsys.contracts.events import PRESENTING, Erasure, EventQuery, FeedPosition, Outcome, TableName
from recsys.contracts.offers import logged_products
from recsys.errors import ConfigError
from recsys.events.schema import FED
from recsys.events.store import EventStore
from recsys.offer_catalogue.business_rules import BusinessRules, read_rules
from serving import logs
from serving.ids import first_id_at
from serving.online.running_experiments import ExperimentKey

_log = logging.getLogger("serving")


class RulesFile:
    """The rules of one file.

    Attributes:
        is_refused: whether the file as it stands is broken, so that older rules are in force.

    Raises:
        ConfigError: the file is broken from the beginning.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.is_refused = False
        self._stamp = self._look_at()
        self._rules = read_rules(path)

    def look(self) -> BusinessRules:
        """Return the rules, read again where the file has changed; a broken file is told and left alone."""
        stamp = self._look_at()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._rules = read_rules(self._path)
                self.is_refused = False
                _log.info("business rules read", extra={logs.FIELDS: {"version": self._rules.version}})
            except ConfigError as error:
                self.is_refused = True
                _log.error("business rules refused, the last good ones go on: %s", error)
        return self._rules

    def _look_at(self) -> bytes | None:
        """Return what tells the file's content apart; times and sizes miss an edit within one tick of the clock."""
        try:
            with self._path.open("rb") as file:
                if os.fstat(file.fileno()).st_nlink == 0 and not self.is_refused:
                    self.is_refused = True
                    _log.error("%s: replaced where it is mounted alone; write it in place", self._path)
                return hashlib.sha256(file.read()).digest()
        except OSError:
            return None


REFUSING: Final = frozenset({"declined", "dismissed"})
"""Outcomes after which a product rests."""

_IDS_A_QUERY: Final = 5_000
_LINE_COLUMNS: Final = (
    *("order_id", "line_id", "account_id", "visitor_id", "product_id", "ordered_at", "quantity", "recorded_at"),
)
_LIVE: Final[tuple[TableName, ...]] = ("product_overrides", "account_overrides", "visitor_links")
_OUTCOME_COLUMNS: Final = ("outcome_id", "decision_id", "product_id", "kind", "occurred_at", "recorded_at")
_DECISION_COLUMNS: Final = ("decision_id", "account_id", "visitor_id", "decided_at", "offers", *ASSIGNMENT_COLUMNS)


class Subject(NamedTuple):
    """Whose history a fact belongs to; the account where both are known."""

    account_id: str | None
    visitor_id: str | None


class Feedback(NamedTuple):
    """What came of some offers of one decision, where it changes what may be offered."""

    subject: Subject
    decision_id: str
    product_ids: Sequence[str]
    when: datetime
    refuses: bool


class DecisionRef(NamedTuple):
    """What the store knows of the decision behind an outcome."""

    subject: Subject
    product_ids: Sequence[str]
    assignments: Sequence[AssignedArm]
    decided_at: datetime


@dataclass(frozen=True, slots=True)
class StateDelta:
    """What was read from the store, ready to be applied.

    Attributes:
        lines: order lines.
        reactions: refusals and presentations.
        products: rows of the products' overrides.
        accounts: rows of the accounts' overrides.
        links: rows of the visitors who logged in.
        erasures: every erasure of an account, where there are more than were known; else none.
        experiments: rows of every experiment.
        entered: who is in those that are about to end or have ended, where that was read.
        rules: the business rules as they stand; None without a file.
        position: how far it was read.
        n_writes: how many writes of products and of accounts this worker had put in force before it was read.
    """

    lines: list[dict[str, Any]] = field(default_factory=list)
    reactions: list[Feedback] = field(default_factory=list)
    products: list[dict[str, Any]] = field(default_factory=list)
    accounts: list[dict[str, Any]] = field(default_factory=list)
    links: list[dict[str, Any]] = field(default_factory=list)
    erasures: list[Erasure] = field(default_factory=list)
    experiments: list[dict[str, Any]] = field(default_factory=list)
    entered: Mapping[ExperimentKey, FloatArray] = field(default_factory=dict)
    rules: BusinessRules | None = None
    position: FeedPosition | None = None
    n_writes: tuple[int, int] = (0, 0)


class ChangeReader:
    """Reads news; its methods may run in any thread.

    Args:
        store: that every worker writes to.
        rules: the file of business rules, where there is one.
        declares: whether a surface declares that returned is presented: then decisions are looked at too.
    """

    def __init__(self, store: EventStore, rules: RulesFile | None, *, declares: bool) -> None:
        self._store = store
        self._rules = rules
        self._declares = declares

    def everything(self, lines_since: datetime, since: datetime) -> StateDelta:
        """Return all that may matter.

        Args:
            lines_since: order lines from then on.
            since: outcomes and presentations from then on.
        """
        position = self._store.position()
        queries: dict[TableName, EventQuery] = {
            "decisions": EventQuery("decisions", from_decision_id=first_id_at(since), presented=True),
            "order_lines": EventQuery("order_lines", recorded_since=lines_since),
            "outcomes": EventQuery("outcomes", recorded_since=since),
        }
        return self._read(queries, position, 0)

    def changes(self, since: FeedPosition, n_erasures: int) -> StateDelta | None:
        """Return what was written since a position; None where the store is an older copy of what was read before.

        Args:
            since: how far the last news were read.
            n_erasures: how many erasures are known.
        """
        position = self._store.position()
        if position.following < since.following:
            return None
        return self._read({table: EventQuery(table, changed_since=since) for table in FED}, position, n_erasures)

    def _read(self, queries: Mapping[TableName, EventQuery], position: FeedPosition, n_erasures: int) -> StateDelta:
        # First of all: what is erased from now on may still be among what is read below, and the next news says so.
        erasures = self._erasures(n_erasures)
        lines = self._rows(replace(queries["order_lines"], columns=_LINE_COLUMNS))
        outcomes = self._rows(replace(queries["outcomes"], columns=_OUTCOME_COLUMNS))
        products, accounts, links = (self._rows(queries.get(table, EventQuery(table))) for table in _LIVE)
        telling = [row for row in outcomes if row["kind"] in REFUSING or row["kind"] in PRESENTING]
        told = self.told({row["decision_id"] for row in telling})
        return StateDelta(
            lines=lines,
            reactions=[*reactions_of([Outcome(**row) for row in telling], told), *self._declared(queries["decisions"])],
            products=products,
            accounts=accounts,
            links=links,
            erasures=erasures,
            experiments=self._store.read(EventQuery("experiments")).to_pylist(),
            rules=None if self._rules is None else self._rules.look(),
            position=position,
        )

    def told(self, decision_ids: Iterable[str]) -> dict[str, DecisionRef]:
        """Return what the store knows of these decisions; those that it does not know are left out."""
        found: dict[str, DecisionRef] = {}
        ids = tuple(decision_ids)
        for start in range(0, len(ids), _IDS_A_QUERY):
            wanted = ids[start : start + _IDS_A_QUERY]
            query = EventQuery("decisions", decision_ids=wanted, columns=_DECISION_COLUMNS)
            for row in self._store.read(query).to_pylist():
                products = logged_products(row["offers"])
                subject = Subject(row["account_id"], row["visitor_id"])
                found[row["decision_id"]] = DecisionRef(subject, products, assignments_of(row), row["decided_at"])
        return found

    def _erasures(self, n_known: int) -> list[Erasure]:
        """Return every erasure where their number has changed.

        None is ever taken back, so that equal numbers are equal sets: no clock that is late, no command that takes
        minutes and no worker that slept can make one go unnoticed.
        """
        if self._store.size("forgotten") == n_known:
            return []
        return [Erasure(**row) for row in self._rows(EventQuery("forgotten"))]

    def _declared(self, query: EventQuery) -> list[Feedback]:
        """Return what surfaces that show whatever they get have presented."""
        if not self._declares:
            return []
        columns = ("decision_id", "account_id", "visitor_id", "decided_at", "offers")
        return [
            Feedback(
                Subject(row["account_id"], row["visitor_id"]),
                row["decision_id"],
                logged_products(row["offers"]),
                row["decided_at"],
                refuses=False,
            )
            for row in self._rows(replace(query, columns=columns))
        ]

    def _rows(self, query: EventQuery) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._store.read(query).to_pylist()
        return rows


def reactions_of(outcomes: Iterable[Outcome], told: dict[str, DecisionRef]) -> list[Feedback]:
    """Return what outcomes change; one without a product concerns every offer of its decision.

    Nothing happened before its decision or after it was reported: neither a clock that runs ahead nor a date without a
    time may change for how long a product rests.
    """
    found = []
    for outcome in outcomes:
        decision = told.get(outcome.decision_id)
        refuses = outcome.kind in REFUSING
        if decision is not None and (refuses or outcome.kind in PRESENTING):
            products = decision.product_ids if outcome.product_id is None else [outcome.product_id]
            when = min(max(outcome.occurred_at, decision.decided_at), outcome.recorded_at)
            found.append(Feedback(decision.subject, outcome.decision_id, products, when, refuses))
    return found
