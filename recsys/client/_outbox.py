"""Outcomes and orders that wait for the server: bounded in count, each sent under the id that it was given.

They stand in a SQLite database, in memory or in a file; nothing else knows which. Events of one kind are posted in the
order in which they were put in, the two kinds in turn, and an event that could not be sent lets the others pass. The
order matters to nothing: each event has an id and a time of its own, and the server takes them in any order.
"""

from __future__ import annotations

import json
import logging
import re
import sqlite3
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from recsys.client._answers import PostedOrders, Reported
from recsys.client._calls import EVENT_KINDS, ApiCall, queued_call
from recsys.client._exchange import ClientConfig, RequestRefusedError, ServiceError
from recsys.errors import ConfigError

MOST_AT_ONCE: Final = 100
"""Events of one post: the server takes 200 orders, and ids that it has are cheap to send again."""
SHORTEST_PAUSE: Final = 0.05
"""Seconds between two attempts to send queued events, whatever the configuration draws."""

_LONGEST_PAUSE: Final = 30.0
"""Seconds until an event that could not be sent alone is tried again, however often it failed."""
_CLOCKS_DIFFER: Final = timedelta(days=366)
"""How far ahead of this machine's clock a clock may have dated an event; further, somebody gave a wrong date."""
_EARLIEST: Final = datetime(1990, 1, 1, tzinfo=UTC)
"""A date before it is refused by the server for good."""
_BLAMED: Final = frozenset({400, 409, 413, 422})
"""Statuses that speak of what was sent: trying again does not help. Others, a revoked key among them, get mended."""

_COLUMNS: Final = ("position", "kind", "body")
_TABLE: Final = "CREATE TABLE IF NOT EXISTS queued (position INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT, body TEXT)"
_ASIDE: Final = "CREATE TEMP TABLE aside (position INTEGER PRIMARY KEY, due REAL, attempts INTEGER)"

_FRESH: Final = "FROM queued WHERE position NOT IN (SELECT position FROM aside)"
_OLDEST: Final = (
    f"SELECT position, kind, body {_FRESH} AND kind = (SELECT kind {_FRESH} ORDER BY position LIMIT 1) "
    "ORDER BY position LIMIT ?"
)
_DUE: Final = "SELECT position, kind, body FROM aside JOIN queued USING (position) WHERE due <= ? ORDER BY due LIMIT ?"
_LATER: Final = (
    "INSERT INTO aside VALUES (:position, :now + min(:first, :longest), 1) ON CONFLICT (position) DO UPDATE SET "
    "due = :now + min(:first * (1 << min(attempts, 20)), :longest), attempts = attempts + 1"
)
_POINTER: Final = re.compile(r"/\w+/(\d+)(?:/(.*))?")

_log = logging.getLogger(__name__)


class QueueState(NamedTuple):
    """What has become of the outcomes and orders that were put into a client's queue.

    Attributes:
        waiting: still to be sent; what can't be sent, and what a fast clock dated ahead of the server's time, is tried
            again until it can.
        sent: taken by the server.
        dropped: not taken into the queue, as it was full or could not be written.
        refused: by the server itself, for what they say; the log has its sentence.
    """

    waiting: int
    sent: int
    dropped: int
    refused: int


class QueuedBatch(NamedTuple):
    """The events that are to be sent next.

    Attributes:
        kind: of all of them.
        positions: of the events in the queue.
        bodies: as JSON.
    """

    kind: str
    positions: tuple[int, ...]
    bodies: tuple[str, ...]

    @property
    def call(self) -> ApiCall[Reported | PostedOrders]:
        """The call which posts them."""
        return queued_call(self.kind, [json.loads(body) for body in self.bodies])

    @property
    def n_expected(self) -> int:
        """How many the server says that it received where it received them all: outcomes, or lines of orders."""
        events = [json.loads(body) for body in self.bodies]
        return sum(len(event["lines"]) for event in events) if self.kind == "orders" else len(events)


class Outbox:
    """The queue of one client.

    Raises:
        ConfigError: the queue's file can't be opened, is no queue, or another client has it.
    """

    def __init__(self, config: ClientConfig) -> None:
        self._most = config.max_queued
        self._pause = max(config.max_backoff_seconds, SHORTEST_PAUSE)
        self._database = _opened(config)
        (self._waiting,) = self._database.execute("SELECT count(*) FROM queued").fetchone()
        self._sent = self._dropped = self._refused = 0
        self._at_once = MOST_AT_ONCE
        self._is_dropping = self._is_failing = False

    @property
    def state(self) -> QueueState:
        """The counts."""
        return QueueState(self._waiting, self._sent, self._dropped, self._refused)

    def put(self, kind: str, events: Sequence[Mapping[str, Any]]) -> int:
        """Take the events that there is room for; return how many. The others are dropped, counted and logged."""
        bodies = [(kind, json.dumps(event, ensure_ascii=False)) for event in events]
        kept = bodies[: max(self._most - self._waiting, 0)]
        why = f"{self._waiting + len(kept):,} wait already, max_queued == {self._most:,}"
        try:
            with self._database:
                self._database.executemany("INSERT INTO queued (kind, body) VALUES (?, ?)", kept)
        except sqlite3.Error as error:
            kept, why = [], f"the queue can't be written: {error}"
        n_dropped = len(bodies) - len(kept)
        self._waiting += len(kept)
        self._dropped += n_dropped
        if n_dropped and not self._is_dropping:  # once until there is room again: an outage must not flood the log
            _log.error("%d %s were dropped, and more may follow: %s", n_dropped, kind, why)
        self._is_dropping = n_dropped > 0
        return len(kept)

    def head(self, *, is_closing: bool) -> QueuedBatch | None:
        """Return the events to be sent now, all of one kind; None where there are none.

        First those that were set aside and are due again; where the client `is_closing`, these last, due or not.
        """
        now = float("inf") if is_closing else time.monotonic()
        due = self._database.execute(_DUE, (now, self._at_once)).fetchall()
        fresh = [] if due and not is_closing else self._database.execute(_OLDEST, (self._at_once,)).fetchall()
        rows = fresh or due
        if not rows:
            return None
        kind = rows[0][1]
        positions, _, bodies = zip(*(row for row in rows if row[1] == kind), strict=True)
        return QueuedBatch(kind, positions, bodies)

    def seconds_until_due(self) -> float | None:
        """Return how long to wait for the next event that was set aside; None without one."""
        (due,) = self._database.execute("SELECT min(due) FROM aside").fetchone()
        return None if due is None else max(due - time.monotonic(), 0.0)

    def sent(self, batch: QueuedBatch, answer: Reported | PostedOrders) -> None:
        """Let events go that the server has taken; of those whose ids it has with other content the log tells.

        Raises:
            ServiceError: it says that it received another number of them; none is let go.
        """
        if answer[0] != batch.n_expected:
            raise ServiceError(f"the server says that it received {answer[0]!r} of {batch.n_expected} {batch.kind}")
        self._remove(batch.positions)
        self._sent += len(batch.positions)
        self._at_once = min(2 * self._at_once, MOST_AT_ONCE)
        if answer.conflicts:
            _log.error("the server has these ids with other content, which counts: %s", answer.conflicts)
        is_whole = self._at_once == MOST_AT_ONCE or not self._waiting  # not between two halves of a batch that failed
        if self._is_failing and is_whole and self.seconds_until_due() is None:
            _log.warning("events are sent again; %d wait", self._waiting)
            self._is_failing = False

    def failed(self, batch: QueuedBatch, error: Exception) -> bool:
        """Take note of a post that failed; return whether to go on without a pause.

        An event is dropped only where the server itself refused it, by name or sent alone. Whatever else goes wrong,
        the next post is half as large, and an event that fails alone is set aside, so that the others are sent.
        """
        if not (isinstance(error, RequestRefusedError) and error.is_engines and error.status in _BLAMED):
            self.failing(error)
            if len(batch.positions) == 1:
                self._set_aside(batch.positions)
            self._at_once = max(len(batch.positions) // 2, 1)
            return False
        wrong = _named(error, len(batch.positions))
        if not wrong and len(batch.positions) > 1:
            self._at_once = len(batch.positions) // 2
            return True
        wrong = wrong or {0: set()}
        ahead = [index for index, names in wrong.items() if _is_ahead(batch, index, names)]
        if ahead:
            self.failing(error)
            self._set_aside([batch.positions[index] for index in ahead])
        refused = [batch.positions[index] for index in wrong if index not in ahead]
        if refused:
            told = (len(refused), batch.kind, error, error.request_id)
            _log.error("%d %s refused and dropped: %s; request %s", *told)
            self._remove(refused)
            self._refused += len(refused)
        return bool(refused)

    def failing(self, error: Exception) -> None:
        """Take note of an attempt that failed; an outage is logged once."""
        if not self._is_failing:
            _log.warning("events can't be sent, %d wait and are sent again later: %s", self._waiting, error)
            self._is_failing = True

    def close(self) -> None:
        """Close the database; what a file holds is sent by the client that opens it next."""
        self._database.close()

    def _set_aside(self, positions: Sequence[int]) -> None:
        """Let the others pass: these are tried again after a pause that doubles with each attempt."""
        now = time.monotonic()
        pauses = {"now": now, "first": self._pause, "longest": _LONGEST_PAUSE}
        with self._database:
            self._database.executemany(_LATER, [{"position": position, **pauses} for position in positions])

    def _remove(self, positions: Sequence[int]) -> None:
        with self._database:
            for table in ("queued", "aside"):
                ids = [(position,) for position in positions]
                self._database.executemany(f"DELETE FROM {table} WHERE position = ?", ids)
        self._waiting -= len(positions)


def _named(error: RequestRefusedError, n_events: int) -> dict[int, set[str]]:
    """The events of a post that the server names as wrong, by their index, each with the fields that are."""
    found: dict[int, set[str]] = {}
    for pointer, _ in error.fields:
        matched = _POINTER.fullmatch(pointer)
        if matched and int(matched[1]) < n_events:
            found.setdefault(int(matched[1]), set()).add(matched[2] or "")
    return found


def _is_ahead(batch: QueuedBatch, index: int, wrong: set[str]) -> bool:
    """Whether an event is refused for nothing but a clock that runs ahead of the server's, so that time makes it right.

    The server refuses a time as later than now or as before 1990, and both under the same name.
    """
    name = EVENT_KINDS[batch.kind][1]
    if wrong != {name}:
        return False
    when = datetime.fromisoformat(json.loads(batch.bodies[index])[name])
    return _EARLIEST <= when <= datetime.now(UTC) + _CLOCKS_DIFFER


def _opened(config: ClientConfig) -> sqlite3.Connection:
    """The database with its table; a file belongs to the connection until that ends, however it ends."""
    file = config.queue_file
    if file is not None and not file.absolute().parent.is_dir():
        raise ConfigError(f"queue_file == {str(file)!r}: its folder does not exist; make it, or name a file in another")
    try:
        database = sqlite3.connect(
            ":memory:" if file is None else file,
            timeout=min(1.0, config.deadline_ms / 1_000),  # a page that makes its client waits no longer
            check_same_thread=False,
        )
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")  # the end of the process loses nothing; that of power may
        database.execute("PRAGMA temp_store = MEMORY")
        with database:
            database.execute("BEGIN IMMEDIATE")
            database.execute(_TABLE)
        database.execute(_ASIDE)
        columns = tuple(name for _, name, *_ in database.execute("PRAGMA table_info(queued)"))
    except sqlite3.Error as error:
        raise ConfigError(
            f"queue_file == {str(file)!r}: {error}; name a file in a folder that may be written, one for each client"
        ) from None
    if columns != _COLUMNS:
        database.close()
        raise ConfigError(
            f"queue_file == {str(file)!r}: its table `queued` has the columns {', '.join(columns)}, must have "
            f"{', '.join(_COLUMNS)}; it is no queue of this client: name another file"
        )
    return database
