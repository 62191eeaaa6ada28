"""The writer: many requests, one commit; nobody is told before it, nobody is lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from recsys.contracts.events import Event, EventQuery, PostedLine
from recsys.errors import DataError, StoreBusyError, StoreError
from recsys.events.memory import MemoryStore
from recsys.events.writer import GroupCommitWriter, WriterConfig

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def line(i: int) -> PostedLine:
    return PostedLine(order_id=f"o{i}", line_id="1", product_id="P1", quantity=1.0, ordered_at=NOW, recorded_at=NOW)


class SlowStore(MemoryStore):
    """Commits when it is let; counts commits; refuses what a test says."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Semaphore(0)
        self.sizes: list[int] = []
        self.failure: Exception | None = None
        self.poison: str | None = None
        self.probes = 0

    def probe(self) -> None:
        self.probes += 1

    def append(self, events: Sequence[Event]) -> None:
        self.gate.acquire()
        if self.failure is not None:
            raise self.failure
        if any(isinstance(event, PostedLine) and event.order_id == self.poison for event in events):
            raise DataError("the database refused the events")
        super().append(events)
        self.sizes.append(len(events))

    def count(self) -> int:
        table: pa.Table = self.read(EventQuery("order_lines"))
        return table.num_rows


def test_requests_that_come_during_a_commit_share_the_next_one() -> None:
    store = SlowStore()

    async def scenario() -> None:
        with closing(GroupCommitWriter(store)) as writer:
            first = writer.submit([line(0)])
            while writer.state.queued:
                await asyncio.sleep(0.001)
            rest = [writer.submit([line(i)]) for i in range(1, 51)]
            store.gate.release(2)
            await asyncio.gather(first, *rest)
            assert (writer.state.commits, writer.state.written) == (2, 51)

    asyncio.run(scenario())
    assert store.sizes == [1, 50]


def test_nobody_is_answered_before_the_commit() -> None:
    store = SlowStore()

    async def scenario() -> None:
        with closing(GroupCommitWriter(store)) as writer:
            future = writer.submit([line(0)])
            await asyncio.sleep(0.05)
            assert not future.done()
            store.gate.release()
            await future
            assert store.count() == 1

    asyncio.run(scenario())


def test_a_full_queue_refuses_and_what_waits_is_still_written() -> None:
    store = SlowStore()

    async def scenario() -> None:
        with closing(GroupCommitWriter(store, WriterConfig(max_queue=3))) as writer:
            first = writer.submit([line(0)])
            while writer.state.queued:
                await asyncio.sleep(0.001)
            waiting = [writer.submit([line(i)]) for i in range(1, 4)]
            with pytest.raises(StoreBusyError, match="3 requests wait"):
                writer.submit([line(4)])
            store.gate.release(2)
            await asyncio.gather(first, *waiting)

    asyncio.run(scenario())
    assert store.count() == 4


def test_a_commit_takes_at_most_max_batch() -> None:
    store = SlowStore()
    store.gate.release(100)

    async def scenario() -> None:
        with closing(GroupCommitWriter(store, WriterConfig(max_batch=4))) as writer:
            await asyncio.gather(*[writer.submit([line(i)]) for i in range(20)])

    asyncio.run(scenario())
    assert sum(store.sizes) == 20
    assert max(store.sizes) <= 4


def test_a_failing_store_fails_those_who_wait_and_the_writer_goes_on() -> None:
    store = SlowStore()
    store.gate.release(100)

    async def scenario() -> None:
        with closing(GroupCommitWriter(store)) as writer:
            store.failure = StoreError("the disk is full")
            with pytest.raises(StoreError, match="disk is full"):
                await writer.submit([line(0)])
            assert writer.state.error == "the disk is full"
            store.failure = RuntimeError("nobody foresaw this")
            with pytest.raises(StoreError, match="nobody foresaw this"):
                await writer.submit([line(1)])
            store.failure = None
            await writer.submit([line(2)])
            assert writer.state.error is None

    asyncio.run(scenario())
    assert store.count() == 1


def test_events_that_do_not_fit_fail_alone() -> None:
    store = SlowStore()
    store.poison = "o2"

    async def scenario() -> list[object]:
        with closing(GroupCommitWriter(store)) as writer:
            waiting = [writer.submit([line(0)])]
            while writer.state.queued:
                await asyncio.sleep(0.001)
            waiting += [writer.submit([line(i)]) for i in range(1, 5)]
            store.gate.release(100)
            return list(await asyncio.gather(*waiting, return_exceptions=True))

    results = asyncio.run(scenario())
    assert [type(result) for result in results] == [type(None), type(None), DataError, type(None), type(None)]
    assert store.count() == 4


def test_closing_writes_what_waits_and_takes_no_more() -> None:
    store = SlowStore()

    async def scenario() -> None:
        writer = GroupCommitWriter(store)
        waiting = [writer.submit([line(i)]) for i in range(5)]
        store.gate.release(100)
        await asyncio.to_thread(writer.close)
        await asyncio.gather(*waiting)
        with pytest.raises(StoreError, match="stopping"):
            writer.submit([line(9)])

    asyncio.run(scenario())
    assert store.count() == 5


def test_while_a_commit_hangs_whoever_waits_is_refused_in_time_and_never_written() -> None:
    store = SlowStore()

    async def scenario() -> None:
        with closing(GroupCommitWriter(store, WriterConfig(commit_seconds=1))) as writer:
            first = writer.submit([line(0)])
            while writer.state.queued:
                await asyncio.sleep(0.001)
            waiting = [first, *[writer.submit([line(i)]) for i in range(1, 4)]]
            refused = await asyncio.gather(*waiting, return_exceptions=True)
            assert [type(one) for one in refused] == [StoreBusyError] * 4
            assert (writer.is_overdue, writer.state.failing_seconds is not None) == (True, True)
            for ask in (lambda: writer.submit([line(9)]), writer.probe):
                with pytest.raises(StoreBusyError, match="took more than"):
                    ask()
            store.gate.release(100)
            while writer.is_overdue:
                await asyncio.sleep(0.001)
            await writer.submit([line(5)])
            assert writer.state.failing_seconds is None

    asyncio.run(scenario())
    kept = store.read(EventQuery("order_lines"))["order_id"].to_pylist()
    assert kept == ["o0", "o5"]  # the one that was under way, and the one that came later


def test_closing_does_not_wait_for_a_store_that_hangs() -> None:
    store = SlowStore()

    async def scenario() -> None:
        writer = GroupCommitWriter(store, WriterConfig(commit_seconds=0.1))
        waiting = writer.submit([line(0)])
        await asyncio.to_thread(writer.close)
        with pytest.raises(StoreBusyError):
            await waiting

    asyncio.run(scenario())
    store.gate.release(100)


def test_a_probe_shares_a_commit_or_makes_one_of_its_own() -> None:
    store = SlowStore()

    async def scenario() -> None:
        with closing(GroupCommitWriter(store)) as writer:
            await writer.probe()
            assert store.probes == 1
            first = writer.submit([line(0)])
            while writer.state.queued:
                await asyncio.sleep(0.001)
            together = [writer.submit([line(1)]), writer.probe()]
            store.gate.release(100)
            await asyncio.gather(first, *together)
            assert (store.probes, writer.state.commits) == (1, 2)

    asyncio.run(scenario())


def test_events_that_could_not_be_kept_count_until_some_are_whatever_a_probe_says() -> None:
    store = SlowStore()
    store.gate.release(100)

    async def scenario() -> None:
        with closing(GroupCommitWriter(store)) as writer:
            store.failure = StoreError("the disk is full")
            with pytest.raises(StoreError):
                await writer.submit([line(0)])
            await writer.probe()
            assert writer.state.failing_seconds is not None
            store.failure = None
            await writer.submit([line(1)])
            assert writer.state.failing_seconds is None

    asyncio.run(scenario())


def test_a_caller_who_left_does_not_disturb_the_others() -> None:
    store = SlowStore()

    async def scenario() -> None:
        with closing(GroupCommitWriter(store)) as writer:
            gone, stays = writer.submit([line(0)]), writer.submit([line(1)])
            gone.cancel()
            store.gate.release(100)
            await stays

    asyncio.run(scenario())
    assert store.count() == 2
