"""A SQLite store's files while connections are open on them.

An open connection goes on writing to files that were deleted or replaced, and says that all is well. So the files that
the names lead to are compared with those that a connection has opened: before a commit, after it, and whenever a
connection is taken to read.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import sqlalchemy as sa

from recsys.errors import StoreBusyError, StoreError

_log = logging.getLogger(__name__)

_OPENED: Final = "offers_opened"
"""Where a connection of the pool carries what it has opened."""


class Opened(NamedTuple):
    """Which files the names of a store lead to; None where there is none.

    Attributes:
        store: device and number of the database's file.
        journal: of its write-ahead log.
        memory: of the log's shared memory.
    """

    store: tuple[int, int] | None
    journal: tuple[int, int] | None
    memory: tuple[int, int] | None


class SqliteFiles:
    """The three files of a store.

    Args:
        path: of the database's file.
        layout: version that the store must have for a connection to be opened, once `expect` was called.
        additions: names of what it must have beside.
    """

    def __init__(self, path: Path, layout: int, additions: frozenset[str]) -> None:
        self._path = path.absolute()
        self._names = tuple(f"{self._path}{ending}" for ending in ("", "-wal", "-shm"))
        self._layout = layout
        self._additions = additions
        self._expected = False
        self._stamp = (0, 0)
        self._has_shrunk = False
        self._lock = Lock()

    def listen(self, engine: sa.Engine) -> None:
        """Watch the connections of an engine, none of which creates the file."""
        sa.event.listen(engine, "do_connect", self._name)
        sa.event.listen(engine, "connect", self._opened)
        sa.event.listen(engine, "checkout", self._taken)

    def create(self) -> None:
        """Make an empty file where there is none."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.touch()

    def expect(self) -> None:
        """From now on refuse a file without the layout: an empty one is not what was there before."""
        self._expected = True

    def check(self, connection: sqlite3.Connection, info: MutableMapping[Any, Any]) -> None:
        """Make sure that what a connection writes, or has just written, stands where the names lead.

        Raises:
            StoreError: a file was deleted, replaced or cut off; the connection must not be used any more.
        """
        status = [_status(name) for name in self._names]
        found = Opened(*map(_number, status))
        if found != info[_OPENED]:
            self._let_go(connection, info[_OPENED], found)
            raise StoreError(
                f"{self._path} or its journal was deleted or replaced while it was open; nothing is kept until the "
                "file is back, or the server starts again with a new one"
            )
        if status[0] is not None and (stamp := (status[0].st_size, status[0].st_mtime_ns)) != self._stamp:
            self._check_content(stamp)  # a checkpoint has written to the file, or somebody copied over it

    def make_room(self, connection: sqlite3.Connection) -> None:
        """Write the journal into the file after the disk was full: on a small one it takes most of the room."""
        with suppress(sqlite3.Error):
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _check_content(self, stamp: tuple[int, int]) -> None:
        """Look at the file through a fresh connection: an open one has much of it in memory."""
        if stamp[0] < self._stamp[0]:
            self._has_shrunk = True
            self._stamp = stamp
            raise StoreError(
                f"{self._path} has become shorter while it was open; it is looked through before it is used"
            )
        fresh = sqlite3.connect(self._uri, uri=True)
        try:
            self._check_layout(fresh)
        finally:
            fresh.close()
        self._stamp = stamp

    def _let_go(self, connection: sqlite3.Connection, opened: Opened, found: Opened) -> None:
        """Save what only the open connection still has.

        Raises:
            StoreBusyError: somebody reads or writes through the old files; the next one tries again.
        """
        with self._lock:
            if opened.store == found.store:
                if found.journal is None:  # what was answered stands in the deleted journal alone
                    self._checkpoint(connection)
            elif opened.journal == found.journal:  # the journal is the old file's; a new one would be spoilt by it
                self._checkpoint(connection)
                for name in self._names[1:]:
                    Path(name).unlink(missing_ok=True)
        _log.error("%s or its journal was deleted or replaced while it was open", self._path)

    def _checkpoint(self, connection: sqlite3.Connection) -> None:
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
        if busy:
            raise StoreBusyError(f"{self._path}: its deleted journal is still in use; try again later")

    @property
    def _uri(self) -> str:
        return f"file:{quote(str(self._path))}?mode=rw"

    def _check_layout(self, connection: sqlite3.Connection) -> None:
        found, added = 0, frozenset[str]()
        try:
            found = connection.execute("SELECT max(version) FROM offer_store_version").fetchone()[0] or 0
            added = frozenset(name for (name,) in connection.execute("SELECT name FROM offer_store_additions"))
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
        lacking = sorted(self._additions - added)
        if found < self._layout or lacking:
            raise StoreError(
                f"{self._path} has layout version {found}, must be {self._layout}; it lacks {', '.join(lacking)}; put "
                "the store's own file back, or start the server again, which makes a store of it"
            )

    def _name(self, _dialect: Any, record: Any, arguments: list[Any], options: dict[str, Any]) -> None:  # noqa: ANN401
        arguments[0] = self._uri
        options["uri"] = True
        record.info[_OPENED] = _number(_status(self._names[0]))

    def _opened(self, connection: Any, record: Any) -> None:  # noqa: ANN401 - the driver's own types
        try:
            if self._expected:
                self._check_layout(connection)
            if self._has_shrunk:
                self._check_pages(connection)
            _prepare(connection)
            record.info[_OPENED] = self._found(record.info[_OPENED])
        except BaseException:
            connection.close()
            raise

    def _check_pages(self, connection: sqlite3.Connection) -> None:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise StoreError(f"{self._path} is damaged: {found}; put a good copy in its place")
        self._has_shrunk = False

    def _found(self, before: tuple[int, int] | None) -> Opened:
        """Return the files as they are, which a connection has just opened."""
        found = Opened(*(_number(_status(name)) for name in self._names))
        if found.store != before:
            raise StoreError(f"{self._path} was replaced while it was being opened; try again")
        return found

    def _taken(self, connection: Any, record: Any, _proxy: Any) -> None:  # noqa: ANN401 - the driver's own types
        found = Opened(*(_number(_status(name)) for name in self._names))
        if found != record.info[_OPENED]:
            self._let_go(connection, record.info[_OPENED], found)
            raise sa.exc.InvalidatePoolError


def _prepare(connection: sqlite3.Connection) -> None:
    connection.isolation_level = None  # we begin transactions ourselves
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")  # NORMAL would lose the last commits with the power
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # which opens the journal


def _status(name: str) -> os.stat_result | None:
    try:
        return os.stat(name)  # noqa: PTH116 - a third of the time, at every commit
    except (FileNotFoundError, NotADirectoryError):
        return None


def _number(status: os.stat_result | None) -> tuple[int, int] | None:
    return None if status is None else (status.st_dev, status.st_ino)
