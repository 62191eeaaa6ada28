"""Follows the models: looks from time to time and when told to, and lets a new one answer once it is ready."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from recsys.errors import StoreError
from serving import logs
from serving.models.by_alias import AliasStatus, Models, WatchedModels
from serving.online.state import OnlineState

_TELL_SECONDS: Final = 3_600

_log = logging.getLogger("serving")


class ModelReloader:
    """Swaps models without a pause: loading happens in a thread, the swap is one assignment on the event loop.

    Args:
        models: followed where they are watched; a fixed model stays.
        state: what happened since a model was trained is put in force in it before it answers anybody.
        count: hears of every swap and refusal.
    """

    def __init__(self, models: Models, state: OnlineState, count: Callable[[AliasStatus], None]) -> None:
        self._models = models
        self._state = state
        self._count = count
        self._looking = asyncio.Lock()
        self._queued: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._told_at = float("-inf")

    async def follow(self, seconds: float) -> None:
        """Look for ever; whatever goes wrong, the models that run go on, and the next look tries again."""
        while True:
            try:
                await self._tell()
                await asyncio.sleep(seconds)
                await self.look()
            except StoreError as error:
                _log.warning("a new model waits: %s", error)
            except Exception as error:  # noqa: BLE001 - a worker that stopped looking would keep its model for ever
                _log.error("a new model waits", exc_info=error)

    async def look_within(self, seconds: float) -> None:
        """Look at once, and try again what was refused lately; a look that takes longer goes on.

        Raises:
            TimeoutError: it goes on.
            StoreError: what happened since an older model was trained can't be read now; nothing has changed.
        """
        if self._queued is None:  # who asks while a look waits for its turn shares that one
            self._queued = asyncio.create_task(self._take_turn())
            self._tasks.add(self._queued)
            self._queued.add_done_callback(self._forget)
        await asyncio.wait_for(asyncio.shield(self._queued), seconds)

    def close(self) -> None:
        """End every look and every wait."""
        for task in self._tasks:
            task.cancel()
        if isinstance(self._models, WatchedModels):
            self._models.close()

    async def _take_turn(self) -> None:
        async with self._looking:
            self._queued = None
            await self._look(at_once=True)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task is self._queued:
            self._queued = None
        if not task.cancelled():
            task.exception()  # whoever still waited has it

    async def _tell(self) -> None:
        """Tell what serves when it has changed, and every hour: it stays on disk."""
        if isinstance(self._models, WatchedModels) and time.monotonic() >= self._told_at + _TELL_SECONDS:
            self._told_at = time.monotonic()
            await asyncio.to_thread(self._models.served)

    async def look(self, *, at_once: bool = False) -> None:
        """Look once; `at_once` tries again what was refused lately.

        Raises:
            StoreError: what happened since an older model was trained can't be read now; nothing has changed.
        """
        async with self._looking:  # else a second look would load again what the first has not put in place yet
            await self._look(at_once=at_once)

    async def _look(self, *, at_once: bool) -> None:
        models = self._models
        if not isinstance(models, WatchedModels):
            return
        changes = await asyncio.to_thread(models.look, at_once=at_once)
        ready = [change.model for change in changes if change.refused is None and change.model is not None]
        older = [await asyncio.to_thread(self._state.read_for, model) for model in ready]
        for model, news in zip(ready, older, strict=True):  # from here to `put` nothing else runs
            self._state.adopt(model, news)
        models.put(changes)
        for change in changes:
            self._count(change)
            _report(change)
        if changes:
            self._told_at = float("-inf")
            await self._tell()


def _report(change: AliasStatus) -> None:
    if change.refused is not None:
        fields = {"alias": change.alias, "version": change.refused.version, "reason": change.refused.reason}
        _log.error("model refused, the last good one goes on", extra={logs.FIELDS: fields})
    elif change.model is not None:
        fields = {"alias": change.alias, "version": change.model.version, "model": change.model.source}
        _log.info("model swapped", extra={logs.FIELDS: fields})
    else:
        _log.info("model left", extra={logs.FIELDS: {"alias": change.alias}})
