"""Measure what an installation of the base, of each extra and of all takes: megabytes, distributions, import time.

    python tests/benchmarks/installation_sizes.py [--write]

Each is installed by pip into an environment of its own, at the versions of requirements.lock. The import is the median
of five processes that find everything compiled. With --write the table in docs/installing.md is replaced.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "installing.md"
RUNS: Final = 5
IMPORTS: Final = {
    "": "recsys.client",
    "serve": "serving.app",
    "train": "training.run",
    "all": "training.run, serving.app",
}
_OF_PIP = re.compile(r"(pip|setuptools|_distutils_hack|distutils-precedence)\b")
_TIMED = "import time; begun = time.perf_counter(); import {}; print(time.perf_counter() - begun)"
_TABLE = re.compile(r"(?<=<!-- sizes -->\n).*?(?=<!-- /sizes -->)", re.DOTALL)


class Installation(NamedTuple):
    """One row.

    Attributes:
        megabytes: of the files, as their lengths add up; without pip.
        seconds: of the import, the median of some processes.
    """

    extra: str
    distributions: int
    megabytes: float
    imported: str
    seconds: float


def measure(extra: str, folder: Path) -> Installation:
    """Install an extra into a new environment and measure it."""
    constraints = folder / "constraints.txt"
    pins = re.findall(r"^([\w.-]+==[^\\\n]*)", (ROOT / "requirements.lock").read_text("utf-8"), re.MULTILINE)
    constraints.write_text("\n".join(pins) + "\n", encoding="utf-8")
    venv.create(folder / "venv", with_pip=True)
    python = str(folder / "venv" / "bin" / "python")
    asked = f"{ROOT}[{extra}]" if extra else str(ROOT)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "-c", str(constraints), asked], check=True)
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    kept = [path for path in packages.iterdir() if not _OF_PIP.match(path.name)]
    size = sum(file.stat().st_size for path in kept for file in (path, *path.rglob("*")) if file.is_file())
    times = [_seconds(python, IMPORTS[extra], folder) for _ in range(RUNS + 1)][1:]
    distributions = sum(path.suffix == ".dist-info" for path in kept)
    return Installation(extra or "(none)", distributions, size / 1e6, IMPORTS[extra], median(times))


def _seconds(python: str, modules: str, folder: Path) -> float:
    done = subprocess.run(
        [python, "-c", _TIMED.format(modules)], cwd=folder, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def table(rows: list[Installation]) -> str:
    """Return the rows as Markdown."""
    lines = ["| extra | distributions | MB installed | imported | seconds |", "|---|---|---|---|---|"]
    lines += [
        f"| {row.extra} | {row.distributions} | {row.megabytes:,.0f} | `{row.imported}` | {row.seconds:.2f} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure every installation, print the table, and keep it where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="replace the table in docs/installing.md")
    write = parser.parse_args().write
    rows = []
    for extra in IMPORTS:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(extra, Path(folder)))
    sys.stdout.write(table(rows))
    if write:
        PAGE.write_text(_TABLE.sub(lambda _: table(rows), PAGE.read_text("utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
