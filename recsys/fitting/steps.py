"""The steps of a training: announced by name, and their results kept, so that a killed training goes on from them.

A result is kept in a folder of its own, with the digest of each file and the key of what it rests on: data,
configuration and version of the engine. It is written beside its place and moved, so that a step is there whole or not
at all; one of another key is made anew. The forms are those of a bundle and of its models: Arrow, Parquet and skops, of
which only listed types are ever built. joblib's memory would be less code, and its pickles would run whatever stands in
them.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from recsys.bundle.load import check_file, load_bundle
from recsys.bundle.manifest import FileEntry
from recsys.bundle.save import file_entries, replaced_folder, save_bundle
from recsys.contracts.config import Config, validation_sentences
from recsys.errors import BundleError
from recsys.fitting.scoring_models import dump_learned, load_learned
from recsys.models.candidates import Candidates
from recsys.offer_model.tables import OfferModel

_LOG = logging.getLogger(__name__)

_T = TypeVar("_T")
_C = TypeVar("_C", bound=Config)

Step = Callable[[str], AbstractContextManager[object]]
"""Announces a step by name for as long as it runs."""


def no_progress(_name: str) -> AbstractContextManager[object]:
    """Announce nothing."""
    return nullcontext()


@contextmanager
def logged_step(name: str) -> Iterator[None]:
    """Log a step as it begins."""
    _LOG.info("step: %s", name)
    yield


@dataclass(frozen=True)
class Form(Generic[_T]):
    """How a result is kept in a folder.

    Attributes:
        write: writes it into a new folder.
        read: returns what `write` wrote, equal to the bit.
    """

    write: Callable[[Path, _T], object]
    read: Callable[[Path], _T]


class Keep(Protocol):
    """Returns the kept result of a step, or makes it and keeps it."""

    def __call__(self, name: str, make: Callable[[], _T], form: Form[_T]) -> _T:
        """Return what `make` returns, from the folder where it was kept; `name` is the step's alone."""


def keep_nothing(name: str, make: Callable[[], _T], form: Form[_T]) -> _T:  # noqa: ARG001 - as `Keep` asks
    """Return what `make` returns, each time anew."""
    return make()


RESULT_TYPES: Final = (
    "recsys.backtesting.results.MethodScores",
    "recsys.evaluation.offline.ranking_metrics.RankingScores",
    "recsys.evaluation.statistics.bootstrap.Interval",
    "recsys.fitting.links.CartWeights",
    "recsys.offer_model.tables.CartCurve",
    "scipy.sparse._csr.csr_array",
)
"""Types of results beyond those of the models; each holds arrays, numbers and texts alone."""

_LEARNED, _FRAME, _ARRAYS, _DOCUMENT, _BUNDLE = (
    "learned.skops",
    "frame.parquet",
    "arrays.npz",
    "document.json",
    "bundle",
)
_STEP: Final = "step.json"
_OWNER: Final = "owner"


def _write_frame(folder: Path, frame: pd.DataFrame) -> None:
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), folder / _FRAME)


def _read_frame(folder: Path) -> pd.DataFrame:
    table = pq.read_table(folder / _FRAME)
    kinds = {one["name"]: one["numpy_type"] for one in table.schema.pandas_metadata["columns"]}
    texts = [
        name for name, kind in kinds.items() if kind == "object"
    ]  # which pandas would read as its own kind of text
    frame: pd.DataFrame = table.to_pandas()
    return frame.astype(dict.fromkeys(texts, object))


FRAME_FORM: Final = Form(_write_frame, _read_frame)
"""A frame whose index says nothing."""
LEARNED_FORM: Final[Form[Any]] = Form(
    lambda folder, value: (folder / _LEARNED).write_bytes(dump_learned(folder.name, value, RESULT_TYPES)),
    lambda folder: load_learned(folder / _LEARNED, RESULT_TYPES),
)
"""A fitted model without its tables of products, accounts and edges, or the arrays of a result."""
CANDIDATES_FORM: Final[Form[Candidates]] = Form(
    lambda folder, value: np.savez(folder / _ARRAYS, **vars(value)),
    lambda folder: Candidates(**np.load(folder / _ARRAYS, allow_pickle=False)),
)
"""Scored candidates, array by array: of a large market they are a gigabyte, of which no copy is made."""
OFFER_MODEL_FORM: Final[Form[OfferModel]] = Form(
    lambda folder, model: save_bundle(folder / _BUNDLE, model),
    lambda folder: load_bundle(folder / _BUNDLE).model,
)
"""The tables that serve, mapped from their files."""


def document(kind: type[_C]) -> Form[_C]:
    """Return the form of a document of class `kind`, as JSON."""
    return Form(
        lambda folder, value: (folder / _DOCUMENT).write_text(value.model_dump_json(), "utf-8"),
        lambda folder: kind.model_validate_json((folder / _DOCUMENT).read_text("utf-8")),
    )


class _StepManifest(Config):
    """What the folder of a step says of itself: `step.json`, last written."""

    key: str
    files: tuple[FileEntry, ...]


class KeptSteps:
    """The results of one training's steps, each in a folder below `folder`.

    Args:
        folder: of all steps.
        key: of what they rest on; results of another key are not read.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self._key = folder, key
        self.found: list[str] = []
        """Names of the steps that were read rather than made."""

    def __call__(self, name: str, make: Callable[[], _T], form: Form[_T]) -> _T:
        """Return the kept result of a step; else make it, and keep it."""
        place = self.folder / re.sub(r"[^a-z0-9]+", "-", name.lower())
        if self._is_whole(place):
            self.found.append(name)
            return form.read(place)
        value = make()
        # A part of another package may hold types that are not listed: its step is made anew each time.
        with suppress(BundleError), replaced_folder(place, _STEP, "kept step") as beside:
            form.write(beside, value)
            manifest = _StepManifest(key=self._key, files=file_entries(beside))
            (beside / _STEP).write_text(manifest.model_dump_json(), "utf-8")
        return value

    def _is_whole(self, place: Path) -> bool:
        try:
            manifest = _StepManifest.model_validate_json((place / _STEP).read_bytes())
            if manifest.key != self._key:
                return False
            for file in manifest.files:
                check_file(place, file, verify=True)
        except FileNotFoundError:
            if place.exists():
                _LOG.warning("kept step %s has no %s: it is made anew", place, _STEP)
            return False
        except (OSError, ValidationError, BundleError) as error:
            said = validation_sentences(error) if isinstance(error, ValidationError) else error
            _LOG.warning("kept step %s is damaged (%s): it is made anew", place, said)
            return False
        return True


@contextmanager
def locked_steps(folder: Path) -> Iterator[Path | None]:
    """Yield the folder where the steps of a training are kept; it is removed when the block ends without an error.

    None where another process trains with the same folder: both would write there. A folder without any step is
    removed after an error too; of a process that was killed, it says whose it was (`take_over`).
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield None
            return
        _remove_unfinished(folder)
        try:
            yield folder
        except BaseException:
            if not any(path.is_dir() for path in folder.glob("*")):
                shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(handle)


def kept_steps(folder: Path | None, key: str) -> Keep:
    """Return what keeps the steps of a training, that rest on what `key` names, in a folder of `locked_steps`."""
    return keep_nothing if folder is None else KeptSteps(folder, key)


def _remove_unfinished(folder: Path) -> None:
    """A process that was killed while it wrote leaves a folder that was never moved into its place."""
    for path in folder.glob(".*/"):
        shutil.rmtree(path, ignore_errors=True)


def take_over(folder: Path | None, owner: str) -> str | None:
    """Return who kept steps there last, and was ended before it was done; `owner` keeps them from now on."""
    if folder is None:
        return None
    before, after = folder / _OWNER, folder / f".{_OWNER}"
    last = before.read_text("utf-8") if before.is_file() else None
    after.write_text(owner, "utf-8")
    after.replace(before)
    return last


def steps_found(keep: Keep) -> Sequence[str]:
    """Return the names of the steps that were read rather than made."""
    return keep.found if isinstance(keep, KeptSteps) else ()
