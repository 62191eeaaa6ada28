"""The HTTP client of the offer engine."""

from recsys.client._answers import (
    AccountChange,
    Answer,
    Order,
    OrderLine,
    PostedOrders,
    Reported,
    ReportedOutcome,
    RunningModel,
)
from recsys.client._async import AsyncOfferClient
from recsys.client._exchange import ClientConfig, RequestRefusedError, ServiceError
from recsys.client._pages import BatchItem, BoardCell, CallEntry, Explanation, RunningExperiment
from recsys.client._sync import OfferClient
from recsys.contracts.decisions import AssignedArm

__all__ = [
    "AccountChange",
    "Answer",
    "AssignedArm",
    "AsyncOfferClient",
    "BatchItem",
    "BoardCell",
    "CallEntry",
    "ClientConfig",
    "Explanation",
    "OfferClient",
    "Order",
    "OrderLine",
    "PostedOrders",
    "Reported",
    "ReportedOutcome",
    "RequestRefusedError",
    "RunningExperiment",
    "RunningModel",
    "ServiceError",
]
