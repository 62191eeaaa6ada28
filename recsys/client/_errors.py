"""What can go wrong between a caller and the server.

The tree::

    OfferEngineError
    ├── ServiceError (ConnectionError)       no answer, or the server could not serve; trying again may help
    └── RequestRefusedError (ValueError)     the request breaks a rule; trying again does not help
"""

from __future__ import annotations

from recsys.errors import OfferEngineError


class ServiceError(OfferEngineError, ConnectionError):
    """The server did not answer, or could not serve, however often it was asked."""


class RequestRefusedError(OfferEngineError, ValueError):
    """The server refused the request.

    Attributes:
        status: the HTTP status.
        request_id: under which the server knows the request; None where it gave none.
    """

    def __init__(self, sentence: str, status: int, request_id: str | None) -> None:
        super().__init__(sentence)
        self.status = status
        self.request_id = request_id
