"""The exception tree: what went wrong, where, and what to do.

Every message says what was found, the rule it breaks and the remedy. Each class is also the builtin
that a caller would expect to catch:

    OfferEngineError
    ├── ConfigError (ValueError)            a setting is unknown, out of range or contradicts another
    ├── DataError (ValueError)              the data break a contract
    │   ├── SourceNotFoundError (FileNotFoundError)   no such file, folder, table or data set
    │   ├── MissingColumnError (KeyError)             a required column is absent
    │   ├── EmptyDataError                            nothing is left to work on
    │   └── CurrencyError                             several currencies and no way to choose
    ├── BundleError (ValueError)            a bundle can't be read
    │   ├── BundleCorruptError                        a digest does not match
    │   └── BundleVersionError                        written by another schema version
    ├── ModelNotFoundError (LookupError)    no such model, version or alias
    │   └── RegistryError (ConnectionError)           the model registry or its artifacts can't be reached
    ├── PluginError (TypeError)            an own retriever, ranker, feature or baseline is not what it must be
    ├── GateError (PermissionError)         a model may not be promoted
    ├── ReplayError (RuntimeError)          the engine failed while it replayed the past: a fault of its own
    ├── StoreError (RuntimeError)           the event store refused
    │   └── StoreBusyError                            its queue is full; try again later
    ├── PlanError (ValueError)              an experiment plan is wrong or has changed
    ├── ReadoutError (ValueError)           an experiment's data can't be read out
    ├── ServerError (OSError)               the server can't start (a port in use, a host refused)
    ├── ServiceError (ConnectionError)      the client got no answer (`recsys.client`)
    ├── MissingExtraError (ImportError)     an extra of the distribution is not installed
    └── RequestRefusedError (ValueError)    the server refused the client's request (`recsys.client`)
"""

from __future__ import annotations

from typing import ClassVar


class OfferEngineError(Exception):
    """The root of all errors that this project raises on purpose."""

    exit_code: ClassVar[int] = 1
    """What a command ends with: 1 where something is refused."""

    def __str__(self) -> str:
        # KeyError would show the repr of its message; every error here shows the sentence itself.
        return str(self.args[0]) if self.args else ""


class ConfigError(OfferEngineError, ValueError):
    """A setting is unknown, out of range or contradicts another."""


class DataError(OfferEngineError, ValueError):
    """The data break a contract."""


class SourceNotFoundError(DataError, FileNotFoundError):
    """No such file, folder, table or data set."""


class MissingColumnError(DataError, KeyError):
    """A required column is absent."""


class EmptyDataError(DataError):
    """Nothing is left to work on."""


class CurrencyError(DataError):
    """Several currencies and no way to choose."""


class BundleError(OfferEngineError, ValueError):
    """A bundle can't be read."""


class BundleCorruptError(BundleError):
    """A file of the bundle does not match its digest."""


class BundleVersionError(BundleError):
    """The bundle was written by another schema version."""


class ModelNotFoundError(OfferEngineError, LookupError):
    """No such model, version or alias."""


class RegistryError(ModelNotFoundError, ConnectionError):
    """The model registry or its artifacts can't be reached: whether there is such a model is not known."""


class PluginError(OfferEngineError, TypeError):
    """An own retriever, ranker, feature or baseline is not installed, or not what it must be."""


class GateError(OfferEngineError, PermissionError):
    """A model may not be promoted."""


class ReplayError(OfferEngineError, RuntimeError):
    """The engine failed while it replayed the past: a fault of its own, not of the data or the configuration."""

    exit_code = 3


class StoreError(OfferEngineError, RuntimeError):
    """The event store refused."""


class StoreBusyError(StoreError):
    """The event store's queue is full; try again later."""


class PlanError(OfferEngineError, ValueError):
    """An experiment plan is wrong or has changed."""


class ReadoutError(OfferEngineError, ValueError):
    """An experiment's data can't be read out."""


class ServerError(OfferEngineError, OSError):
    """The server can't start."""


class MissingExtraError(OfferEngineError, ImportError):
    """An extra of the distribution is not installed."""
