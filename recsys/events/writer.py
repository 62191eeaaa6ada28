"""Group commit: many requests share one commit, and each is answered after it."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

from pydantic import Field

from recsys.contracts.config import Config
from recsys.contracts.events import Event
from recsys.errors import DataError, OfferEngineError, StoreBusyError, StoreError
from recsys.events.store import EventStore

_log = logging.getLogger(__name__)


class WriterConfig(Config):
    """How the writer groups."""

    max_queue: int = Field(default=4_096, ge=1)
    """Requests that may wait for their commit; beyond it the store is busy. At 0.1 ms each: under half a second."""
    max_batch: int = Field(default=256, ge=1)
    """Requests in one commit, so that one commit stays far below a second."""
    commit_seconds: float = Field(default=1.0, gt=0)
    """From a request's coming until its events are durable; later it is refused, so that a database that hangs keeps
    nobody for two seconds. Commits take milliseconds."""


OnCommit: TypeAlias = Callable[[Exception | None], None]
"""Hears that events are durable, or why they are not."""

_LOOK_SECONDS: Final = 0.1
"""How often the writer looks for requests that wait for too long."""


@dataclass(slots=True)
class _Waiting:
    """A request that is to be told of its commit, once: by the commit, or before it when its time is up."""

    events: Sequence[Event]
    loop: asyncio.AbstractEventLoop
    told: OnCommit
    until: float
    is_told: bool = False


@dataclass(frozen=True, slots=True)
class WriterState:
    """What the writer is doing.

    Attributes:
        queued: requests that wait for their commit.
        commits: commits since the start.
        written: requests written since the start.
        error: the sentence of the last failure, None after a commit that went well.
        failing_seconds: since the last time that events could not be kept, None after a commit that kept some.
    """

    queued: int
    commits: int
    written: int
    error: str | None
    failing_seconds: float | None


class GroupCommitWriter:
    """Writes the events of many concurrent requests with one commit, in a thread of its own.

    While one commit is under way the next group gathers, so the group's size follows the load; nobody waits on a timer.
    A database that hangs holds the thread, but no request: whoever waited for `commit_seconds` is refused, and while a
    commit is under way for longer than that, whoever comes is refused at once. What was refused before its commit began
    is never written; of a commit that was under way nobody can know.

    Args:
        store: where the events go.
        config: how they are grouped.
        committed: hears, in the writer's thread, how many seconds each commit took.
    """

    def __init__(
        self,
        store: EventStore,
        config: WriterConfig | None = None,
        committed: Callable[[float], None] | None = None,
    ) -> None:
        self._store = store
        self._config = config or WriterConfig()
        self._committed = committed
        self._queue: deque[_Waiting] = deque()
        self._wake = threading.Event()
        self._ended = threading.Event()
        self._lock = threading.Lock()  # over who has been told
        self._closing = False
        self._under_way: list[_Waiting] = []
        self._begun: float | None = None
        self._commits = 0
        self._written = 0
        self._error: str | None = None
        self._failed_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="event-writer", daemon=True)
        self._thread.start()
        threading.Thread(target=self._watch, name="event-writer-watch", daemon=True).start()

    @property
    def state(self) -> WriterState:
        """What the writer is doing now."""
        failing = None if self._failed_at is None else time.monotonic() - self._failed_at
        return WriterState(len(self._queue), self._commits, self._written, self._error, failing)

    @property
    def is_overdue(self) -> bool:
        """Whether a commit takes so long that nothing more is taken until it ends."""
        begun = self._begun
        return begun is not None and time.monotonic() - begun > self._config.commit_seconds

    def submit(self, events: Sequence[Event]) -> asyncio.Future[None]:
        """Return a future of the running event loop that is done once `events` are durable.

        Raises:
            StoreBusyError: the queue is full, or the store does not answer.
            StoreError: the writer is closed.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.submit_telling(events, partial(_resolve, future))
        return future

    def probe(self) -> asyncio.Future[None]:
        """Return a future that is done once the store has kept something: the next group, or else a trial of its own.

        Raises:
            StoreBusyError: the queue is full, or the store does not answer.
            StoreError: the writer is closed.
        """
        return self.submit(())

    def submit_telling(self, events: Sequence[Event], told: OnCommit) -> None:
        """Have `told` called in the running event loop once `events` are durable, or with the error that kept them out.

        Raises:
            StoreBusyError: the queue is full, or the store does not answer.
            StoreError: the writer is closed.
        """
        if self._closing:
            raise StoreError("the event store's writer is closed; the server is stopping")
        if self.is_overdue:
            raise self._late()
        if len(self._queue) >= self._config.max_queue:
            raise StoreBusyError(f"{self._config.max_queue} requests wait for the event store; try again later")
        until = time.monotonic() + self._config.commit_seconds
        self._queue.append(_Waiting(events, asyncio.get_running_loop(), told, until))
        if not self._wake.is_set():  # else the thread has yet to look, and will find these too
            self._wake.set()

    def close(self) -> None:
        """Write what waits, then stop the thread; the store stays open. What can't be written in time is refused."""
        self._closing = True
        self._wake.set()
        self._thread.join(self._config.commit_seconds + 1)
        if self._thread.is_alive():
            _log.warning("the event store does not answer; the writer ends with a commit under way")

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while group := self._take():
                self._commit(group)
            if self._closing and not self._queue:
                self._ended.set()
                return

    def _take(self) -> list[_Waiting]:
        with self._lock:
            size = min(len(self._queue), self._config.max_batch)
            self._under_way = [self._queue.popleft() for _ in range(size)]
            return self._under_way

    def _commit(self, group: list[_Waiting]) -> None:
        events = [event for waiting in group for event in waiting.events]
        begun = time.perf_counter()
        self._begun = time.monotonic()
        try:
            if events:
                self._store.append(events)
            else:
                self._store.probe()
        except DataError as error:
            self._begun = None
            self._separate(group, error)
        except Exception as error:  # noqa: BLE001 - whatever it was, the callers must hear of it and the thread go on
            self._begun = None
            failure = error if isinstance(error, OfferEngineError) else StoreError(f"the event store failed: {error!r}")
            self._fail(failure, events=bool(events))
            self._tell(group, failure)
        else:
            self._begun = None
            self._error = None
            if events:
                self._failed_at = None
                self._commits += 1
                self._written += len(group)
            self._tell(group, None)
            if self._committed is not None and events:
                self._committed(time.perf_counter() - begun)

    def _separate(self, group: list[_Waiting], error: DataError) -> None:
        """One request's events do not fit: it alone hears so, the others are written."""
        if len(group) == 1:
            self._tell(group, error)
            return
        for waiting in group:
            if not waiting.is_told:
                self._commit([waiting])

    def _tell(self, group: list[_Waiting], error: Exception | None) -> None:
        """Wake the callers who have not been refused meanwhile."""
        with self._lock:
            waiting = [one for one in group if not one.is_told]
            for one in waiting:
                one.is_told = True
        _finish(waiting, error)

    def _fail(self, error: Exception, *, events: bool) -> None:
        self._error = str(error)
        if events:
            self._failed_at = time.monotonic()

    def _watch(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            now = time.monotonic()
            with self._lock:
                late = [one for one in self._under_way if not one.is_told and one.until < now]
                while self._queue and self._queue[0].until < now:  # they came in the order of their time
                    late.append(self._queue.popleft())
                for one in late:
                    one.is_told = True
            if late:
                error = self._late()
                self._fail(error, events=any(one.events for one in late))
                _finish(late, error)

    def _late(self) -> StoreBusyError:
        return StoreBusyError(f"the event store took more than {self._config.commit_seconds:g} s; try again later")


def _finish(group: list[_Waiting], error: Exception | None) -> None:
    """Wake the callers, with one call into each event loop."""
    loops: dict[asyncio.AbstractEventLoop, list[OnCommit]] = {}
    for waiting in group:
        loops.setdefault(waiting.loop, []).append(waiting.told)
    for loop, callers in loops.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_tell, callers, error)


def _tell(callers: list[OnCommit], error: Exception | None) -> None:
    for told in callers:
        try:
            told(error)
        except Exception:  # noqa: BLE001 - whose fault it was must not keep the others waiting
            _log.exception("a caller failed when it was told of its commit")


def _resolve(future: asyncio.Future[None], error: Exception | None) -> None:
    if future.done():  # the caller has gone
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
