"""What the handlers work with, put together once by `create_app`."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, TypeAlias

from fastapi import Depends, Request

from recsys.events import EventStore, GroupCommitWriter
from serving.access import Gate
from serving.following import Follower
from serving.metrics import Metrics
from serving.models import Models
from serving.settings import Settings
from serving.state import FreshState

Clock: TypeAlias = Callable[[], datetime]


@dataclass(frozen=True)
class Services:
    """The parts of a running server.

    Attributes:
        gate: checks keys and counts what they ask; None where nobody needs one.
        rng: draws what exploration shows; no seed, so that no two workers draw alike.
    """

    settings: Settings
    models: Models
    store: EventStore
    writer: GroupCommitWriter
    clock: Clock
    state: FreshState
    metrics: Metrics
    next_decision_id: Callable[[], str]
    follower: Follower
    gate: Gate | None = None
    rng: random.Random = field(default_factory=random.Random)


def services_of(request: Request) -> Services:
    """Return the parts of the server that `request` reached."""
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(services_of)]
