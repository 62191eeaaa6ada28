"""Ids: the form of RFC 9562, in order, never twice."""

from __future__ import annotations

import time
import uuid

from serving.ids import DecisionIds, RequestIds


def test_decision_ids_are_uuids_of_version_7_in_rising_order() -> None:
    make = DecisionIds()
    before = time.time_ns() // 1_000_000
    ids = [make() for _ in range(5_000)]
    parsed = [uuid.UUID(one) for one in ids]
    assert {one.version for one in parsed} == {7}
    assert {one.variant for one in parsed} == {uuid.RFC_4122}
    assert [str(one) for one in parsed] == ids == sorted(ids)
    assert len(set(ids)) == 5_000
    assert before <= parsed[0].int >> 80 <= time.time_ns() // 1_000_000


def test_processes_that_make_ids_at_one_moment_do_not_collide() -> None:
    tails = {make()[19:] for make in [DecisionIds() for _ in range(500)]}
    assert len(tails) == 500


def test_request_ids_differ_within_and_between_processes() -> None:
    one, other = RequestIds(), RequestIds()
    assert len({make() for make in (one, one, other, other)}) == 4
