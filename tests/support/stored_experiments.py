"""An experiment's log as the events that serving would have written."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from recsys.contracts.decisions import AssignedArm, Decision
from recsys.contracts.events import ExperimentRecord, Outcome, PostedLine, RecordedAssignment
from recsys.contracts.offers import Offer, OfferRequest
from recsys.evaluation.readout.from_event_store import ExperimentLog
from recsys.events.store import EventStore
from recsys.experiments.plan import canonical_json

OFFER = Offer.from_logged((1, "P1", "cross_sell", 5.0, "GBP", 0.1, "accepts_if_shown", 1.0, 0.5, 0.5, "account", 1.0))


def stored(
    log: ExperimentLog, store: EventStore, currency: str | None = None, others: tuple[AssignedArm, ...] = ()
) -> EventStore:
    """The same log as the events that serving would have written."""
    plan = log.plan.plan
    tables: Any = log  # a cell of a frame may be anything to a type checker
    store.append(
        [ExperimentRecord(plan.id, plan.version, canonical_json(plan), log.plan.plan_hash, log.plan.started_at)]
    )
    store.append(
        [
            RecordedAssignment(
                experiment_id=plan.id,
                version=plan.version,
                unit_id=row.unit_id,
                unit="account",
                arm=row.arm,
                probability=0.5,
                assigned_at=row.assigned_at,
            )
            for row in tables.assignments.itertuples()
        ]
    )
    store.append([_decision(row, plan.id, others) for row in tables.decisions.itertuples()])
    store.append(
        [
            Outcome(
                outcome_id=f"U{i}",
                decision_id=row.decision_id,
                kind=row.kind,
                occurred_at=row.occurred_at,
                recorded_at=row.occurred_at,
                product_id=row.product_id,
            )
            for i, row in enumerate(tables.outcomes.itertuples())
        ]
    )
    store.append(
        [
            PostedLine(
                order_id=row.order_id,
                line_id="1",
                product_id=row.product_id,
                quantity=1.0,
                ordered_at=row.ordered_at,
                recorded_at=row.ordered_at,
                account_id=row.account_id,
                unit_price=row.revenue,
                currency=currency,
            )
            for row in tables.lines.itertuples()
        ]
    )
    return store


def _decision(row: Any, experiment_id: str, others: tuple[AssignedArm, ...]) -> Decision:
    return Decision(
        decision_id=row.decision_id,
        decided_at=row.decided_at,
        request=OfferRequest(account_id=row.unit_id),
        model_version="m",
        objective="conversion",
        tier="account",
        horizon_days=30,
        n_considered=2,
        offers=(OFFER, OFFER._replace(rank=2, product_id="P2")),
        assignments=(*others, AssignedArm(experiment_id, row.arm, 0.5)),
        presented=True,
    )


def heartbeat(when: datetime, account_id: str = "somebody else") -> Decision:
    """A decision outside of every experiment: the log reaches until then."""
    return Decision(
        decision_id=f"heartbeat {when.isoformat()}",
        decided_at=when,
        request=OfferRequest(account_id=account_id),
        model_version="m",
        objective="conversion",
        tier="account",
        horizon_days=30,
        n_considered=2,
        offers=(OFFER,),
    )
