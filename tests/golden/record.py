"""Record anew: `python -m tests.golden.record [NAME ...]`, as README.md here says when."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.golden.comparison import report
from tests.golden.markets import MARKETS, train
from tests.golden.storage import archive_of, cases_file, pack, read_cases, write_cases
from tests.golden.subjects import SUBJECTS
from tests.golden.training import ONLINE_RETAIL_II, SIMULATED, online_retail_ii, simulated, write_record

BUNDLES = "bundles"
TRAINED = (BUNDLES, SIMULATED.replace(" ", "-"), ONLINE_RETAIL_II)


def main(names: Sequence[str]) -> None:
    """Record the named subjects, or all of those that need no training."""
    for name in names or list(SUBJECTS):
        with tempfile.TemporaryDirectory() as folder:
            _record(name, Path(folder))


def _record(name: str, folder: Path) -> None:
    if name == BUNDLES:
        for market in MARKETS:
            (folder / market.name).mkdir()
            pack(train(market, folder / market.name), archive_of(market.name))
    elif name == ONLINE_RETAIL_II:
        write_record(name, online_retail_ii(Path(os.environ["OFFERS_DATA"]) / "online_retail_ii.parquet", folder))
    elif name in TRAINED:
        write_record(SIMULATED, simulated(folder))
    else:
        cases = SUBJECTS[name](folder)
        if cases_file(name).exists():
            sys.stdout.write(report(read_cases(name), cases) + "\n")
        write_cases(name, cases)
    sys.stdout.write(f"Recorded {name}\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*SUBJECTS, *TRAINED, []], metavar="NAME", default=[])
    main(parser.parse_args().names)
