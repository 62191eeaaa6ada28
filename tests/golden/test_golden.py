"""Nothing that anybody sees has changed: every answer, row, file, text and error is as it was recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden.comparison import report
from tests.golden.storage import DATA, read_cases
from tests.golden.subjects import SUBJECTS

MOST_BYTES = 400_000
MOST_BYTES_TOGETHER = 1_600_000


@pytest.mark.parametrize("subject", SUBJECTS)
def test_as_recorded(subject: str, tmp_path: Path) -> None:
    differing = report(read_cases(subject), SUBJECTS[subject](tmp_path))
    assert not differing, f"{subject}: {differing}"


def test_five_thousand_answers_and_what_they_left_in_the_store() -> None:
    cases = [case for subject in SUBJECTS if subject.startswith("answers-") for case in read_cases(subject)]
    assert sum("answer" in case for case in cases) >= 5_000
    assert sum(row is not None for case in cases for row in case.get("stored", ())) >= 4_000


def test_the_net_is_small() -> None:
    sizes = {file.name: file.stat().st_size for file in DATA.iterdir()}
    assert max(sizes.values()) <= MOST_BYTES
    assert sum(sizes.values()) <= MOST_BYTES_TOGETHER
