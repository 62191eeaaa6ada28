"""Servers of the last release and of this one on one PostgreSQL store under load: upgraded one by one and taken back.

OFFERS_LAST_RELEASE names a checkout of the last release whose own environment stands in its `.venv`. What needs no such
checkout is shown by `tests/events/test_two_releases.py` (the store) and `tests/golden` (a bundle that the last release
reads, served by this one).
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from recsys.bundle.load import load_bundle
from recsys.bundle.save import save_bundle
from recsys.contracts.events import EventQuery
from recsys.events.store import open_store
from tests.support.two_releases import N_CALLERS, PHASE_SECONDS, RELEASES, Callers, Release, Server, Told

ROOT = Path(__file__).resolve().parents[2]
PROOF = ROOT / "docs" / "proof" / "rolling_upgrade.json"
BUNDLE = ROOT / "tests" / "golden" / "data" / "bundle-north.tar.xz"

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
