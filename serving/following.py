"""Follows the models: looks from time to time and when told to, and lets a new one answer once it is ready."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from serving import logs
from serving.models import LoadedModel, Models, Running, WatchedModels

_log = logging.getLogger("serving")


class Follower:
    """Swaps models without a pause: loading happens in a thread, the swap is one assignment on the event loop.

    Args:
        models: followed where they are watched; a fixed model stays.
        adopt: puts what happened since a model was trained in force in it, before it answers anybody.
        count: hears of every swap and refusal.
    """

    def __init__(self, models: Models, adopt: Callable[[LoadedModel], None], count: Callable[[Running], None]) -> None:
        self._models = models
        self._adopt = adopt
        self._count = count
        self._looking = asyncio.Lock()

    async def follow(self, seconds: float) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(seconds)
            await self.look()

    async def look(self, *, at_once: bool = False) -> None:
        """Look once; `at_once` tries again what was refused lately."""
        models = self._models
        if not isinstance(models, WatchedModels):
            return
        async with self._looking:  # else a second look would load again what the first has not put in place yet
            await self._look(models, at_once=at_once)

    async def _look(self, models: WatchedModels, *, at_once: bool) -> None:
        changes = await asyncio.to_thread(models.look, at_once=at_once)
        for change in changes:
            if change.refused is None and change.model is not None:
                self._adopt(change.model)
        models.put(changes)
        for change in changes:
            self._count(change)
            _report(change)


def _report(change: Running) -> None:
    if change.refused is not None:
        fields = {"alias": change.alias, "version": change.refused.version, "reason": change.refused.reason}
        _log.error("model refused, the last good one goes on", extra={logs.FIELDS: fields})
    elif change.model is not None:
        fields = {"alias": change.alias, "version": change.model.version, "model": change.model.source}
        _log.info("model swapped", extra={logs.FIELDS: fields})
    else:
        _log.info("model left", extra={logs.FIELDS: {"alias": change.alias}})
