"""Outcomes and orders that wait for the server: bounded in count, sent in order, each under the id that it was given.

They stand in a SQLite database, in memory or in a file; nothing else knows which.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from recsys.client._answers import PostedOrders, Reported
from recsys.client._calls import ApiCall, queued_call
from recsys.client._exchange import ClientConfig, RequestRefusedError
from recsys.errors import ConfigError

MOST_AT_ONCE: Final = 100
"""Events of one post: the server takes 200 orders, and ids that it has are cheap to send again."""

_BLAMED: Final = frozenset({400, 409, 413, 422})
"""Statuses that speak of what was sent: trying again does not help. Others, a revoked key among them, get mended."""

_TABLE: Final = "CREATE TABLE IF NOT EXISTS queued (position INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT, body TEXT)"

_OLDEST: Final = (
    "SELECT position, kind, body FROM queued WHERE kind = (SELECT kind FROM queued ORDER BY position LIMIT 1) "
    "ORDER BY position LIMIT ?"
)

_log = logging.getLogger(__name__)


class QueueState(NamedTuple):
    """What has become of the outcomes and orders that were put into a client's queue.

    Attributes:
        waiting: still to be sent.
        sent: taken by the server.
        dropped: not taken into the queue, as it was full or could not be written.
        refused: by the server, for what they say; the log has its sentence.
    """

    waiting: int
    sent: int
    dropped: int
    refused: int


class QueuedBatch(NamedTuple):
    """The events that are to be sent next.

    Attributes:
        positions: of the events in the queue.
        call: which posts them.
    """

    positions: tuple[int, ...]
    call: ApiCall[Reported | PostedOrders]


class Outbox:
    """The queue of one client.

    Raises:
        ConfigError: the queue's file can't be opened, or another client has it.
    """

    def __init__(self, config: ClientConfig) -> None:
        self._most = config.max_queued
        self._database = _opened(config.queue_file)
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
        bodies = [(kind, json.dumps(event, ensure_ascii=False, allow_nan=False)) for event in events]
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

    def head(self) -> QueuedBatch | None:
        """Return the oldest events, all of one kind; None where none wait."""
        rows = self._database.execute(_OLDEST, (self._at_once,)).fetchall()
        if not rows:
            return None
        positions, kinds, bodies = zip(*rows, strict=True)
        return QueuedBatch(positions, queued_call(kinds[0], [json.loads(body) for body in bodies]))

    def sent(self, batch: QueuedBatch, conflicts: Sequence[object]) -> None:
        """Let events go that the server has taken; of those whose ids it has with other content the log tells."""
        if self._is_failing:
            _log.warning("events are sent again; %d wait", self._waiting)
            self._is_failing = False
        if conflicts:
            _log.error("the server has these ids with other content, which counts: %s", conflicts)
        self._remove(batch)
        self._sent += len(batch.positions)
        self._at_once = min(2 * self._at_once, MOST_AT_ONCE)

    def refused(self, batch: QueuedBatch, error: RequestRefusedError) -> bool:
        """Return whether events were refused for what they say, so that the next attempt sends others.

        They are sent in ever smaller batches, until the wrong one is alone: it is dropped, and no other with it.
        """
        if error.status not in _BLAMED:
            return False
        if len(batch.positions) > 1:
            self._at_once = len(batch.positions) // 2
            return True
        _log.error("an event was refused and is dropped: %s; request %s", error, error.request_id)
        self._remove(batch)
        self._refused += 1
        return True

    def failing(self, error: Exception) -> None:
        """Take note of an attempt that failed; an outage is logged once."""
        if not self._is_failing:
            _log.warning("events can't be sent, %d wait and are sent again later: %s", self._waiting, error)
            self._is_failing = True

    def close(self) -> None:
        """Close the database; what a file holds is sent by the client that opens it next."""
        self._database.close()

    def _remove(self, batch: QueuedBatch) -> None:
        with self._database:
            self._database.executemany("DELETE FROM queued WHERE position = ?", [(one,) for one in batch.positions])
        self._waiting -= len(batch.positions)


def _opened(file: Path | None) -> sqlite3.Connection:
    """The database with its table; a file belongs to the connection until that ends, however it ends."""
    try:
        database = sqlite3.connect(":memory:" if file is None else file, timeout=1.0, check_same_thread=False)
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")  # the end of the process loses nothing; that of power may
        with database:
            database.execute("BEGIN IMMEDIATE")
            database.execute(_TABLE)
    except sqlite3.Error as error:
        raise ConfigError(
            f"queue_file == {str(file)!r}: {error}; name a file in a folder that may be written, one for each client"
        ) from None
    return database
