"""The HTTP client of the offer engine."""

from recsys.client._answers import (
    Answer,
    BatchItem,
    BoardCell,
    Order,
    OrderLine,
    PostedOrders,
    Reported,
    ReportedOutcome,
    RunningExperiment,
)
from recsys.client._async import AsyncOfferClient
from recsys.client._exchange import ClientConfig, RequestRefusedError, ServiceError
from recsys.client._outbox import QueueState
from recsys.client._sync import OfferClient
from recsys.contracts.answers import CallListEntry, RunningModel, WhyNotResult
from recsys.contracts.decisions import AssignedArm
from recsys.contracts.offers import AccountChange

__all__ = [
    "AccountChange",
    "Answer",
    "AssignedArm",
    "AsyncOfferClient",
    "BatchItem",
    "BoardCell",
    "CallListEntry",
    "ClientConfig",
    "OfferClient",
    "Order",
    "OrderLine",
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
