"""What the documents name is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from recsys.cli.main import commands
from recsys.contracts.tables import ACCOUNTS, ORDERS, PRODUCTS, UPGRADES
from recsys.offer_catalogue.business_rules import BusinessRule

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (document.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_tests_and_modules_that_are_named_are_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    files = set(re.findall(r"`((?:tests|recsys|serving|training)/[\w/]+\.py)", text))
    assert not [name for name in files if not (ROOT / name).is_file()]
    every = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    tests = set(re.findall(r"::(test_\w+)", text))
    assert not [name for name in tests if f"def {name.rstrip('_')}" not in every]


def test_the_guide_names_every_column_that_people_may_bring() -> None:
    text = (ROOT / "docs" / "guides" / "your_data.md").read_text(encoding="utf-8")
    for schema in (ORDERS, PRODUCTS, ACCOUNTS, UPGRADES):
        row = next(line for line in text.splitlines() if line.startswith(f"| {schema.name}"))
        required, optional = row.split("|")[2:4]
        assert set(re.findall(r"`(\w+)`", required)) == set(schema.required)
        assert set(re.findall(r"`(\w+)`", optional)) == set(schema.names) - set(schema.required)


def test_the_guide_names_every_field_and_action_of_a_business_rule() -> None:
    guide = (ROOT / "docs" / "guides" / "serving.md").read_text(encoding="utf-8")
    rules = guide[guide.index("## Business rules") :]
    actions = get_args(BusinessRule.model_fields["action"].annotation)
    assert actions
    missing = {name for name in (*BusinessRule.model_fields, *actions) if not re.search(rf"\b{name}\b", rules)}
    assert not missing


def test_every_command_is_in_the_table() -> None:
    rows = (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8").splitlines()
    named = {name for row in rows for name in re.findall(r"`(?:offers )?([a-z]+)[a-z -]*`", row.split(" | ")[0])}
    assert set(commands()) <= named


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
