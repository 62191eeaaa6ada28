"""What the documents print for copying is run, in order, as a new user in an empty folder would.

`console` blocks are commands; an output line `...` stands for any lines, other lines must come as printed, white space
folded. `python` blocks of one document are one program; a `text` block right after one is what it prints. Servers,
requests to them and make targets are left out: `tests/end_to_end` starts those for real.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest

from tests.support.commands import run_offers

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (
    "README.md",
    "docs/tutorial.md",
    *(f"docs/guides/{path.name}" for path in (ROOT / "docs/guides").glob("*")),
)
_BLOCK = re.compile(r"^```(console|python)\n(.*?)^```$(?:\n+```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)
_LEFT_OUT = ("make ", "offers serve", "curl ", "git clone", "cd ", "mlflow ui", ".venv/bin/mlflow")
_OF_THE_SHELL = set("|&;<>()`*?~#")
_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Step(NamedTuple):
    """A command or a piece of Python, and what it must print; nothing: whatever it prints."""

    language: Literal["console", "python"]
    source: str
    expected: str


def steps_of(text: str) -> list[Step]:
    """Return what a document prints for copying, in order."""
    steps = []
    for language, block, printed in _BLOCK.findall(text):
        if language == "python":
            steps.append(Step("python", block, printed.strip("\n")))
            continue
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = part.split("\n")
            n_command = 1 + next(i for i, line in enumerate(lines) if not line.endswith("\\"))
            steps.append(Step("console", "\n".join(lines[:n_command]), "\n".join(lines[n_command:]).strip("\n")))
    return steps


def test_steps_are_parsed() -> None:
    text = "```console\n$ offers check \\\n    --orders x\nfine\n$ offers --version\n```\n```python\nprint(1)\n```\n"
    assert steps_of(text + "\n```text\n1\n```\n") == [
        Step("console", "offers check \\\n    --orders x", "fine"),
        Step("console", "offers --version", ""),
        Step("python", "print(1)\n", "1"),
    ]


def _run_command(command: str, folder: Path) -> str:
    if command.startswith("offers ") and not _OF_THE_SHELL & set(command):
        _, *words = shlex.split(os.path.expandvars(command.replace("\\\n", " ")))
        code, out, err = run_offers(words, folder, os.environ)
    else:
        done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=False)
        code, out, err = done.returncode, done.stdout, done.stderr
    assert code == 0, f"$ {command}\n{out}{err}"
    return out


def _run_python(source: str, document: str, names: dict[str, Any]) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(source, document, "exec"), names)
    return printed.getvalue()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_what_a_document_prints_for_copying_runs(
    document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    steps = [step for step in steps_of((ROOT / document).read_text()) if not step.source.startswith(_LEFT_OUT)]
    if any("$OFFERS_DATA" in step.source for step in steps):
        monkeypatch.setenv("OFFERS_DATA", str(request.getfixturevalue("online_retail_path").parent))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    for language, source, expected in steps:
        printed = _run_python(source, document, names) if language == "python" else _run_command(source, tmp_path)
        if expected and not doctest.OutputChecker().check_output(expected + "\n", printed, _FLAGS):
            pytest.fail(f"{source}\n{document} says:\n{expected}\n\nit printed:\n{printed}")
