"""What is printed to be copied stands in one line, however narrow the terminal is."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from recsys.cli.main import commands, main
from recsys.contracts import columns as c
from tests.golden.markets import NORTH
from tests.golden.storage import archive_of, unpack

ROOT = Path(__file__).resolve().parents[2]
Offers = Callable[..., list[str]]
COMMANDS = sorted(file for package in ("recsys", "training", "serving") for file in (ROOT / package).rglob("*.py"))


@pytest.fixture
def offers(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Offers:
    """Runs a command in a terminal of 30 columns; returns the lines that it prints."""
    monkeypatch.setenv("COLUMNS", "30")

    def run(*words: object) -> list[str]:
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        printed = capsys.readouterr().out.splitlines()
        assert ended.value.code == 0
        return printed

    return run


def test_files_and_commands_that_are_named_do_not_break(offers: Offers, tmp_path: Path) -> None:
    folder = tmp_path / "a folder whose name is rather long [1] and has blanks"
    folder.mkdir()
    orders, mapping, rejects = folder / "orders.csv", folder / "map.toml", folder / "rejected rows.csv"
    lines = {c.ORDER_ID: ["1", "2"], c.ACCOUNT_ID: "A", c.PRODUCT_ID: ["P", "Q"], c.ORDERED_AT: "2026-01-01"}
    pd.DataFrame({**lines, c.QUANTITY: 1, c.UNIT_PRICE: 2.5}).to_csv(orders, index=False)
    printed = offers("check", "--orders", orders, "--write-map", mapping, "--rejects", rejects)
    assert f"Wrote the mapping to {mapping}; use it with --map {mapping}" in printed
    assert f"Wrote the rejected rows to {rejects}" in printed
    bundle, ladder = unpack(archive_of(NORTH.name), folder / "bundle"), folder / "ladder.csv"
    assert f"offers train ... --ladder {ladder}" in offers("ladder", "--model", bundle, "--out", ladder)


def test_a_key_stands_in_one_line(offers: Offers, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    (made,) = offers(
        "key", "create", "--name", "the shop", "--owner", "web team", "--role", "storefront", "--keys", keys
    )
    (listed,) = offers("key", "list", "--keys", keys)
    assert len(made) > 30
    assert listed.endswith("the shop  web team  storefront (offers,outcomes)")


@pytest.mark.parametrize("columns", ["40", "60", "100"])
def test_no_command_that_a_help_names_breaks(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    waiting = [[name] for name in commands()]
    for words in waiting:
        with pytest.raises(SystemExit):
            main([*words, "--help"])
        text = capsys.readouterr().out
        assert [line for line in text.splitlines() if line.count("`") % 2] == []
        listed = text.partition("\nCommands:\n")[2]
        waiting += [[*words, name] for name in re.findall(r"^  (\S+)", listed, re.MULTILINE)]
    assert ["key", "create"] in waiting


def test_rich_prints_tables_and_no_sentence_that_it_would_wrap() -> None:
    """A text goes out by `typer.echo`, or by a console that is told not to wrap it."""
    wrapped = [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for file in COMMANDS
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "print"
        and any(_is_text(argument) for argument in node.args)
        and not any(option.arg == "soft_wrap" for option in node.keywords)
    ]
    assert wrapped == []


def _is_text(node: ast.expr) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == "Text"
    return isinstance(node, ast.JoinedStr | ast.Constant)
