"""`offers serve` as a process: it answers, survives what it must, and says in a sentence what is wrong."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from recsys.cli import main
from recsys.client import OfferClient
from recsys.contracts.events import EventQuery
from recsys.contracts.offers import CartLine, OfferRequest
from recsys.events.store import open_store
from serving.http.access import SCOPES

OFFERS = Path(sys.executable).parent / "offers"


Serve = Callable[..., Any]
Refusal = Callable[..., str]


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The sentence with which `offers serve` refuses to start; it refuses before it touches anything of the process."""
    monkeypatch.chdir(tmp_path)

    def refused(*options: str) -> str:
        with pytest.raises(SystemExit) as caught:
            main(["serve", "--port", "0", *options])
        assert caught.value.code == 1
        (sentence,) = capsys.readouterr().err.strip().splitlines()
        assert sentence.startswith("Error: ")
        return sentence

    return refused


def test_it_says_where_it_serves_what_by_its_settings_and_stops_in_peace(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "serving.toml").write_text('objective = "revenue"\n[writer]\nmax_queue = 10\n')
    served = serve(f"sqlite:///{tmp_path}/e.db", "--config", str(tmp_path / "serving.toml"))
    with OfferClient(served.url) as client:
        version = client.wait_until_ready(10)
        assert served.started["model_version"] == version == client.models()[0].version
        assert served.started["docs"] == f"{served.url}/docs"
        known = client.offers(OfferRequest(account_id="A1", limit=3))
        assert (known.tier, known.returned, known.logged) == ("account", 3, True)
        in_cart = client.offers(OfferRequest(account_id="A1", cart=(CartLine("P06"), CartLine("none")), limit=3))
        assert in_cart.unknown_products == ("none",)
        assert [offer.product_id for offer in in_cart.offers] != [offer.product_id for offer in known.offers]
        assert "P07" in {offer.product_id for offer in in_cart.offers}
        assert client.offers(OfferRequest(account_id="nobody")).tier == "popular"
        assert httpx.post(f"{served.url}/v1/offers", json={}).json()["objective"] == "revenue"
    assert served.stop() == (0, "")


def test_a_stopping_server_finishes_what_it_accepted_and_answers_the_same_after_a_restart(
    serve: Serve, tmp_path: Path
) -> None:
    url, bodies = f"sqlite:///{tmp_path}/e.db", []
    for number in (signal.SIGINT, signal.SIGTERM):
        served = serve(url)
        body = httpx.post(f"{served.url}/v1/offers", json={"account_id": "A7", "cart": [{"product_id": "P01"}]}).json()
        bodies.append(body | {"decision_id": ""})
        answered, stop = _load(served.url, n_threads=4)
        code, _ = served.stop(number)
        stop.set()
        ids = answered()
        assert code == 0
        assert ids
        assert ids <= _kept(url)
    assert bodies[0] == bodies[1]


def test_several_workers_share_the_port_and_the_store(serve: Serve, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/e.db"
    served = serve(url, "--workers", "2")
    answered, stop = _load(served.url, n_threads=8)
    stop.set()
    ids = answered()
    code, rest = served.stop()
    assert (code, rest) == (0, "")
    assert len(ids) > 20
    assert ids <= _kept(url)


def test_a_port_in_use_is_said_at_once(bundle_folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [str(OFFERS), "serve", "--model", str(bundle_folder), "--port", str(port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr == f"Error: port {port} on 127.0.0.1: Address already in use; name another with --port\n"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_it_does_not_bind_beyond_loopback(bundle_folder: Path, host: str, refusal: Refusal) -> None:
    assert "must be loopback" in refusal("--model", str(bundle_folder), "--host", host)


def test_a_flipped_byte_never_serves(bundle_folder: Path, tmp_path: Path, refusal: Refusal) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(bundle_folder, broken)
    victim = broken / "tables" / "candidates.arrow"
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    assert "SHA-256" in refusal("--model", str(broken), "--store", f"sqlite:///{tmp_path}/e.db")


def test_models_that_are_not_there(tmp_path: Path, refusal: Refusal) -> None:
    registry = f"sqlite:///{tmp_path}/none.db"
    assert "no such folder" in refusal("--model", str(tmp_path / "nothing"))
    assert "no registry at" in refusal("--model", "models:/offers@champion", "--tracking-uri", registry)
    assert "must read models:/" in refusal("--model", "models:offers")
    assert "no manifest.json" in refusal("--model", str(tmp_path))


def test_a_store_that_can_not_be(bundle_folder: Path, refusal: Refusal) -> None:
    model = ("--model", str(bundle_folder))
    assert "must be sqlite:///FILE" in refusal(*model, "--store", "offers.db")
    nobody = "postgresql://u:hush@127.0.0.1:1/x"
    for refused in (refusal(*model, "--store", nobody), refusal("--model", "models:/o/1", "--tracking-uri", nobody)):
        assert "Connection refused; create or start that database, or name another " in refused
        assert "hush" not in refused


def test_a_database_that_is_not_there_is_named(bundle_folder: Path, postgresql_server: str, refusal: Refusal) -> None:
    nowhere = sa.make_url(postgresql_server).set(database="nowhere").render_as_string(hide_password=False)
    for options in (
        ("--model", str(bundle_folder), "--store", nowhere),
        ("--model", "models:/offers@champion", "--tracking-uri", nowhere),
    ):
        refused = refusal(*options)
        assert 'database "nowhere" does not exist; create or start that database, or name another ' in refused


def test_settings_that_can_not_be(bundle_folder: Path, tmp_path: Path, refusal: Refusal) -> None:
    model = ("--model", str(bundle_folder))
    (tmp_path / "serving.toml").write_text('objectives = "revenue"\n')
    assert "objectives" in refusal(*model, "--config", str(tmp_path / "serving.toml"))


def test_no_account_stands_in_the_log(serve: Serve, tmp_path: Path) -> None:
    """Every route, with what it takes, what it refuses and what can't be read, and a database that fails meanwhile."""
    served = serve(f"sqlite:///{tmp_path}/e.db")
    bodies: dict[str, Any] = {
        "/v1/offers": {"account_id": PRIVATE, "visitor_id": PRIVATE, "cart": [{"product_id": PRIVATE}]},
        "/v1/offers:batch": {"requests": [{"account_id": PRIVATE}, {"account_id": PRIVATE, "objective": "margin"}]},
        "/v1/outcomes": {"outcomes": [_outcome("x1"), _outcome(PRIVATE)]},
        "/v1/orders": {"orders": [{"order_id": PRIVATE, "account_id": PRIVATE, "lines": [{"product_id": PRIVATE}]}]},
        "/v1/products": {"products": [{"product_id": PRIVATE, "price": 1}]},
        "/v1/accounts": {"accounts": [{"account_id": PRIVATE, "segment": PRIVATE}]},
        "/v1/visitors/{visitor_id}:link": {"account_id": PRIVATE},
        "/v1/decisions/{decision_id}/why-not": {"product_id": PRIVATE},
    }
    statuses: set[int] = set()
    with httpx.Client(base_url=served.url, timeout=30) as client, sqlite3.connect(tmp_path / "e.db") as database:
        for turn in ("well", "broken"):
            for path, methods in SCOPES.items():
                for method in methods:
                    where = re.sub(r"\{\w+\}", PRIVATE, path)
                    statuses.add(client.request(method, where, json=bodies.get(path)).status_code)
                    statuses.add(client.request(method, where, json={PRIVATE: PRIVATE}).status_code)
                    wrong: dict[str, Any] = {
                        "content": f'"{PRIVATE}'.encode(),
                        "headers": {"Content-Type": "application/json"},
                    }
                    statuses.add(client.request(method, where, **wrong).status_code)
                    statuses.add(client.request(method, f"{where}?limit={PRIVATE}", **wrong).status_code)
            if turn == "well":
                database.execute("DROP VIEW decision_offers")
                database.execute("DROP TABLE outcomes")
                database.execute("ALTER TABLE decisions RENAME COLUMN tier TO gone")
                database.commit()
    assert {200, 400, 404, 422, 503} <= statuses
    written = served.stop()[1]
    assert "event store" in written
    assert PRIVATE not in written


PRIVATE = "A-private"


def _outcome(outcome_id: str) -> dict[str, str]:
    return {
        "outcome_id": outcome_id,
        "decision_id": PRIVATE,
        "kind": "declined",
        "reason": PRIVATE,
        "actor_id": PRIVATE,
    }


def _load(url: str, *, n_threads: int) -> tuple[Callable[[], set[str]], threading.Event]:
    """Ask from several threads until stopped; return once 40 answers are in."""
    ids: list[str] = []
    stop, enough = threading.Event(), threading.Event()

    def ask(number: int) -> None:
        body: dict[str, Any] = {"account_id": f"A{number}", "cart": [{"product_id": "P01"}]}
        with httpx.Client(base_url=url) as client:
            while not stop.is_set():
                try:
                    answer = client.post("/v1/offers", json=body)
                except httpx.TransportError:
                    return
                if answer.status_code == 200:
                    ids.append(answer.json()["decision_id"])
                if len(ids) >= 40:
                    enough.set()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(n_threads)]
    for thread in threads:
        thread.start()
    assert enough.wait(30)

    def answered() -> set[str]:
        for thread in threads:
            thread.join(30)
        return set(ids)

    return answered, stop


def _kept(url: str) -> set[str]:
    store = open_store(url)
    try:
        return set(store.read(EventQuery("decisions"))["decision_id"].to_pylist())
    finally:
        store.close()


def test_without_a_model_it_looks_for_the_champion(refusal: Refusal) -> None:
    assert "models:/offers@champion: no registry at sqlite:///var/mlflow.db" in refusal()
