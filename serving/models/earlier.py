"""Models that made decisions and serve no longer, loaded from disk when somebody asks about such a decision."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from threading import Lock
from typing import Final

from serving.models.by_alias import LoadedModel
from serving.models.kept_models import KeptModels
from serving.models.loading import load_model

_IN_MEMORY: Final = 2
"""Most questions are about the latest retrain; what is mapped twice is in memory once."""


class EarlierModels:
    """Loads kept bundles by version, the last ones asked for stay; may be used by any thread."""

    def __init__(self, kept: KeptModels, clock: Callable[[], datetime]) -> None:
        self._kept = kept
        self._clock = clock
        self._loaded: OrderedDict[str, LoadedModel] = OrderedDict()
        self._loading = Lock()

    def get(self, version: str) -> LoadedModel | None:
        """Return the model of a version, None where its bundle is not kept any more.

        Raises:
            BundleCorruptError: the kept bundle was altered.
        """
        with self._loading:
            found = self._loaded.pop(version, None) or self._load(version)
            if found is not None:
                self._loaded[version] = found
                while len(self._loaded) > _IN_MEMORY:
                    self._loaded.popitem(last=False)
            return found

    def _load(self, version: str) -> LoadedModel | None:
        kept = self._kept.find(version)
        return None if kept is None else load_model(kept.path, source=str(kept.path), now=self._clock())
