"""What the server says about products, accounts, decisions and experiments, as typed values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, TypeVar

from recsys.client._answers import Answer, parse_answer
from recsys.client._exchange import ServiceError
from recsys.contracts.offers import OfferKind

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a product was not offered.

    Attributes:
        code: the first rule that removed it; `offered` where it was offered.
        sentence: the same for people.
        rule: the business rule that removed it; None where none did.
        values: what the rule looked at.
        rules_changed: whether the business rules have changed since the decision.
        product_changed: whether price, stock or flags of the product have changed since.
    """

    code: str
    sentence: str
    rule: str | None
    values: Mapping[str, float | int | str | bool | None]
    rules_changed: bool
    product_changed: bool


@dataclass(frozen=True, slots=True)
class CallEntry:
    """One account of a call list.

    Attributes:
        rank: 1 is the most likely.
        probability: that it buys the product within the model's horizon.
        expected_quantity: units, if it does.
        expected_value: money.
        reason: one sentence that a person can say aloud.
        from_product_id: what an upgrade would displace; None for a cross-sell.
    """

    rank: int
    account_id: str
    kind: OfferKind
    probability: float
    expected_quantity: float
    expected_value: float
    reason: str
    from_product_id: str | None


@dataclass(frozen=True, slots=True)
class BoardCell:
    """One product of a white-space board.

    Attributes:
        category: None for a product without one.
        standing: owned, offered, gap or not_eligible.
        why: why it is not eligible.
        probability: of buying it within the horizon; None without an estimate.
        expected_value: money; None without an estimate.
        penetration: share of the peers that have bought it.
    """

    category: str | None
    product_id: str
    name: str | None
    standing: str
    why: str | None
    probability: float | None
    expected_value: float | None
    penetration: float


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


def parse_explanation(body: Mapping[str, Any]) -> Explanation:
    """Return the explanation that stands in the server's JSON."""
    return _picked(Explanation, body)


def parse_calls(body: Mapping[str, Any]) -> tuple[CallEntry, ...]:
    """Return the call list that stands in the server's JSON."""
    return tuple(_picked(CallEntry, call) for call in body["calls"])


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
