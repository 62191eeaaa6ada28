"""The event store: what was shown, to whom, and what came of it."""

from recsys.events.memory import MemoryStore
from recsys.events.reading import read_decisions, read_frame, read_ibis
from recsys.events.store import EventStore, SqlStore, open_store
from recsys.events.writer import GroupCommitWriter, WriterConfig, WriterState

__all__ = [
    "EventStore",
    "GroupCommitWriter",
    "MemoryStore",
    "SqlStore",
    "WriterConfig",
    "WriterState",
    "open_store",
    "read_decisions",
    "read_frame",
    "read_ibis",
]
