"""The guide's table of malformed files says what the command says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.malformed_files import FILES, rows_of_guide, said_of

pytestmark = pytest.mark.slow


def test_the_guide_has_sixteen_files() -> None:
    assert {name: wrong for name, (wrong, _) in rows_of_guide().items()} == {
        name: file.wrong for name, file in FILES.items()
    }
    assert len(FILES) == 16


@pytest.mark.parametrize("name", FILES)
def test_the_guide_says_what_is_said(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    said = said_of(name, tmp_path)
    assert said.startswith("Error: ") or " rejected " in said or "Warning: " in said
    assert said == rows_of_guide()[name][1]
