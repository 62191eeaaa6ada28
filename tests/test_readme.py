"""README's `console` blocks are executed, in order, as a new user in an empty folder would.

Servers, requests to them and make targets are left out: `tests/end_to_end` starts those for real.
An output line `...` stands for any lines; other lines must come as printed, white space folded.
"""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LEFT_OUT = ("make ", "offers serve", "curl ", "git clone", "cd ", "mlflow ui", ".venv/bin/mlflow")


def console_steps(text: str) -> list[tuple[str, str]]:
    """Return (command, expected output) of every console block."""
    steps = []
    for block in _BLOCK.findall(text):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = part.split("\n")
            n_command = 1 + next(i for i, line in enumerate(lines) if not line.endswith("\\"))
            command = "\n".join(lines[:n_command])
            steps.append((command, "\n".join(lines[n_command:]).strip("\n")))
    return steps


def test_steps_are_parsed() -> None:
    text = "```console\n$ offers check \\\n    --orders x\nfine\n$ offers --version\n```\n"
    assert console_steps(text) == [("offers check \\\n    --orders x", "fine"), ("offers --version", "")]


def test_console_blocks_run(tmp_path: Path, online_retail_path: Path) -> None:
    steps = [step for step in console_steps((ROOT / "README.md").read_text()) if not step[0].startswith(_LEFT_OUT)]
    assert len(steps) >= 3
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "OFFERS_DATA": str(online_retail_path.parent),
        "COLUMNS": "120",
    }
    checker = doctest.OutputChecker()
    for command, expected in steps:
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        if expected and not checker.check_output(expected + "\n", done.stdout, flags):
            pytest.fail(f"$ {command}\nREADME says:\n{expected}\n\nit printed:\n{done.stdout}")
