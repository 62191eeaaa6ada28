"""The models that answer, by alias: one that stays, or those that a registry or folders name from moment to moment."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import NamedTuple, Protocol

from recsys.bundle.resolve import CHAMPION, ResolvedModel
from recsys.contracts.offers import EMPTY_STATE, AccountState, NameKind, OfferRequest, ProductChange, json_text
from recsys.errors import ModelNotFoundError, OfferEngineError, RegistryError
from recsys.offer_catalogue.business_rules import BusinessRule
from recsys.ranking.explorer import ModelExplorer
from recsys.ranking.ranked import Exploration
from serving.encoding import EncodedSlate

_log = logging.getLogger("serving")


class OfferRanker(Protocol):
    """What ranks: `serving.encoding.EncodingEngine`, or a fake in tests."""

    def answer(
        self, request: OfferRequest, state: AccountState = EMPTY_STATE, exploration: Exploration | None = None
    ) -> EncodedSlate:
        """Return the ranked answer to one request as text, its last offer drawn where that is wanted."""

    def knows(self, kind: NameKind, name: str) -> bool:
        """Return whether the model has anything to say about what is called so."""

    def apply(self, change: ProductChange) -> bool:
        """Put new values of a product in force; return whether the model knows the product."""

    def use_rules(self, rules: Sequence[BusinessRule]) -> None:
        """Put business rules in force, and no other."""


@dataclass(frozen=True)
class LoadedModel:
    """One model in memory, ready to answer.

    Attributes:
        version: what every decision names as its model.
        source: the URI or folder that it was asked for by.
        as_of: no order line at or after it was used.
        loaded_at: when this process loaded it, UTC.
        warm_up: requests that are answered once before it answers anybody.
        insight: explains the model to people; None for a fake that can't.
    """

    version: str
    source: str
    engine: OfferRanker
    as_of: datetime
    horizon_days: int
    currency: str | None
    n_accounts: int
    n_products: int
    loaded_at: datetime
    warm_up: tuple[OfferRequest, ...] = ()
    insight: ModelExplorer | None = None

    @cached_property
    def named(self) -> str:
        """The model's part of every answer, as JSON."""
        return f'"model_version":{json_text(self.version)},"as_of":{json_text(self.as_of)}'

    def replay(self) -> None:
        """Answer the warm-up requests, so that the first caller finds every page in memory and every path proven."""
        for request in self.warm_up:
            self.engine.answer(request)


class LoadFailure(NamedTuple):
    """A model that its alias names and that does not serve.

    Attributes:
        version: of the bundle; None where it was not even found.
        reason: a sentence.
        at: when it was refused, UTC.
    """

    version: str | None
    reason: str
    at: datetime


class AliasStatus(NamedTuple):
    """What stands behind one alias.

    Attributes:
        model: the one that answers; None where the alias has named none yet.
        refused: the newer one that was refused since, None where all is well.
    """

    alias: str
    model: LoadedModel | None
    refused: LoadFailure | None


class Away(NamedTuple):
    """That the registry, or its store of artifacts, can't be reached.

    Attributes:
        since: when that was noticed, UTC.
        reason: a sentence.
    """

    since: datetime
    reason: str


class Models(Protocol):
    """Who says which model answers now."""

    def current(self) -> LoadedModel:
        """Return the champion for the next request; one request uses one model throughout."""

    def get(self, alias: str) -> LoadedModel | None:
        """Return the model of an alias, None where it runs none."""

    def running(self) -> tuple[AliasStatus, ...]:
        """Return what stands behind every alias, the champion first."""

    def away(self) -> Away | None:
        """Return since when where they come from can't be reached, None where all is well."""


def unknown_names(models: Models, kind: NameKind, names: Iterable[str]) -> list[str]:
    """Return the names that no running model knows, each once."""
    engines = [running.model.engine for running in models.running() if running.model is not None]
    return [name for name in dict.fromkeys(names) if not any(engine.knows(kind, name) for engine in engines)]


class FixedModel:
    """The model that the server was started with."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model

    def current(self) -> LoadedModel:
        """Return that model."""
        return self._model

    def get(self, alias: str) -> LoadedModel | None:
        """Return that model as the champion, None under any other alias."""
        return self._model if alias == CHAMPION else None

    def running(self) -> tuple[AliasStatus, ...]:
        """Return that model."""
        return (AliasStatus(CHAMPION, self._model, None),)

    def away(self) -> None:
        """Return None: it comes from nowhere any more."""


@dataclass(frozen=True, slots=True)
class ModelSources:
    """Where models come from.

    Attributes:
        references: alias -> folder, `models:/NAME@ALIAS` or `models:/NAME/VERSION`; `champion` must be among them.
        find: says where a reference leads now.
        load: opens and verifies what was found, `(found, reference)`.
        served: hears, in any thread, what serves now.
        away: says since when they can't be reached.
        close: ends every wait for them.
    """

    references: Mapping[str, str]
    find: Callable[[str], ResolvedModel]
    load: Callable[[ResolvedModel, str], LoadedModel]
    served: Callable[[Sequence[LoadedModel]], None] = lambda _: None
    away: Callable[[], Away | None] = lambda: None
    close: Callable[[], None] = lambda: None


class WatchedModels:
    """Follows its sources: what is new is loaded beside, verified and warm before `put` lets it answer.

    `look` may run in any thread and changes nothing that requests see; the other methods belong to the event loop. A
    model that can't be loaded never answers: the last good one of its alias stays, and the next look at the same
    content comes after `retry` only.
    """

    def __init__(
        self, sources: ModelSources, first: LoadedModel, clock: Callable[[], datetime], retry: timedelta
    ) -> None:
        self._sources = sources
        self._clock = clock
        self._retry = retry
        self._models = {CHAMPION: first}
        self._refused: dict[str, LoadFailure] = {}

    def current(self) -> LoadedModel:
        """Return the champion for the next request; one request uses one model throughout."""
        return self._models[CHAMPION]

    def get(self, alias: str) -> LoadedModel | None:
        """Return the model of an alias, None where it runs none."""
        return self._models.get(alias)

    def running(self) -> tuple[AliasStatus, ...]:
        """Return what stands behind every alias, the champion first."""
        aliases = [CHAMPION, *sorted({*self._models, *self._refused} - {CHAMPION})]
        return tuple(AliasStatus(alias, self._models.get(alias), self._refused.get(alias)) for alias in aliases)

    def away(self) -> Away | None:
        """Return since when where they come from can't be reached, None where all is well."""
        return self._sources.away()

    def served(self) -> None:
        """Tell the sources what serves now; may run in any thread."""
        self._sources.served([model for _, model, _ in self.running() if model is not None])

    def close(self) -> None:
        """End every wait for the sources."""
        self._sources.close()

    def look(self, *, at_once: bool = False) -> tuple[AliasStatus, ...]:
        """Return what has changed, loaded and warm, for `put`; one look at a time.

        Args:
            at_once: look again at what was refused, however short ago.
        """
        ready = {model.version: model for model in self._models.values()}
        looked = [
            self._look_at(alias, reference, ready, at_once=at_once)
            for alias, reference in self._sources.references.items()
        ]
        return tuple(change for change in looked if change is not None)

    def put(self, changes: tuple[AliasStatus, ...]) -> None:
        """Let the new models answer, and keep in mind what was refused."""
        for alias, model, refused in changes:
            if refused is not None:
                self._refused[alias] = refused
                continue
            self._refused.pop(alias, None)
            if model is None:
                self._models.pop(alias, None)
            else:
                self._models[alias] = model

    def _look_at(
        self, alias: str, reference: str, ready: dict[str, LoadedModel], *, at_once: bool
    ) -> AliasStatus | None:
        model, refused = self._models.get(alias), self._refused.get(alias)
        version = None
        try:
            found = self._sources.find(reference)
            version = found.version
            if model is not None and model.version == version:
                return AliasStatus(alias, model, None) if refused is not None else None
            if not at_once and refused is not None and refused.version == version and not self._due(refused):
                return None
            if version not in ready:
                ready[version] = self._sources.load(found, reference)
                ready[version].replay()
            return AliasStatus(alias, replace(ready[version], source=reference), None)
        except RegistryError:  # what runs goes on; `away` tells
            return None
        except ModelNotFoundError as error:
            if alias != CHAMPION:  # nobody has to have a challenger
                return AliasStatus(alias, None, None) if model is not None else None
            return self._refusal(alias, model, version, str(error))
        except OfferEngineError as error:
            return self._refusal(alias, model, version, str(error))
        except Exception as error:  # noqa: BLE001 - whatever a new model does, the old one goes on answering
            _log.warning("model %s could not be loaded", alias, exc_info=error)
            return self._refusal(alias, model, version, f"it could not be loaded ({type(error).__name__})")

    def _refusal(self, alias: str, model: LoadedModel | None, version: str | None, reason: str) -> AliasStatus:
        return AliasStatus(alias, model, LoadFailure(version, reason, self._clock()))

    def _due(self, refused: LoadFailure) -> bool:
        return self._clock() >= refused.at + self._retry
