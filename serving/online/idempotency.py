"""What the store keeps of reports that were just written: of two with one id the first counts, in every memory too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from recsys.contracts.events import EventQuery, Outcome, PostedLine
from recsys.events.store import EventStore

_E = TypeVar("_E", Outcome, PostedLine)
_K = TypeVar("_K")


@dataclass(frozen=True, slots=True)
class WriteResult(Generic[_K, _E]):
    """What became of some reports.

    Attributes:
        events: as the store holds them, one an id; one that was erased meanwhile is missing.
        new: ids that came with these reports and not before.
        conflicts: ids that came with other content than the store holds.
    """

    events: dict[_K, _E]
    new: frozenset[_K]
    conflicts: tuple[_K, ...]


def kept_outcomes(store: EventStore, sent: Sequence[Outcome]) -> WriteResult[str, Outcome]:
    """Return what the store keeps of outcomes that were just written."""
    ids = tuple({outcome.outcome_id for outcome in sent})
    rows = store.read(EventQuery("outcomes", outcome_ids=ids)).to_pylist()
    return _compared({row["outcome_id"]: Outcome(**row) for row in rows}, sent, lambda one: one.outcome_id, _as_outcome)


def kept_lines(store: EventStore, sent: Sequence[PostedLine]) -> WriteResult[tuple[str, str], PostedLine]:
    """Return what the store keeps of order lines that were just written."""
    wanted = {line_key(line) for line in sent}
    rows = store.read(EventQuery("order_lines", order_ids=tuple({order_id for order_id, _ in wanted}))).to_pylist()
    kept = {line_key(line): line for line in (PostedLine(**row) for row in rows) if line_key(line) in wanted}
    return _compared(kept, sent, line_key, _as_line)


def line_key(line: PostedLine) -> tuple[str, str]:
    """Return the identity of an order line."""
    return line.order_id, line.line_id


def _compared(
    kept: Mapping[_K, _E], sent: Iterable[_E], key: Callable[[_E], _K], as_kept: Callable[[_E, _E], _E]
) -> WriteResult[_K, _E]:
    new: set[_K] = set()
    conflicts: dict[_K, None] = {}
    for event in sent:
        name = key(event)
        held = kept.get(name)
        if held is None:
            continue
        if as_kept(event, held) != held:
            conflicts[name] = None
        elif event.recorded_at == held.recorded_at:
            new.add(name)
    return WriteResult(dict(kept), frozenset(new), tuple(conflicts))


def _as_outcome(sent: Outcome, kept: Outcome) -> Outcome:
    """The same with the kept times where the sender gave none: they are the server's own."""
    occurred_at = kept.occurred_at if sent.occurred_at == sent.recorded_at else sent.occurred_at
    return replace(sent, recorded_at=kept.recorded_at, occurred_at=occurred_at)


def _as_line(sent: PostedLine, kept: PostedLine) -> PostedLine:
    """The same with the kept time where the sender gave none, and without a currency where it was kept without."""
    ordered_at = kept.ordered_at if sent.ordered_at == sent.recorded_at else sent.ordered_at
    currency = None if kept.currency is None else sent.currency
    return replace(sent, recorded_at=kept.recorded_at, ordered_at=ordered_at, currency=currency)
