"""What can be set about the server."""

from __future__ import annotations

from pydantic import Field

from recsys.contracts.config import Config
from recsys.contracts.offers import Objective
from recsys.events import WriterConfig


class Settings(Config):
    """How the server answers. Every default suits one machine on loopback."""

    objective: Objective = "conversion"
    """What the ranking maximises where a request names no objective."""
    returned_is_presented: frozenset[str] = frozenset()
    """Surfaces that show whatever they get: a returned offer counts as presented there without a `shown` outcome."""
    answer_unlogged: bool = False
    """Answer with `logged: false` when the event store fails, instead of with 503; evaluation loses those."""
    declined_cooldown_days: int = Field(default=30, ge=0)
    """Days that a declined or dismissed product is not offered to that account again; 0: at once. A month's orders."""
    refresh_seconds: float = Field(default=0.5, gt=0)
    """How often a worker looks for what other workers took; half of the second that state may be late."""
    max_body_bytes: int = Field(default=1_048_576, ge=1_024)
    """Bytes of a request body; a full cart of 200 lines takes some 20 kB."""
    retry_after_seconds: int = Field(default=1, ge=1)
    """What `Retry-After` says when the event store is busy."""
    store_probe_seconds: float = Field(default=2.0, gt=0)
    """How long `/readyz` waits for the event store."""
    writer: WriterConfig = WriterConfig()
    """How decisions are grouped into commits."""
