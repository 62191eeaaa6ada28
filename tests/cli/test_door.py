"""The door: lists commands without loading them, loads one when called, turns our errors into sentences."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from recsys.cli import main as door
from recsys.cli.main import commands
from recsys.errors import DataError


def _run(
    arguments: list[str], capsys: pytest.CaptureFixture[str], known: dict[str, EntryPoint] | None = None
) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        door(arguments, known)
    out, err = capsys.readouterr()
    return int(stop.value.code or 0), out, err


def test_help_says_of_every_command_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _run(["--help"], capsys)
    assert code == 0
    listed = dict(line.split(maxsplit=1) for line in out.partition("Options:")[0].splitlines() if line.startswith("  "))
    assert list(listed) == list(commands())
    assert {"check", "train", "promote", "recommend", "serve"} <= set(listed)
    assert listed["experiment"] == "Plan, start, watch, stop, read out and decide an experiment."
    assert listed["retention"] == "Drop decisions, outcomes, order lines and logins by age."
    for name, sentence in listed.items():
        assert sentence[0].isupper(), name
        assert sentence.endswith("."), name
        _, own, _ = _run([name, "--help"], capsys)
        assert sentence in " ".join(own.split())


def test_a_command_without_source_is_listed_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    known = {"odd": EntryPoint("odd", "no.such.module:run", "x"), "serve": commands()["serve"]}
    _, out, _ = _run(["--help"], capsys, known)
    assert "\n  odd\n  serve  Serve offers over HTTP;" in out


def test_help_loads_no_heavy_library() -> None:
    script = (
        "import sys\nfrom recsys.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = ('mlflow', 'sklearn', 'pandas', 'ibis', 'fastapi', 'training', 'serving')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", list(commands()))
def test_every_command_loads_and_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _run([name, "--help"], capsys)
    assert code == 0
    assert f"offers {name}" in out


def test_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = _run(["trian"], capsys)
    assert (code, err) == (2, "Error: no command 'trian'; did you mean 'train'? `offers --help` lists them\n")


def test_our_errors_become_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    sys.modules.setdefault("breaking_command", sys.modules[__name__])
    known = {"break": EntryPoint("break", "breaking_command:breaking", "x")}
    code, out, err = _run(["break"], capsys, known)
    assert (code, out, err) == (1, "", "Error: quantity == 'two' in row 3, must be a number\n")


def breaking() -> None:
    """Raise an error of ours."""
    raise DataError("quantity == 'two' in row 3, must be a number")


def test_an_entry_point_that_is_no_command_is_refused() -> None:
    with pytest.raises(TypeError, match="must be a function"):
        door(["odd"], {"odd": EntryPoint("odd", "recsys.errors", "x")})
