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
from types import TracebackType
from typing import NamedTuple, Self, TypeAlias

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


Told: TypeAlias = Callable[[Exception | None], None]
"""Hears that events are durable, or why they are not."""


class _Waiting(NamedTuple):
    events: Sequence[Event]
    loop: asyncio.AbstractEventLoop
    told: Told


@dataclass(frozen=True, slots=True)
class WriterState:
    """What the writer is doing.

    Attributes:
        queued: requests that wait for their commit.
        commits: commits since the start.
        written: requests written since the start.
        error: the sentence of the last failure, None after a commit that went well.
    """

    queued: int
    commits: int
    written: int
    error: str | None


class GroupCommitWriter:
    """Writes the events of many concurrent requests with one commit, in a thread of its own.

    While one commit is under way the next group gathers, so the group's size follows the load; nobody waits on a timer.

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
        self._closing = False
        self._commits = 0
        self._written = 0
        self._error: str | None = None
        self._thread = threading.Thread(target=self._run, name="event-writer", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        """Return the writer, to be closed at the end of the block."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Write what waits, then stop."""
        self.close()

    @property
    def state(self) -> WriterState:
        """What the writer is doing now."""
        return WriterState(len(self._queue), self._commits, self._written, self._error)

    def submit(self, events: Sequence[Event]) -> asyncio.Future[None]:
        """Return a future of the running event loop that is done once `events` are durable.

        Raises:
            StoreBusyError: the queue is full.
            StoreError: the writer is closed.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.submit_telling(events, partial(_resolve, future))
        return future

    def submit_telling(self, events: Sequence[Event], told: Told) -> None:
        """Have `told` called in the running event loop once `events` are durable, or with the error that kept them out.

        Raises:
            StoreBusyError: the queue is full.
            StoreError: the writer is closed.
        """
        if self._closing:
            raise StoreError("the event store's writer is closed; the server is stopping")
        if len(self._queue) >= self._config.max_queue:
            raise StoreBusyError(f"{self._config.max_queue} requests wait for the event store; try again later")
        self._queue.append(_Waiting(events, asyncio.get_running_loop(), told))
        if not self._wake.is_set():  # else the thread has yet to look, and will find these too
            self._wake.set()

    def close(self) -> None:
        """Write what waits, then stop the thread; the store stays open."""
        self._closing = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while group := self._take():
                self._commit(group)
            if self._closing and not self._queue:
                return

    def _take(self) -> list[_Waiting]:
        size = min(len(self._queue), self._config.max_batch)
        return [self._queue.popleft() for _ in range(size)]

    def _commit(self, group: list[_Waiting]) -> None:
        begun = time.perf_counter()
        try:
            self._store.append([event for waiting in group for event in waiting.events])
        except DataError as error:
            self._separate(group, error)
        except Exception as error:  # noqa: BLE001 - whatever it was, the callers must hear of it and the thread go on
            failure = error if isinstance(error, OfferEngineError) else StoreError(f"the event store failed: {error!r}")
            self._error = str(failure)
            _finish(group, failure)
        else:
            self._commits += 1
            self._written += len(group)
            self._error = None
            _finish(group, None)
            if self._committed is not None:
                self._committed(time.perf_counter() - begun)

    def _separate(self, group: list[_Waiting], error: DataError) -> None:
        """One request's events do not fit: it alone hears so, the others are written."""
        if len(group) == 1:
            _finish(group, error)
            return
        for waiting in group:
            self._commit([waiting])


def _finish(group: list[_Waiting], error: Exception | None) -> None:
    """Wake the callers, with one call into each event loop."""
    loops: dict[asyncio.AbstractEventLoop, list[Told]] = {}
    for waiting in group:
        loops.setdefault(waiting.loop, []).append(waiting.told)
    for loop, callers in loops.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_tell, callers, error)


def _tell(callers: list[Told], error: Exception | None) -> None:
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
