"""What the documents name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (document.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_tests_and_modules_that_are_named_are_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    files = set(re.findall(r"`((?:tests|recsys|serving|training)/[\w/]+\.py)", text))
    assert not [name for name in files if not (ROOT / name).is_file()]
    every = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    tests = set(re.findall(r"::(test_\w+)", text))
    assert not [name for name in tests if f"def {name.rstrip('_')}" not in every]


def test_the_glossarys_names_stand_in_the_code() -> None:
    rows = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8").splitlines()[6:]
    named = {name.split(".")[-1] for row in rows for name in re.findall(r"`([^`]+)`", row.rsplit("|", 2)[1])}
    code = "\n".join(
        path.read_text(encoding="utf-8")
        for top in ("recsys", "training", "serving")
        for path in (ROOT / top).rglob("*.py")
    )
    assert named
    assert not [name for name in sorted(named) if not re.search(rf"\b{re.escape(name)}\b", code)]
