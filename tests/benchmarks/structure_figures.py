"""Compares the structure of two releases: size, names, and what four journeys through the code enter and reach.

    python tests/benchmarks/structure_figures.py --before CHECKOUT [--after CHECKOUT] [--files]

Each checkout has its environment in `.venv` (`make setup`); --after is this one where it is left out. The table goes to
the terminal, with --files also what each journey entered; it takes some two minutes. docs/structure.md says how to
read it.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.golden.markets import NORTH, write_tables  # noqa: E402
from tests.test_structure import Sources, figures, read_sources  # noqa: E402

MOVED: Final = (Path("tests/support/climb_oracle.py"), Path("tests/support/synthetic_model.py"))
"""Product code before, tests' now: counted apart, with the reference ranker."""


def module_of(path: Path) -> str:
    """Return the name under which a file is imported."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def reached(sources: Sources, entries: Sequence[str], *, with_packages: bool) -> set[str]:
    """Return the modules that `entries` import, directly or not, themselves included.

    An import within a function counts, one for type checking alone does not. Importing a module runs its packages'
    `__init__` too, and what that imports: `with_packages` follows them; those count that hold more than a docstring.
    """
    trees = {module_of(path): ast.parse(text) for path, text in sources.items()}
    packages = {module_of(path) for path in sources if path.name == "__init__.py"}
    seen: set[str] = set()
    waiting = list(entries)
    while waiting:
        name = waiting.pop()
        if name in trees and name not in seen:
            seen.add(name)
            if with_packages:
                waiting += [package for package in packages if name.startswith(f"{package}.")]
            waiting += _imported(trees[name], name if name in packages else name.rpartition(".")[0], trees.keys())
    return {name for name in seen if name not in packages or len(trees[name].body) > 1}


def _imported(tree: ast.AST, package: str, known: Collection[str]) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                continue
            case ast.Import(names=names):
                yield from (each.name for each in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                above = package.split(".")[: package.count(".") + 2 - level] if level else []
                base = ".".join([*above, *([module] if module else [])])
                for each in names:
                    inner = f"{base}.{each.name}"
                    yield inner if inner in known else base
            case _:
                yield from _imported(node, package, known)


def follow(name: str, checkout: Path, market: Path) -> dict[str, dict[str, Any]]:
    """Return what each journey entered in a release, followed by its own Python."""
    python, script = checkout / ".venv" / "bin" / "python", Path(__file__).with_name("journeys.py")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    if name == "now":  # its compiled functions run as plain Python then, so that they are followed too
        environment["NUMBA_DISABLE_JIT"] = "1"
    ran = subprocess.run(
        [python, script, name, market], env=environment, stdout=subprocess.PIPE, check=True, cwd=market
    )
    found: dict[str, dict[str, Any]] = json.loads(ran.stdout)
    return found


def table(releases: dict[str, Path], *, with_files: bool) -> Iterator[str]:
    """Yield the lines of the table."""
    sources = {name: read_sources(checkout) for name, checkout in releases.items()}
    oracle = read_sources(releases["now"], ("tests/support/reference_ranker",))
    oracle = {**oracle, **{file: (releases["now"] / file).read_text(encoding="utf-8") for file in MOVED}}
    yield "| | before | now |"
    yield "|---|---|---|"
    for label, values in _sizes(sources, oracle):
        yield f"| {label} | {' | '.join(values)} |"
    with TemporaryDirectory() as folder:
        write_tables(NORTH, Path(folder))
        journeys = {name: follow(name, checkout, Path(folder)) for name, checkout in releases.items()}
    for journey in journeys["now"]:
        yield f"| {journey}: files, stays; reach (with packages) | {' | '.join(_cells(journeys, sources, journey))} |"
    if with_files:
        for journey in journeys["now"]:
            for name, found in journeys.items():
                yield f"\n{journey}, {name}: {', '.join(found[journey]['files'])}"


def _sizes(sources: dict[str, Sources], oracle: Sources) -> Iterator[tuple[str, list[str]]]:
    found = [figures(each) for each in sources.values()]
    yield "source files", [f"{each.source_files}" for each in found]
    yield "statements", [f"{each.statements:,}" for each in found]
    yield "statements of code that moved to the tests", ["", f"{figures(oracle).statements:,}" if oracle else ""]
    yield "lines of a file: median", [f"{each.median_lines:,.0f}" for each in found]
    yield "lines of a file: 90th percentile", [f"{each.ninetieth_lines:,.0f}" for each in found]
    yield "lines of a file: longest", [f"{each.longest[0]} (`{each.longest[1]}`)" for each in found]
    yield "fullest folder", [f"{each.fullest_folder[0]} (`{each.fullest_folder[1]}`)" for each in found]
    yield "public names defined twice", [f"{each.doubled_names}" for each in found]


def _cells(journeys: dict[str, dict[str, Any]], sources: dict[str, Sources], journey: str) -> Iterator[str]:
    for name, found in journeys.items():
        one = found[journey]
        named, run = (len(reached(sources[name], one["entries"], with_packages=each)) for each in (False, True))
        yield f"{len(one['files'])}, {one['stays']}; {named} ({run})"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--before", type=Path, required=True, help="Checkout of the release before.")
    parser.add_argument("--after", type=Path, default=ROOT, help="Checkout of the release after.")
    parser.add_argument("--files", action="store_true", help="Show which files each journey enters.")
    given = parser.parse_args()
    for line in table({"before": given.before.resolve(), "now": given.after.resolve()}, with_files=given.files):
        print(line)


if __name__ == "__main__":
    main()
