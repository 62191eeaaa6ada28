"""The door: finds a sub-command by its entry point, loads only that one, and turns our errors into sentences.

It needs the standard library alone, so that it can say what an installation lacks.
"""

from __future__ import annotations

import ast
import difflib
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import PathFinder
from importlib.metadata import EntryPoint, entry_points, version
from pathlib import Path
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
        SystemExit: always; 0 done, 1 refused (the sentence on standard error), 2 wrong usage, 3 a fault of the engine.
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
        raise SystemExit(error.exit_code) from None


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
    width = max(map(len, known), default=0)
    names = "\n".join(f"  {name:<{width}}  {_sentence(entry)}".rstrip() for name, entry in known.items())
    return (
        "Usage: offers COMMAND [OPTIONS]\n\n"
        "Finds what each account should be offered next, serves it, and proves what it earned.\n\n"
        f"Commands (`offers COMMAND --help` tells more):\n{names}\n\n"
        "Options:\n  --version  Show the version.\n  --help     Show this page.\n"
    )


def _sentence(entry: EntryPoint) -> str:
    """What a command does in its own words, read from its source: a list of commands imports none of them."""
    package, *parts = entry.module.split(".")
    found = PathFinder.find_spec(package)
    folders = [] if found is None else found.submodule_search_locations or []
    files = [file for folder in folders if (file := Path(folder, *parts).with_suffix(".py")).exists()]
    for node in ast.parse(files[0].read_text(encoding="utf-8")).body if files else ():
        match node:
            case ast.FunctionDef(name=entry.attr):
                return _first_sentence(ast.get_docstring(node) or "")
            case ast.Assign(targets=[ast.Name(id=entry.attr)], value=ast.Call(keywords=options)):
                helps = [option.value for option in options if option.arg == "help"]
                return "".join(_first_sentence(str(text.value)) for text in helps if isinstance(text, ast.Constant))
    return ""


def _first_sentence(text: str) -> str:
    """The first sentence of a docstring, in one line."""
    first, *more = " ".join(text.split()).split(". ")
    return f"{first}." if more else first


def _complain(sentence: str) -> None:
    sys.stderr.write(f"Error: {sentence}\n")
