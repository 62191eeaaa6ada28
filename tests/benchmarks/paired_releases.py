"""Compares two releases: throughput, latency and ranking of each by turns, and the intervals of their paired ratios.

    python tests/benchmarks/paired_releases.py --before CHECKOUT [--after CHECKOUT] [--rounds 10] [--steady SECONDS]
        [--out FILE]

Each checkout has its environment in `.venv` (`make setup`); --after is this one where it is left out. A bundle of the
size of Online Retail II, written by the release after, is served by both, one after the other, each time from a fresh
SQLite store; which of them is first alternates from round to round. A ratio is taken within a round, so that what else
the machine does meanwhile falls on both. Ten rounds take some twelve minutes.

With --steady only the load of 200 requests a second is measured, for so many seconds each time: p99 varies most, and
the usual six seconds leave it wide. The document that --out names is in JSON, a table of it goes beside it and to the
terminal. Everything stays on this machine.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import numpy as np
from scipy import stats

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]
PROOF: Final = ROOT / "docs" / "proof" / "paired_releases.json"

SERVER_CORE, LOAD_CORE = 0, 1
CONNECTIONS, RATE = 16, 200
WARM_SECONDS, CLOSED_SECONDS, STEADY_SECONDS = 1.0, 3.0, 6.0
N_ACCOUNTS, N_PRODUCTS, N_QUESTIONS, N_RANKED = 5_000, 4_000, 20_000, 2_000
READY_SECONDS, IN_PROCESS_SECONDS = 180.0, 120.0
MOST_WORSE: Final = 0.10

MAKE_BUNDLE: Final = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
import numpy as np
from recsys.bundle.save import save_bundle
from tests.support.synthetic_model import SyntheticModelConfig, synthetic_model
size = SyntheticModelConfig(n_accounts={N_ACCOUNTS}, n_products={N_PRODUCTS}, candidates_per_account=60,
                            owned_per_account=20, links_per_product=100)
save_bundle(Path(sys.argv[1]), synthetic_model(size, np.random.default_rng(0)))
"""
RANK_IN_PROCESS: Final = f"""
import json, statistics, sys, time
from datetime import UTC, datetime
from pathlib import Path
import numpy as np
try:
    from serving.models.loading import load_model
except ImportError:
    from serving.loading import load_model
from recsys.bundle.load import load_bundle
from recsys.contracts.offers import CartLine, OfferRequest
from recsys.ranking.engine import OfferEngine

folder, seed = Path(sys.argv[1]), int(sys.argv[2])
encoder = load_model(folder, source="", now=datetime.now(UTC)).engine
engine = OfferEngine(load_bundle(folder, verify=False).model)
rng = np.random.default_rng(seed)

def requests(**options):
    for account, cart in zip(rng.integers(0, {N_ACCOUNTS}, {N_RANKED}), rng.integers(0, {N_PRODUCTS}, ({N_RANKED}, 3))):
        lines = tuple(CartLine(f"P{{product:06d}}", 2.0) for product in cart)
        yield OfferRequest(account_id=f"A{{account:07d}}", cart=lines, limit=10, **options)

def median_us(rank, asked):
    asked, taken = list(asked), []
    for request in asked[:200]:
        rank(request)
    for request in asked[200:]:
        begun = time.perf_counter()
        rank(request)
        taken.append(1e6 * (time.perf_counter() - begun))
    return statistics.median(taken)

print(json.dumps({{
    "recommend, account and cart": median_us(engine.recommend, requests()),
    "answer, account and cart": median_us(encoder.answer, requests()),
    "answer, with a price limit": median_us(encoder.answer, requests(max_price=50.0)),
}}))
"""
"""Run by each release in its own environment; what has another name in one of them is looked for under both."""


class Release(NamedTuple):
    """A release that can be run.

    Attributes:
        name: `before` or `after`.
        checkout: its folder, with its environment in `.venv`.
    """

    name: str
    checkout: Path

    def program(self, name: str) -> str:
        """Return the path of a program of its environment."""
        return str(self.checkout / ".venv" / "bin" / name)

    @property
    def revision(self) -> str:
        """What git calls it."""
        command = ["git", "-C", str(self.checkout), "rev-parse", "--short", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


class RatioInterval(NamedTuple):
    """The ratio after/before over paired rounds.

    Attributes:
        ratio: geometric mean of the rounds' ratios.
        low, high: its interval of 95 %, by Student's t on the logarithms.
    """

    ratio: float
    low: float
    high: float


def ratio_interval(before: Sequence[float], after: Sequence[float]) -> RatioInterval:
    """Return the interval of after/before; the two series are paired by round and positive."""
    logs = [math.log(late / early) for early, late in zip(before, after, strict=True)]
    mean, n = statistics.fmean(logs), len(logs)
    half = float(stats.t.ppf(0.975, n - 1)) * statistics.stdev(logs) / math.sqrt(n)
    return RatioInterval(math.exp(mean), math.exp(mean - half), math.exp(mean + half))


def is_within_bound(measure: str, found: RatioInterval) -> bool:
    """Return whether the interval reaches no worse than the bound: fewer requests a second are worse, and more time."""
    if measure.endswith("requests a second"):
        return found.low >= 1 - MOST_WORSE
    return found.high <= 1 + MOST_WORSE


@contextmanager
def running(command: Sequence[str], core: int, log: Path, cwd: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program on one core where there are two; what it writes goes to `log`, and it ends with the block."""
    with log.open("wb") as written:
        process = subprocess.Popen(command, stdout=written, stderr=written, cwd=cwd)
    try:
        if (os.cpu_count() or 1) > 1:
            os.sched_setaffinity(process.pid, {core})
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(30)


def output(command: Sequence[str], core: int, seconds: float, folder: Path) -> str:
    """Return what a program writes; it must succeed in its time."""
    log = folder / "output.txt"
    with running(command, core, log, folder) as process:
        process.wait(seconds)
    text = log.read_text()
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command[:2])} failed:\n{text}")
    return text


@contextmanager
def served(release: Release, bundle: Path, folder: Path) -> Iterator[str]:
    """Serve the bundle from a fresh store; gives the URL once it answers."""
    log = folder / "server.log"
    command = [release.program("offers"), "serve", "--model", str(bundle), "--port", "0"]
    command += ["--store", f"sqlite:///{folder}/events.db"]
    with running(command, SERVER_CORE, log, folder) as process:
        end = time.monotonic() + READY_SECONDS
        while not (said := [line for line in log.read_text().splitlines() if '"url"' in line]):
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"{release.name} does not serve:\n{log.read_text()}")
            time.sleep(0.05)
        yield str(json.loads(said[0])["url"])


def write_questions(folder: Path) -> dict[str, Path]:
    """Write the requests of the two routes: each account in turn, a cart of three, ten offers."""
    rng = np.random.default_rng(0)
    accounts = [f"A{row:07d}" for row in rng.permutation(N_ACCOUNTS).tolist()]
    carts = rng.integers(0, 200, (N_QUESTIONS, 3)).tolist()  # of what is bought often
    posts, gets = [], []
    for number, cart in enumerate(carts):
        account = accounts[number % N_ACCOUNTS]
        lines = [{"product_id": f"P{row:06d}", "quantity": 2} for row in cart]
        body = {"account_id": account, "cart": lines, "limit": 10, "channel": "web", "surface": "cart"}
        posts.append(["POST", "/v1/offers", body])
        gets.append(["GET", f"/v1/accounts/{account}/offers?limit=10", None])
    files = {"POST": folder / "posts.json", "GET": folder / "gets.json"}
    for file, content in zip(files.values(), (posts, gets), strict=True):
        file.write_text(json.dumps(content))
    return files


def load(url: str, requests: Path, seconds: float, rate: int, first: int, folder: Path) -> dict[str, float]:
    """Return what the load generator measured; every request must have been answered with 200."""
    target = urlsplit(url)
    command = [sys.executable, str(HERE / "load_generator.py"), str(target.hostname), str(target.port)]
    command += [str(CONNECTIONS), str(seconds), str(rate), str(first), str(requests)]
    found: dict[str, float] = json.loads(output(command, LOAD_CORE, seconds + 60, folder))
    if found["failed"]:
        raise SystemExit(f"{found['failed']:.0f} requests to {url} were not answered with 200")
    return found


def measure(
    release: Release, bundle: Path, questions: Mapping[str, Path], number: int, only_steady: float | None
) -> dict[str, float]:
    """Return the measures of one release in one round: all, or those of a steady load of so many seconds."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="offers_paired_") as name:
        folder = Path(name)
        with served(release, bundle, folder) as url:
            for route, file in questions.items():
                load(url, file, WARM_SECONDS, 0, N_QUESTIONS // 2, folder)
                first = number * 1_000
                if only_steady is None:
                    closed = load(url, file, CLOSED_SECONDS, 0, first, folder)
                    found[f"{route}: requests a second"] = closed["requests_per_second"]
                steady = load(url, file, only_steady or STEADY_SECONDS, RATE, first, folder)
                found[f"{route}: p50 ms at {RATE} a second"] = steady["p50_ms"]
                found[f"{route}: p99 ms at {RATE} a second"] = steady["p99_ms"]
        if only_steady is not None:
            return found
        command = [release.program("python"), "-c", RANK_IN_PROCESS, str(bundle), str(number)]
        ranked = json.loads(output(command, SERVER_CORE, IN_PROCESS_SECONDS, folder))
    return found | {f"{name}: µs": taken for name, taken in ranked.items()}


def summary(rounds: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float | bool]]:
    """Return each measure's geometric means, the ratio after/before with its interval, and whether it is in bounds."""
    found: dict[str, dict[str, float | bool]] = {}
    for name in rounds[0]["before"]:
        before, after = ([one[release][name] for one in rounds] for release in ("before", "after"))
        interval = ratio_interval(before, after)
        means = {
            "before": round(statistics.geometric_mean(before), 3),
            "after": round(statistics.geometric_mean(after), 3),
        }
        shown = {key: round(value, 4) for key, value in interval._asdict().items()}
        found[name] = {**means, **shown, "is_within_bound": is_within_bound(name, interval)}
    return found


def table(measures: Mapping[str, Mapping[str, float | bool]]) -> str:
    """Return the measures as a table in Markdown."""
    lines = ["| | before | after | after/before | 95 % | |", "|---|---|---|---|---|---|"]
    for name, one in measures.items():
        verdict = "" if one["is_within_bound"] else f"beyond {MOST_WORSE:.0%}"
        figures = f"{one['before']:,.2f} | {one['after']:,.2f} | {one['ratio']:.3f}"
        lines.append(f"| {name} | {figures} | {one['low']:.3f} to {one['high']:.3f} | {verdict} |")
    return "\n".join(lines) + "\n"


def compare(before: Release, after: Release, n_rounds: int, only_steady: float | None) -> dict[str, object]:
    """Return the document: each round's figures, and what they come to."""
    with tempfile.TemporaryDirectory(prefix="offers_paired_") as name:
        folder = Path(name)
        bundle = folder / "bundle"
        output([after.program("python"), "-c", MAKE_BUNDLE, str(bundle)], SERVER_CORE, READY_SECONDS, folder)
        questions = write_questions(folder)
        for release in (before, after):  # the first start of a release on a machine compiles its ranking
            command = [release.program("python"), "-c", RANK_IN_PROCESS, str(bundle), "0"]
            output(command, SERVER_CORE, READY_SECONDS, folder)
        rounds = []
        for number in range(n_rounds):
            order = (before, after) if number % 2 == 0 else (after, before)
            rounds.append({release.name: measure(release, bundle, questions, number, only_steady) for release in order})
            print(f"round {number + 1} of {n_rounds}, {order[0].name} first", file=sys.stderr, flush=True)
    return {
        "measured": datetime.now(UTC).date().isoformat(),
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.machine()},
        "load_average": os.getloadavg()[0],
        "what": f"{n_rounds} rounds, order alternated; one worker on one core, the load on another; {N_ACCOUNTS} "
        f"accounts, {N_PRODUCTS} products; {CONNECTIONS} connections; {CLOSED_SECONDS:g} s each, at {RATE} a "
        f"second {only_steady or STEADY_SECONDS:g} s; SQLite with full synchronisation; in process: the median of one "
        "request; before and after: geometric means; ratio: geometric mean of the rounds' after/before with its "
        "interval of 95 % by Student's t on the logarithms",
        "before": before.revision,
        "after": after.revision,
        "measures": summary(rounds),
        "rounds": rounds,
    }


def main() -> None:
    """Compare, write the document, print the table; the exit code is 1 where a measure is beyond its bound."""
    parser = argparse.ArgumentParser(description="Compare two releases in paired rounds.")
    parser.add_argument("--before", type=Path, required=True, help="checkout with its environment in .venv")
    parser.add_argument("--after", type=Path, default=ROOT, help="the same, by default the one of this file")
    parser.add_argument("--rounds", type=int, default=10, help="at least 2")
    parser.add_argument("--steady", type=float, help="measure only the steady load, for so many seconds each time")
    parser.add_argument("--out", type=Path, default=PROOF, help="where the document goes")
    given = parser.parse_args()
    releases = Release("before", given.before.resolve()), Release("after", given.after.resolve())
    for release in releases:
        if not Path(release.program("offers")).exists():
            parser.error(f"--{release.name} {release.checkout}: no .venv/bin/offers; run `make setup` there")
    if given.rounds < 2:
        parser.error(f"--rounds {given.rounds}, must be 2 or more: one ratio has no interval")
    document = compare(*releases, given.rounds, given.steady)
    given.out.write_text(json.dumps(document, indent=1) + "\n")
    measures = document["measures"]
    assert isinstance(measures, dict)
    shown = table(measures)
    given.out.with_suffix(".md").write_text(shown)
    print(shown)
    sys.exit(not all(one["is_within_bound"] for one in measures.values()))


if __name__ == "__main__":
    main()
