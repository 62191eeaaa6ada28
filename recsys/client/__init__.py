"""The HTTP client of the offer engine.

In a shop, one client as long as the process, no exception in a page, and no event lost while the server is away::

    client = OfferClient("http://127.0.0.1:8000", ClientConfig(deadline_ms=150, queue_file=Path("var/queue.db")))

    answer = client.offers(OfferRequest(account_id="17850"), surface="cart")  # within the deadline, empty if need be
    if answer.decision_id is not None:
        client.queue_outcomes([ReportedOutcome(f"{page_id}-shown", answer.decision_id, "shown")])
    client.queue_orders([Order("W-20931", (OrderLine("22720", 6.0),), account_id="17850")])
    client.queue  # QueueState(waiting=0, sent=2, dropped=0, refused=0)
"""

from recsys.client._answers import (
    Answer,
    BatchItem,
    BoardCell,
    Order,
    OrderLine,
    PostedDecision,
    PostedOrders,
    Reported,
    ReportedOutcome,
    RunningExperiment,
)
from recsys.client._async import AsyncOfferClient
from recsys.client._exchange import ClientConfig, RequestRefusedError, ServiceError
from recsys.client._outbox import QueueState
from recsys.client._sync import OfferClient
from recsys.contracts.answers import CallList, CallListEntry, RunningModel, WhyNotResult
from recsys.contracts.decisions import AssignedArm
from recsys.contracts.offers import AccountChange

__all__ = [
    "AccountChange",
    "Answer",
    "AssignedArm",
    "AsyncOfferClient",
    "BatchItem",
    "BoardCell",
    "CallList",
    "CallListEntry",
    "ClientConfig",
    "OfferClient",
    "Order",
    "OrderLine",
    "PostedDecision",
    "PostedOrders",
    "QueueState",
    "Reported",
    "ReportedOutcome",
    "RequestRefusedError",
    "RunningExperiment",
    "RunningModel",
    "ServiceError",
    "WhyNotResult",
]
