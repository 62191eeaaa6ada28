"""What the handlers work with, put together once by `create_app`."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Final, TypeVar

from fastapi import Depends, Request

from recsys.errors import StoreBusyError
from recsys.events.store import EventStore
from recsys.events.writer import GroupCommitWriter
from serving.http.admission import ADMISSION, Admission, AdmissionControl
from serving.http.keyring import Keyring
from serving.metrics import Metrics
from serving.models.by_alias import Models
from serving.models.loading import EarlierModels
from serving.online.model_reloader import ModelReloader
from serving.online.state import OnlineState
from serving.settings import Clock, Settings

_T = TypeVar("_T")

_PATIENCE_SECONDS: Final = 0.3
"""How long a reader waits until it asks whether the store is alive; with the time of a commit that is below two."""


@dataclass(frozen=True)
class Services:
    """The parts of a running server.

    Attributes:
        earlier: models that made decisions and serve no longer.
        admission: checks keys and counts what they ask.
        keyring: the keys that hold; None where nobody needs one.
        rng: draws what exploration shows; no seed, so that no two workers draw alike.
        readers: threads that read the event store.
        reading: what they are asked for.
    """

    settings: Settings
    models: Models
    store: EventStore
    writer: GroupCommitWriter
    clock: Clock
    state: OnlineState
    metrics: Metrics
    next_decision_id: Callable[[], str]
    follower: ModelReloader
    earlier: EarlierModels
    admission: AdmissionControl
    keyring: Keyring | None = None
    rng: random.Random = field(default_factory=random.Random)
    readers: ThreadPoolExecutor = field(default_factory=partial(ThreadPoolExecutor, 8, "store-reader"))
    reading: set[Future[Any]] = field(default_factory=set)

    async def read(self, function: Callable[..., _T], *args: Any) -> _T:  # noqa: ANN401 - whatever the function takes
        """Return what `function` finds in the event store, however long it takes while the store is alive.

        A database that hangs would keep a thread for ever, so reading has threads of its own, and a caller who waits is
        refused as soon as the store keeps nothing any more.

        Raises:
            StoreError: the store does not answer.
        """
        if self.writer.is_overdue:
            raise StoreBusyError("the event store does not answer; try again later")
        under_way = self.readers.submit(function, *args)
        self.reading.add(under_way)
        under_way.add_done_callback(self.reading.discard)
        reading = asyncio.wrap_future(under_way)
        try:
            while not (await asyncio.wait([reading], timeout=_PATIENCE_SECONDS))[0]:
                await self.writer.probe()
        finally:
            reading.cancel()  # what has not begun yet
        return reading.result()

    def stop_reading(self) -> None:
        """End the threads that read; those of a store that hangs are not waited for."""
        self.readers.shutdown(wait=False, cancel_futures=True)
        wait(list(self.reading), timeout=1)


async def services_of(request: Request) -> Services:
    """Return the parts of the server that `request` reached."""
    services: Services = request.app.state.services
    return services


async def admission_of(request: Request) -> Admission:
    """Return what admission found of `request`."""
    admission: Admission = request.scope[ADMISSION]
    return admission


ServicesDep = Annotated[Services, Depends(services_of)]
AdmissionDep = Annotated[Admission, Depends(admission_of)]
