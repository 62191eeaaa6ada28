"""The door: finds a sub-command by its entry point, loads only that one, and turns our errors into sentences.

It needs the standard library alone, so that it can say what an installation lacks.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points, version
from types import ModuleType
from typing import TYPE_CHECKING

from recsys.errors import OfferEngineError
from recsys.extras import require

if TYPE_CHECKING:
    import typer

_GROUP = "offer_engine.commands"


def commands() -> dict[str, EntryPoint]:
    """Return the sub-commands that are installed, by name."""
    return {entry.name: entry for entry in sorted(entry_points(group=_GROUP), key=lambda entry: entry.name)}


def main(argv: Sequence[str] | None = None, known: Mapping[str, EntryPoint] | None = None) -> None:
    """Run `offers` with the arguments of the process and the installed commands, or with those given.

    Raises:
        SystemExit: always; 0 done, 1 an error of ours (its sentence on standard error), 2 wrong usage.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    known = commands() if known is None else known
    if not arguments or arguments[0] in {"-h", "--help"}:
        sys.stdout.write(_help(known))
        raise SystemExit(0)
    if arguments[0] == "--version":
        sys.stdout.write(f"offer-engine {version('offer-engine')}\n")
        raise SystemExit(0)
    name, *rest = arguments
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        _complain(f"no command {name!r}; {hint}`offers --help` lists them")
        raise SystemExit(2)
    _run(known[name], rest)


def _run(entry: EntryPoint, arguments: list[str]) -> None:
    try:
        _call(entry, arguments)
    except OfferEngineError as error:
        _complain(str(error))
        raise SystemExit(1) from None


def _call(entry: EntryPoint, arguments: list[str]) -> None:
    """What is missing is looked for once something is: most calls need not know."""
    try:
        _application(entry)(args=arguments, prog_name=f"offers {entry.name}")
    except ModuleNotFoundError:
        require("train", "serve", what=f"offers {entry.name}")
        raise


def _application(entry: EntryPoint) -> typer.Typer:
    """A command is a function, a group of commands is a `typer.Typer`."""
    target = entry.load()
    import typer

    if isinstance(target, typer.Typer):
        return target
    if isinstance(target, ModuleType) or not callable(target):
        raise TypeError(f"entry point {entry.name!r} == {entry.value!r}, must be a function or a typer.Typer")
    application = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    application.command(entry.name)(target)
    return application


def _help(known: Mapping[str, EntryPoint]) -> str:
    names = "\n".join(f"  {name}" for name in known)
    return (
        "Usage: offers COMMAND [OPTIONS]\n\n"
        "Finds what each account should be offered next, serves it, and proves what it earned.\n\n"
        f"Commands (`offers COMMAND --help` tells more):\n{names}\n\n"
        "Options:\n  --version  Show the version.\n  --help     Show this page.\n"
    )


def _complain(sentence: str) -> None:
    sys.stderr.write(f"Error: {sentence}\n")
