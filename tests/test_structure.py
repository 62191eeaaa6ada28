"""How large the source tree is and how well its names are kept apart; the bounds here may only be tightened.

A public name is what a module of `recsys`, `training` or `serving` defines at its top level without a leading
underscore: a function, a class, a constant, a type alias, a type variable. It is doubled where two modules or more
define it, each name counted once however many they are. Apart stand `router` and `lean_router`, which every file of
routes has by convention; a name that is imported is not defined.
"""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("recsys", "training", "serving")
BY_CONVENTION = frozenset({"router", "lean_router"})

MOST_DOUBLED_NAMES = 0
MOST_FILES_IN_A_FOLDER = 15
MOST_SOURCE_FILES = 385
MOST_LINES_OF_A_FILE = 400
MOST_LINES_OF_A_TEST_FILE = 400

Sources = Mapping[Path, str]
"""Path within the repository -> text of the module."""


class Figures(NamedTuple):
    """The table that stands for the structure."""

    source_files: int
    modules: int
    statements: int
    median_lines: float
    ninetieth_lines: float
    longest: tuple[int, Path]
    fullest_folder: tuple[int, Path]
    public_names: int
    doubled_names: int


@pytest.fixture(scope="module")
def sources() -> Sources:
    return read_sources(ROOT)


def read_sources(root: Path, packages: Sequence[str] = PACKAGES) -> Sources:
    """Return the modules of a checkout's packages."""
    files = [file for package in packages for file in sorted((root / package).rglob("*.py"))]
    return {file.relative_to(root): file.read_text(encoding="utf-8") for file in files}


parsed = cache(ast.parse)


def public_names(text: str) -> Iterator[str]:
    """Yield the names that a module defines at its top level, those behind a condition included."""
    waiting: list[ast.stmt] = list(parsed(text).body)
    for node in waiting:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                found = [node.name]
            case ast.Assign(targets=targets):
                found = [part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)]
            case ast.AnnAssign(target=ast.Name(id=name)):
                found = [name]
            case ast.If() | ast.Try() | ast.With():
                waiting += [inner for inner in ast.iter_child_nodes(node) if isinstance(inner, ast.stmt)]
                continue
            case _:
                continue
        yield from (name for name in found if not name.startswith("_"))


def definitions(sources: Sources) -> dict[str, set[Path]]:
    """Return public name -> the modules that define it."""
    places: defaultdict[str, set[Path]] = defaultdict(set)
    for path, text in sources.items():
        for name in public_names(text):
            places[name].add(path)
    return dict(places)


def doubled_names(sources: Sources) -> dict[str, set[Path]]:
    """Return the public names that two modules or more define, with those modules."""
    found = definitions(sources)
    return {name: places for name, places in found.items() if len(places) > 1 and name not in BY_CONVENTION}


def figures(sources: Sources) -> Figures:
    lines = {path: text.count("\n") for path, text in sources.items()}
    folders = Counter(path.parent for path in sources)
    longest = max(lines, key=lambda path: lines[path])
    (folder, most), *_ = folders.most_common(1)
    return Figures(
        source_files=len(sources),
        modules=sum(path.name != "__init__.py" for path in sources),
        statements=sum(isinstance(node, ast.stmt) for text in sources.values() for node in ast.walk(parsed(text))),
        median_lines=median(lines.values()),
        ninetieth_lines=quantiles(lines.values(), n=10)[-1],
        longest=(lines[longest], longest),
        fullest_folder=(most, folder),
        public_names=len(definitions(sources)),
        doubled_names=len(doubled_names(sources)),
    )


def check_doubled(sources: Sources) -> None:
    """Fail where more names are doubled than today."""
    found = doubled_names(sources)
    listed = "\n".join(f"  {name}: {', '.join(map(str, sorted(places)))}" for name, places in sorted(found.items()))
    assert len(found) <= MOST_DOUBLED_NAMES, (
        f"{len(found)} public names are defined in two modules or more, at most {MOST_DOUBLED_NAMES} may be; give the "
        f"new one a name of its own, import it, or begin it with an underscore:\n{listed}"
    )


def test_the_table(sources: Sources) -> None:
    found = figures(sources)
    print()
    for name, value in found._asdict().items():
        shown = f"{value[0]:,} ({value[1]})" if isinstance(value, tuple) else f"{value:,.0f}"
        print(f"{name.replace('_', ' '):<18} {shown}")
    assert found.modules < found.source_files < found.statements
    assert found.fullest_folder[0] <= MOST_FILES_IN_A_FOLDER, f"{found.fullest_folder}: split the folder by subject"
    assert found.longest[0] <= MOST_LINES_OF_A_FILE, f"{found.longest}: split the file by idea"
    assert found.source_files <= MOST_SOURCE_FILES, "join what is only opened together"


def test_no_file_of_tests_is_too_long() -> None:
    lines = {path: text.count("\n") for path, text in read_sources(ROOT, ("tests",)).items()}
    too_long = {str(path): n_lines for path, n_lines in lines.items() if n_lines > MOST_LINES_OF_A_TEST_FILE}
    assert len(lines) > 100
    assert not too_long, f"{too_long}: split the file by idea"


def test_doubled_names_only_fall(sources: Sources) -> None:
    check_doubled(sources)


def test_a_newly_doubled_name_fails(sources: Sources) -> None:
    places = definitions(sources)
    single = [name for name, found in places.items() if len(found) == 1]
    spare = MOST_DOUBLED_NAMES - len(doubled_names(sources)) + 1
    text = "".join(f"{name} = 1\n" for name in single[:spare])
    with pytest.raises(AssertionError, match=rf"(?m)^\s+{single[0]}: .*recsys/new\.py"):
        check_doubled({**sources, Path("recsys/new.py"): text})


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("def made(): ...\nclass Kept: ...\nLIMIT: Final = 1\nPair = tuple[int, int]\n", "made Kept LIMIT Pair"),
        ("from elsewhere import made\n_hidden = 1\ndef _private(): ...\n", ""),
        ("if True:\n    def made(): ...\nfirst, second = 1, 2\n", "first second made"),
        ("class Kept:\n    inner = 1\ndef made():\n    local = 1\n", "Kept made"),
    ],
)
def test_what_counts_as_a_public_name(text: str, names: str) -> None:
    assert sorted(public_names(text)) == sorted(names.split())


@pytest.mark.parametrize("text", ["name another with --store", "--out PATH: is a file", "one (--target NAME=1)"])
def test_an_option_in_a_text_is_seen(text: str) -> None:
    assert options_named(f"message = {text!r}") == [text]
    assert options_named(f"message = f'{{value}}: {text}'") == [f": {text}"]


def test_only_commands_name_options(sources: Sources) -> None:
    """The sentences of `recsys` reach Python, servers and commands alike: they name parameters; commands may be quoted.

    Its commands, and those of training and serving, are in folders of their own.
    """
    found = {
        str(path): named
        for path, text in sources.items()
        if path.parts[0] == "recsys" and path.parts[1] != "cli" and (named := options_named(text))
    }
    assert not found


def options_named(text: str) -> list[str]:
    """Return the texts in a module that name an option of a command, but for whole commands in quotes."""
    texts = [
        node.value for node in ast.walk(parsed(text)) if isinstance(node, ast.Constant) and type(node.value) is str
    ]
    return [said for said in texts if re.search(r"(?<![\w-])--[a-z]", re.sub(r"`offers [^`]*`", "", said))]
