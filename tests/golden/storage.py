"""Recorded cases: one line of JSON each, compressed; the same cases give the same bytes."""

from __future__ import annotations

import io
import json
import lzma
import tarfile
from collections.abc import Sequence
from pathlib import Path

from tests.golden.comparison import Case, line_of

DATA = Path(__file__).resolve().parent / "data"

_PRESET = 9 | lzma.PRESET_EXTREME


def cases_file(subject: str) -> Path:
    return DATA / f"{subject}.jsonl.xz"


def read_cases(subject: str) -> list[Case]:
    text = lzma.decompress(cases_file(subject).read_bytes()).decode("utf-8")
    return [json.loads(line) for line in text.split("\n") if line]


def write_cases(subject: str, cases: Sequence[Case]) -> None:
    text = "".join(f"{line_of(case)}\n" for case in cases)
    cases_file(subject).write_bytes(lzma.compress(text.encode("utf-8"), preset=_PRESET))


def archive_of(market: str) -> Path:
    return DATA / f"bundle-{market}.tar.xz"


def pack(folder: Path, archive: Path) -> None:
    """Write the files of a folder to an archive without owners and times."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = tarfile.TarInfo(file.relative_to(folder).as_posix())
            entry.size = file.stat().st_size
            with file.open("rb") as opened:
                tar.addfile(entry, opened)
    archive.write_bytes(lzma.compress(content.getvalue(), preset=_PRESET))


def unpack(archive: Path, folder: Path) -> Path:
    with tarfile.open(archive, mode="r:xz") as tar:
        tar.extractall(folder, filter="data")
    return folder
