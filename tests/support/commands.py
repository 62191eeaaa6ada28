"""`offers` in processes of their own that import nothing: they are forked from one that has imported everything."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

from recsys.cli import main

_IMPORTED: Final = ("mlflow", "training.run", "recsys.evaluation.readout.from_event_store", __name__)
"""No module of commands: each reads the width of the screen when it is imported."""


class Done(NamedTuple):
    """How a command ended, and what it wrote."""

    code: int | None
    out: str
    err: str


def run_offers(words: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Done:
    """Run `offers` with the arguments `words` in a folder."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_IMPORTED))
    with TemporaryDirectory() as written:
        process = context.Process(target=_offers, args=(words, folder, dict(environment), Path(written)))
        process.start()
        process.join()
        out, err = ((Path(written) / name).read_text("utf-8") for name in ("out", "err"))
        return Done(process.exitcode, out, err)


def _offers(words: Sequence[str], folder: Path, environment: Mapping[str, str], written: Path) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for name, stream in (("out", sys.stdout), ("err", sys.stderr)):
        with (written / name).open("wb") as file:
            os.dup2(file.fileno(), stream.fileno())
    main(words)
