"""Finds and loads models; whoever waits for a registry that is away waits no longer than stated."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from datetime import datetime, timedelta
from functools import partial
from importlib import import_module
from threading import Thread
from typing import Any, Final, TypeVar

from recsys.bundle.manifest import MANIFEST, model_version
from recsys.bundle.resolve import (
    CHAMPION,
    ResolvedModel,
    artifacts_gone,
    download,
    is_registered,
    local_folder,
    registered_source,
    resolve,
    without_password,
)
from recsys.errors import BundleError, OfferEngineError, RegistryError
from serving import logs
from serving.models.by_alias import Away, LoadedModel, ModelSources
from serving.models.kept_models import KeptModels
from serving.models.loading import BundleTrial, load_model
from serving.settings import RegistryConfig, Settings

_T = TypeVar("_T")


class BoundedCalls:
    """Calls to one service, in daemon threads; while one hangs, others would as well, and are not begun.

    Neither who asked nor the end of the process waits for a call that hangs for ever.

    Args:
        closed: when it is done, nobody waits any longer.
    """

    def __init__(self, closed: Future[None]) -> None:
        self._closed = closed
        self._name = ""
        self._under_way: Future[Any] | None = None

    def ask(self, name: str, call: Callable[[], _T], seconds: float) -> _T:
        """Return what `call` returns; one call at a time.

        A call that takes longer goes on alone, and the next one of the same name waits for it instead of its own.

        Raises:
            TimeoutError: it takes longer than so many seconds, or another call hangs.
        """
        hanging = self._under_way
        if hanging is None or hanging.done():  # what came after its time is old
            self._name, self._under_way = name, _in_daemon_thread(call)
        elif self._name != name:
            raise TimeoutError
        future: Future[_T] = self._under_way  # type: ignore[assignment]
        either: list[Future[Any]] = [future, self._closed]
        wait(either, seconds, FIRST_COMPLETED)
        if not future.done():
            raise TimeoutError
        self._under_way = None
        return future.result()


def _in_daemon_thread(call: Callable[[], _T]) -> Future[_T]:
    future: Future[_T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - who waits for it raises it
            future.set_exception(error)

    Thread(target=run, name="bounded call", daemon=True).start()
    return future


_CHAMPION_URI: Final = f"@{CHAMPION}"
_SAY_AGAIN: Final = timedelta(minutes=10)
"""How often the log repeats that the registry is away."""

_log = logging.getLogger("serving")


class ModelFinder:
    """Finds where references lead and loads what is there, from the copy that it keeps on disk.

    `find` and `load` are called by one thread at a time.

    Args:
        tracking_uri: of the registry.
        kept: the bundles on disk.
        config: how long to wait.
        clock: says since when the registry is away.
        trial: tries a bundle in a process of its own before it is loaded.
    """

    def __init__(
        self,
        tracking_uri: str,
        kept: KeptModels,
        config: RegistryConfig,
        clock: Callable[[], datetime],
        trial: BundleTrial,
    ) -> None:
        self.kept = kept
        self._tracking_uri = tracking_uri
        self._config = config
        self._clock = clock
        self._trial = trial
        self._away: dict[str, Away] = {}
        self._said_at: datetime | None = None
        self._sources: dict[str, str] = {}
        self._closed: Future[None] = Future()
        self._registry = BoundedCalls(self._closed)
        self._artifacts = BoundedCalls(self._closed)
        # MLflow's own bounds, unless somebody has set others: a thread that nobody waits for ends too.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(math.ceil(config.seconds)))
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")

    def find(self, reference: str) -> ResolvedModel:
        """Return where a reference leads now.

        Raises:
            RegistryError: the registry or its artifacts did not answer in time, or not as a registry does.
            ModelNotFoundError: no such folder, model, version or alias.
            BundleCorruptError: the folder holds no bundle.
        """
        try:
            found = self._find(reference)
        except RegistryError as error:
            self._note_away(reference, str(error))
            raise
        except OfferEngineError:
            self._note_back(reference)
            raise
        self._note_back(reference)
        return found

    def first(self, reference: str) -> ResolvedModel:
        """Return where a reference leads now, or while its registry is away, the last bundle that it led to.

        Nothing is noted or logged: the looks of whoever serves it do that.

        Raises:
            RegistryError: the registry is away, and no bundle is kept.
            ModelNotFoundError: no such folder, model, version or alias.
            BundleCorruptError: the folder holds no bundle.
        """
        try:
            return self._find(reference)
        except RegistryError as error:
            kept = self.kept.led_to(self._name(reference))
            if kept is None:
                raise RegistryError(
                    f"{error}; {self.kept.root} keeps no bundle of it to start from: "
                    "name the folder of a bundle with --model to start without the registry"
                ) from error
            return kept

    def load(self, found: ResolvedModel, reference: str) -> LoadedModel:
        """Return the model of a bundle, verified, from the copy that is kept from now on.

        Raises:
            BundleCorruptError: a file is missing or altered.
            BundleVersionError: another schema version wrote it.
        """
        known = self.kept.find(found.version) is not None
        place = self._keep(found, reference)
        try:
            return load_model(place.path, source=reference, now=self._clock(), trial=self._trial)
        except BundleError:
            if self.kept.is_whole(found.version):  # it is not the copy's fault
                raise
            self.kept.discard(found.version)
            if known and found.path != place.path:  # the copy was altered since; the original may be whole
                return self.load(found, reference)
            raise

    def served(self, models: Iterable[LoadedModel]) -> None:
        """Keep in mind what serves, and remove from disk what did too long ago."""
        running = list(models)
        try:
            for model in running:
                self.kept.note(self._name(model.source), model.version)
                if model.version in self._sources:
                    self.kept.note(self._sources[model.version], model.version)
            self.kept.tidy({model.version for model in running})
        except OSError as error:
            self._warn_of_disk(error)

    def away(self) -> Away | None:
        """Return since when the registry or its artifacts can't be reached, None where all is well."""
        return min(self._away.values(), default=None)

    def close(self) -> None:
        """Let nobody wait any longer."""
        self._trial.stop()
        if not self._closed.done():
            self._closed.set_result(None)

    def _find(self, reference: str) -> ResolvedModel:
        if not is_registered(reference):
            return resolve(reference)
        source = self._source(reference)
        folder = local_folder(source)
        if folder is not None and (folder / MANIFEST).is_file():
            found = ResolvedModel(folder, model_version(folder))
        else:
            kept = self.kept.led_to(source)  # what was registered once never changes
            if kept is None and folder is not None:
                raise artifacts_gone(folder)
            found = kept or self._download(source)
        self._sources[found.version] = source
        return found

    def _source(self, reference: str) -> str:
        import_module("mlflow.tracking.client")  # takes seconds, which are not the registry's
        seconds, shown = self._config.seconds, without_password(self._tracking_uri)
        try:
            return self._registry.ask(reference, partial(registered_source, reference, self._tracking_uri), seconds)
        except TimeoutError:
            raise RegistryError(
                f"{reference}: the registry {shown} did not answer within {seconds:g} s; restart it, or name another "
                "with --tracking-uri"
            ) from None

    def _download(self, source: str) -> ResolvedModel:
        seconds = self._config.download_seconds
        try:
            return self._artifacts.ask(source, partial(self._fetch, source), seconds)
        except TimeoutError:
            raise RegistryError(
                f"{without_password(source)}: the bundle was not there within {seconds:g} s; look at the store of "
                "artifacts, or give it longer with download_seconds in [registry]"
            ) from None

    def _fetch(self, source: str) -> ResolvedModel:
        try:
            with self.kept.incoming() as place:
                folder = download(source, self._tracking_uri, place)
                return self.kept.move_in(folder, model_version(folder))
        except RegistryError:
            raise
        except OSError as error:
            raise RegistryError(
                f"{self.kept.root}: the bundle can't be kept there: {error.strerror}; make room, or name another "
                "folder in [kept_models]"
            ) from error

    def _keep(self, found: ResolvedModel, reference: str) -> ResolvedModel:
        try:
            return self.kept.keep(found, link=is_registered(reference))
        except OSError as error:
            self._warn_of_disk(error)
            return found

    def _warn_of_disk(self, error: OSError) -> None:
        fields = {"folder": str(self.kept.root), "reason": error.strerror}
        _log.warning("models can't be kept on disk", extra={logs.FIELDS: fields})

    def _note_away(self, reference: str, reason: str) -> None:
        if self._closed.done():
            return
        now = self._clock()
        before = self.away()
        since = self._away[reference].since if reference in self._away else now
        self._away[reference] = Away(since, reason)
        if before is None or self._said_at is None or now >= self._said_at + _SAY_AGAIN:
            self._said_at = now
            fields = {"since": since, "reason": reason}
            _log.warning("the model registry is away, the models that run go on", extra={logs.FIELDS: fields})

    def _note_back(self, reference: str) -> None:
        if self._away.pop(reference, None) is not None and not self._away:
            _log.info("the model registry is back")

    def _name(self, reference: str) -> str:
        return f"{self._tracking_uri} {reference}"


def finder_of(settings: Settings, tracking_uri: str, clock: Callable[[], datetime]) -> ModelFinder:
    """Return what finds and loads models as the settings say."""
    kept, trial = KeptModels(settings.kept_models, clock), BundleTrial(settings.trial_seconds)
    return ModelFinder(tracking_uri, kept, settings.registry, clock, trial)


def sources_of(reference: str, settings: Settings, finder: ModelFinder) -> ModelSources:
    """Return where the champion `reference` and its challengers come from.

    A champion of a registry brings the registry's challenger, where there is one.
    """
    references = {CHAMPION: reference}
    if reference.endswith(_CHAMPION_URI):
        references["challenger"] = reference.removesuffix(_CHAMPION_URI) + "@challenger"
    references |= settings.challengers
    return ModelSources(references, finder.find, finder.load, finder.served, finder.away, finder.close)
