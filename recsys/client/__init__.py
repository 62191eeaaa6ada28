"""The HTTP client of the offer engine."""

from recsys.client._answers import Answer, RunningModel
from recsys.client._async import AsyncOfferClient
from recsys.client._errors import RequestRefusedError, ServiceError
from recsys.client._exchange import ClientConfig
from recsys.client._sync import OfferClient

__all__ = [
    "Answer",
    "AsyncOfferClient",
    "ClientConfig",
    "OfferClient",
    "RequestRefusedError",
    "RunningModel",
    "ServiceError",
]
