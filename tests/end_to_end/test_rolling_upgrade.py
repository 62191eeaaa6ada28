"""Servers of the last release and of this one on one PostgreSQL store under load: upgraded one by one and taken back.

OFFERS_LAST_RELEASE names a checkout of the last release whose own environment stands in its `.venv`. What needs no such
checkout is shown by `tests/events/test_two_releases.py` (the store) and `tests/golden` (a bundle that the last release
reads, served by this one).
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import platform
import random
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, get_args

import httpx
import pytest

from recsys.bundle.load import load_bundle
from recsys.bundle.save import save_bundle
from recsys.contracts.events import EventQuery
from recsys.events.store import open_store

ROOT = Path(__file__).resolve().parents[2]
PROOF = ROOT / "docs" / "proof" / "rolling_upgrade.json"
BUNDLE = ROOT / "tests" / "golden" / "data" / "bundle-north.tar.xz"

N_CALLERS, PAUSE_SECONDS, PHASE_SECONDS = 8, 0.04, 4.0
"""At most 200 requests a second; how long each state of the installation is asked once its servers are ready."""
READY_SECONDS = 180.0
"""The first start of a release on a machine compiles its ranking."""
MOST_TRIES = 500

PLAN = """
id = "two-releases"
unit = "account"
primary = "revenue_per_account"
planned_start = 2025-01-01
planned_end = 2098-01-01
planned_size = 1000
arms = [
  { name = "engine", weight = 1, is_control = true },
  { name = "best sellers", weight = 1, policy = { kind = "popular" } },
]
"""

ReleaseName = Literal["last", "new"]
RELEASES: Final[tuple[ReleaseName, ...]] = get_args(ReleaseName)

READER = """
import hashlib, json, sys
from pathlib import Path
import recsys
from recsys.bundle.load import load_bundle
from recsys.contracts.events import EventQuery
from recsys.contracts.offers import OfferRequest
from recsys.events.reading import read_decisions
from recsys.events.store import open_store
from recsys.ranking.engine import OfferEngine

FIELDS = (
    *("rank", "product_id", "kind", "price", "currency", "probability", "probability_of", "expected_quantity"),
    *("expected_value", "score", "tier", "propensity", "from_product_id", "rule", "discount"),
)
store = open_store(sys.argv[1])
decisions = {}
for decision in read_decisions(store):
    offers = [[getattr(offer, name) for name in FIELDS] for offer in decision.offers]
    assigned = [(one.experiment_id, one.arm) for one in getattr(decision, "assignments", ())]
    if hasattr(decision, "arm"):  # a decision of the last release has one at most
        assigned = [(decision.experiment_id, decision.arm)] if decision.experiment_id else []
    facts = (decision.request.account_id, decision.model_version, assigned, offers)
    assert decision.decision_id not in decisions
    decisions[decision.decision_id] = hashlib.sha256(repr(facts).encode()).hexdigest()
offers = store.read(EventQuery("decision_offers", columns=("decision_id",))).num_rows
outcomes = store.read(EventQuery("outcomes", columns=("outcome_id",)))["outcome_id"].to_pylist()
engine = OfferEngine(load_bundle(Path(sys.argv[2])).model)
n_offers = len(engine.recommend(OfferRequest(limit=5)).offers)
found = {"decisions": decisions, "n_offers": offers, "outcomes": outcomes, "offers_of_bundle": n_offers}
print(json.dumps(found | {"code": str(Path(recsys.__file__).parent)}))
"""
"""Read by each release with its own code: all decisions, the view of their offers, outcomes, and a bundle."""


class Release(NamedTuple):
    """A release that can be run.

    Attributes:
        name: which of the two.
        programs: folder of its `offers` and `python`.
    """

    name: ReleaseName
    programs: Path

    def run(self, program: str, *arguments: str | Path) -> str:
        """Run a program of its environment; it must succeed."""
        command = [str(self.programs / program), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, f"{self.name}: {command[1:3]}: {done.stderr}"
        return done.stdout


class Server:
    """A running `offers serve` of a release."""

    def __init__(self, release: Release, options: list[str], folder: Path, number: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.release = release.name
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / f"server-{number}-{release.name}.log"
        command = [str(release.programs / "offers"), "serve", "--port", str(port), *options]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stderr=log, stdout=log, cwd=folder)

    async def ready(self) -> None:
        """Return once it answers."""
        end = time.monotonic() + READY_SECONDS
        async with httpx.AsyncClient() as client:
            while True:
                assert self.process.poll() is None, self.log.read_text()
                assert time.monotonic() < end, self.log.read_text()
                try:
                    if (await client.get(f"{self.url}/readyz")).status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.1)

    async def stop(self) -> None:
        """Ask it to end, as a service manager does, and wait until it has."""
        self.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(self.process.wait, 60)
        assert self.process.returncode == 0, self.log.read_text()


@dataclass
class Told:
    """What the callers were told.

    Attributes:
        statuses: how often each status was answered, by release.
        answered: ids of decisions and who made them.
        doubled: decisions whose id had been answered before.
        arms: each account's arms.
        outcome_ids: of the outcomes that were taken.
        outcomes: how many of them, by who decided and who took it.
        retries: connections that failed and were tried at another server, by the state of the installation.
        unknown: decisions that were answered, and that a server did not know when it took an outcome.
        refused: answers other than 2xx.
    """

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    answered: dict[str, ReleaseName] = field(default_factory=dict)
    doubled: int = 0
    arms: dict[str, set[str]] = field(default_factory=dict)
    outcome_ids: list[str] = field(default_factory=list)
    outcomes: Counter[tuple[ReleaseName, ReleaseName]] = field(default_factory=Counter)
    retries: Counter[str] = field(default_factory=Counter)
    unknown: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


class Callers:
    """A shop's servers: each asks the next server in turn, and another one where the connection fails; no more."""

    def __init__(self, servers: list[Server], key: str, accounts: list[str], products: list[str]) -> None:
        self.servers = servers
        self.told = Told()
        self.phase = ""
        self._turn = itertools.count()
        self._client = httpx.AsyncClient(headers={"authorization": f"Bearer {key}"}, timeout=60)
        self._accounts, self._products = accounts, products
        self._rng = random.Random(5)
        self._recent: list[tuple[str, ReleaseName, str]] = []
        self._stop = asyncio.Event()

    @asynccontextmanager
    async def calling(self) -> AsyncIterator[None]:
        """Call all the while; whatever a caller trips over is raised at the end."""
        calls = [asyncio.create_task(self._call()) for _ in range(N_CALLERS)]
        try:
            yield
        finally:
            self._stop.set()
            await asyncio.gather(*calls)
            await self._client.aclose()

    async def ask(self, method: str, path: str, body: Any = None, *, of: Server | None = None) -> tuple[Any, Server]:
        """Return an answer and who gave it."""
        for _ in range(MOST_TRIES):
            server = of or self.servers[next(self._turn) % len(self.servers)]
            try:
                response = await self._client.request(method, f"{server.url}{path}", json=body)
            except httpx.TimeoutException:
                raise
            except httpx.TransportError:
                self.told.retries[self.phase] += 1
                await asyncio.sleep(0.01)
                continue
            self.told.statuses[server.release, response.status_code] += 1
            if not response.is_success:
                self.told.refused.append(
                    f"{self.phase}: {server.release} {path} {response.status_code} {response.text}"
                )
            return response.json(), server
        raise AssertionError(f"{self.phase}: no server took {path} in {MOST_TRIES} tries")

    async def _call(self) -> None:
        while not self._stop.is_set():
            kind = self._rng.random()
            if kind < 0.1 and self._recent:
                await self._report()
            else:
                await self._offers(by_path=kind > 0.7)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _offers(self, *, by_path: bool) -> None:
        account = self._rng.choice(self._accounts)
        if by_path:
            answer, server = await self.ask("GET", f"/v1/accounts/{account}/offers?limit=4")
        else:
            cart = [{"product_id": self._rng.choice(self._products)} for _ in range(2)]
            answer, server = await self.ask("POST", "/v1/offers", {"account_id": account, "cart": cart, "limit": 4})
        decision_id = answer.get("decision_id")
        if decision_id is None:  # refused, which is told already
            return
        assert answer["logged"] is True
        self.told.doubled += decision_id in self.told.answered
        self.told.answered[decision_id] = server.release
        self.told.arms.setdefault(account, set()).add(answer["arm"])
        if answer["offers"]:
            self._recent = [*self._recent[-200:], (decision_id, server.release, answer["offers"][0]["product_id"])]

    async def _report(self) -> None:
        decision_id, decided_by, product_id = self._rng.choice(self._recent)
        outcome_id = f"x{len(self.told.outcome_ids)}-{self._rng.getrandbits(64):x}"
        outcome = {"outcome_id": outcome_id, "decision_id": decision_id, "product_id": product_id, "kind": "clicked"}
        answer, server = await self.ask("POST", "/v1/outcomes", {"outcomes": [outcome]})
        if answer.get("unknown_decisions"):
            self.told.unknown.append(f"{self.phase}: {decision_id} of {decided_by} is unknown to {server.release}")
        self.told.outcome_ids.append(outcome_id)
        self.told.outcomes[decided_by, server.release] += 1


@pytest.fixture(scope="module")
def releases() -> tuple[Release, Release]:
    folder = os.environ.get("OFFERS_LAST_RELEASE")
    if not folder:
        pytest.skip("OFFERS_LAST_RELEASE is not set; name a checkout of the last release, set up by its `make setup`")
    programs = Path(folder) / ".venv" / "bin"
    assert (programs / "offers").exists(), f"{programs} has no offers; run `make setup` in OFFERS_LAST_RELEASE"
    return Release("last", programs), Release("new", Path(sys.executable).parent)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One in the last release's format, and the same as this one writes it."""
    folder = tmp_path_factory.mktemp("bundles")
    with tarfile.open(BUNDLE) as packed:
        packed.extractall(folder / "last", filter="data")
    save_bundle(folder / "new", load_bundle(folder / "last").model)
    return folder / "last", folder / "new"


@pytest.fixture
def started() -> Iterator[list[Server]]:
    servers: list[Server] = []
    yield servers
    for server in servers:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait(30)


def read_by(release: Release, store: str, bundle: Path) -> dict[str, Any]:
    """Return what a release reads with its own code: `-P` keeps that of the working folder out."""
    found: dict[str, Any] = json.loads(release.run("python", "-P", "-c", READER, store, bundle))
    return found


def make_key(release: Release, file: Path) -> str:
    scopes = [f"--scope={scope}" for scope in ("offers", "outcomes", "sales", "admin")]
    return release.run("offers", "key", "create", "--name", "shop", *scopes, "--keys", file).split()[0]


async def in_time(holds: Callable[[], Any], what: str) -> None:
    end = time.monotonic() + 60
    while not await holds():
        assert time.monotonic() < end, what
        await asyncio.sleep(0.1)


async def hears(callers: Callers, one: Server, other: Server, account: str) -> None:
    """What `one` takes is in force in `other` (a refusal, an order, no stock), which also explains its decisions."""

    async def products() -> list[str]:
        answer, _ = await callers.ask("POST", "/v1/offers", {"account_id": account, "limit": 5}, of=other)
        callers.told.answered[answer["decision_id"]] = other.release
        return [offer["product_id"] for offer in answer["offers"]]

    body = {"account_id": account, "limit": 5}
    answer, _ = await callers.ask("POST", "/v1/offers", body, of=one)
    callers.told.answered[answer["decision_id"]] = one.release
    first, second, third, *others = [offer["product_id"] for offer in answer["offers"]]
    await callers.ask("POST", f"/v1/decisions/{answer['decision_id']}/why-not", {"product_id": others[0]}, of=other)
    name = f"{one.release}-{account}"
    outcome = {"outcome_id": f"d-{name}", "decision_id": answer["decision_id"], "product_id": first, "kind": "declined"}
    await callers.ask("POST", "/v1/outcomes", {"outcomes": [outcome]}, of=one)
    order = {"order_id": f"o-{name}", "account_id": account, "lines": [{"product_id": second}]}
    await callers.ask("POST", "/v1/orders", {"orders": [order]}, of=one)
    await callers.ask("POST", "/v1/products", {"products": [{"product_id": third, "stock": 0}]}, of=one)

    async def gone() -> bool:
        return not {first, second, third} & set(await products())

    await in_time(gone, f"{other.release} does not know what {one.release} took")
    await callers.ask("POST", "/v1/products", {"products": [{"product_id": third, "stock": 9}]}, of=one)

    async def back() -> bool:
        return third in await products()

    await in_time(back, f"{other.release} does not know that {third} is in stock again")


async def upgrade_and_take_back(
    callers: Callers, start: Callable[[Release], Server], last: Release, new: Release, accounts: list[str]
) -> None:
    """Each state of the installation is asked for a while; in the mixed ones each server hears of the other."""
    steps = [("last, last", 0, last), ("new, last", 0, new), ("new, new", 1, new)]
    steps += [("last, new", 0, last), ("last, last again", 1, last)]
    spare = iter(accounts)
    for number, (phase, place, release) in enumerate(steps):
        callers.phase = f"to {phase}"
        if number:
            await callers.servers[place].stop()
            replacement = start(release)
            await replacement.ready()
            callers.servers[place] = replacement
        callers.phase = phase
        await asyncio.sleep(PHASE_SECONDS)
        first, second = callers.servers
        if first.release != second.release:
            await hears(callers, first, second, next(spare))
            await hears(callers, second, first, next(spare))


@pytest.mark.proof
def test_an_installation_is_upgraded_and_taken_back_under_load(
    releases: tuple[Release, Release],
    bundles: tuple[Path, Path],
    postgresql_url: str,
    tmp_path: Path,
    started: list[Server],
) -> None:
    last, new = releases
    bundle, bundle_of_new = bundles
    keys = tmp_path / "keys.json"
    key, other_key = make_key(last, keys), make_key(last, keys)
    new.run("offers", "key", "revoke", other_key.split("_")[1], "--keys", keys)  # which writes the file anew
    plan = tmp_path / "plan.toml"
    plan.write_text(PLAN)
    last.run("offers", "experiment", "start", plan, "--store", postgresql_url)
    options = ["--model", str(bundle), "--store", postgresql_url, "--keys", str(keys)]

    def start(release: Release) -> Server:
        started.append(Server(release, options, tmp_path, len(started)))
        return started[-1]

    model = load_bundle(bundle).model
    accounts, products = list(model.accounts.ids), list(model.products.ids)

    async def everything() -> Told:
        servers = [start(last), start(last)]
        for server in servers:
            await server.ready()
        callers = Callers(servers, key, accounts[8:], products)
        async with callers.calling():
            await upgrade_and_take_back(callers, start, last, new, accounts)
        for server in servers:
            await server.stop()
        return callers.told

    begun = time.monotonic()
    told = asyncio.run(everything())
    seconds = time.monotonic() - begun
    read = {one.name: read_by(one, postgresql_url, bundle_of_new) for one in releases}
    store = open_store(postgresql_url, create=False)
    kept = Counter(store.read(EventQuery("decisions", columns=("decision_id",)))["decision_id"].to_pylist())
    store.close()
    write_proof(told, kept, read, seconds)
    assert read["last"]["code"] != read["new"]["code"]
    assert told.refused == []
    assert all(status == 200 for _, status in told.statuses)
    assert told.answered.keys() - kept.keys() == set()
    assert told.unknown == []
    assert max(kept.values()) == 1
    assert told.doubled == 0
    assert read["last"]["decisions"].keys() == kept.keys()
    assert read["last"]["decisions"] == read["new"]["decisions"]
    assert read["last"]["n_offers"] == read["new"]["n_offers"] > 0
    assert set(told.outcome_ids) <= set(read["last"]["outcomes"])
    assert set(read["last"]["outcomes"]) == set(read["new"]["outcomes"])
    assert min(told.outcomes[one, other] for one in RELEASES for other in RELEASES) > 0
    assert max(map(len, told.arms.values())) == 1
    assert read["last"]["offers_of_bundle"] == read["new"]["offers_of_bundle"] == 5


def write_proof(told: Told, kept: Counter[str], read: Mapping[Any, Any], seconds: float) -> None:
    by_release: dict[str, dict[str, int]] = {name: {} for name in RELEASES}
    for (name, status), n in sorted(told.statuses.items()):
        by_release[name][str(status)] = n
    last, new = read["last"]["decisions"], read["new"]["decisions"]
    result = {
        "measured": datetime.now(UTC).date().isoformat(),
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.machine()},
        "what": "two servers of the last release on one PostgreSQL store, replaced one by one by this one's and taken "
        f"back, under {N_CALLERS} callers by turns, who try another server where a connection fails; a running "
        "experiment, keys of the last release, its bundle",
        "seconds": round(seconds),
        "answers_by_release_and_status": by_release,
        "decisions_answered": Counter(told.answered.values()),
        "decisions_kept": kept.total(),
        "answered_but_not_kept": len(told.answered.keys() - kept.keys()),
        "answered_twice": told.doubled,
        "read_alike_by_last_and_new": sum(one in last and last[one] == new.get(one) for one in kept),
        "outcomes_by_decided_and_taken": {f"{one} to {other}": n for (one, other), n in sorted(told.outcomes.items())},
        "outcomes_taken_but_not_kept": len(set(told.outcome_ids) - set(read["last"]["outcomes"])),
        "accounts_in_two_arms": sum(len(arms) > 1 for arms in told.arms.values()),
        "connections_tried_again": dict(told.retries),
    }
    PROOF.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
