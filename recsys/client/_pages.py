"""What the server says about products, accounts, decisions and experiments, as typed values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, TypeVar

from recsys.client._answers import Answer, parse_answer
from recsys.client._exchange import ServiceError
from recsys.contracts.answers import CallListEntry, WhiteSpaceItem, WhyNotResult

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class BoardCell(WhiteSpaceItem):
    """One product of a white-space board and its category, None for a product without one."""

    category: str | None


@dataclass(frozen=True, slots=True)
class RunningExperiment:
    """One version of an experiment.

    Attributes:
        state: running or stopped.
        unit: account or visitor.
        started_at: when its plan was locked.
        plan_hash: of the plan as it was locked.
        is_unchanged: whether the stored plan still has that hash.
        n_units: units assigned so far, by arm.
    """

    experiment_id: str
    version: int
    state: str
    unit: str
    started_at: datetime
    plan_hash: str
    is_unchanged: bool
    n_units: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class BatchItem:
    """The answer to one question of a batch.

    Attributes:
        index: position of its question, from 0.
        answer: None where it could not be answered.
        problem: why it could not; None where it was.
    """

    index: int
    answer: Answer | None
    problem: str | None


def parse_explanation(body: Mapping[str, Any]) -> WhyNotResult:
    """Return the explanation that stands in the server's JSON."""
    return _picked(WhyNotResult, body)


def parse_calls(body: Mapping[str, Any]) -> tuple[CallListEntry, ...]:
    """Return the call list that stands in the server's JSON."""
    return tuple(_picked(CallListEntry, call) for call in body["calls"])


def parse_board(body: Mapping[str, Any]) -> tuple[BoardCell, ...]:
    """Return the cells of a white-space board, shelf by shelf."""
    return tuple(
        _picked(BoardCell, {**cell, "category": shelf["category"]})
        for shelf in body["shelves"]
        for cell in shelf["cells"]
    )


def parse_experiments(body: Mapping[str, Any]) -> tuple[RunningExperiment, ...]:
    """Return the experiments that stand in the server's JSON."""
    return tuple(
        _picked(
            RunningExperiment,
            {
                **item,
                "started_at": datetime.fromisoformat(item["started_at"]),
                "n_units": {arm["name"]: arm["n_units"] for arm in item["arms"]},
            },
        )
        for item in body["experiments"]
    )


def parse_line(body: Mapping[str, Any]) -> BatchItem:
    """Return the answer that stands in one line of a batch."""
    problem, answer = body["problem"], body["answer"]
    return BatchItem(
        index=body["index"],
        answer=None if answer is None else parse_answer(answer),
        problem=None if problem is None else str(problem["detail"]),
    )


def read_line(text: str) -> BatchItem:
    """Return the answer that stands in one line of text.

    Raises:
        ServiceError: it is no such line.
    """
    try:
        return parse_line(json.loads(text))
    except (ValueError, LookupError, TypeError) as error:
        raise ServiceError(f"a line of the batch is not an offer engine's: {error!r}") from error


def _picked(kind: type[_T], body: Mapping[str, Any]) -> _T:
    """Fields that a newer server adds are left out."""
    return kind(**{item.name: body[item.name] for item in fields(kind)})  # type: ignore[arg-type]
