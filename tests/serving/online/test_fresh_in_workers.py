"""Two real worker processes under load: what one takes is in force in both soon after."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

OFFERS = Path(sys.executable).parent / "offers"
RULE = '[[rule]]\nname = "r"\naction = "block"\nproducts = ["{product}"]\nowner = "o"\nreason = "r"\n'


class Workers:
    """A running `offers serve --workers 2` and the load on it."""

    def __init__(self, folder: Path, store: str, rules: Path) -> None:
        self.store, self.rules = store, rules
        command = [str(OFFERS), "serve", "--model", str(folder), "--port", "0", "--workers", "2"]
        self._process = subprocess.Popen(
            [*command, "--store", store, "--rules", str(rules)], stderr=subprocess.PIPE, text=True, cwd=rules.parent
        )
        assert self._process.stderr is not None
        self.url = next(line["url"] for line in map(json.loads, self._process.stderr) if line["message"] == "serving")
        # A connection for each request, which any worker may take; the certificates are loaded once.
        self.client = httpx.Client(base_url=self.url, timeout=20, limits=httpx.Limits(max_keepalive_connections=0))
        self._stop = threading.Event()
        self._load = [threading.Thread(target=self._keep_asking) for _ in range(2)]
        for thread in self._load:
            thread.start()

    def ask(self, account_id: str | None = None, limit: int = 3, visitor_id: str | None = None) -> dict[str, Any]:
        asked = {"account_id": account_id, "visitor_id": visitor_id, "limit": limit}
        answered = self.client.post("/v1/offers", json=asked)
        assert answered.status_code == 200, answered.text
        return answered.json()

    def offered(self, account_id: str, n_times: int = 30) -> set[str]:
        return {offer["product_id"] for _ in range(n_times) for offer in self.ask(account_id)["offers"]}

    def workers(self) -> set[str]:
        pages = (self.client.get("/metrics").text for _ in range(60))
        return {line.split('pid="')[1].split('"')[0] for page in pages for line in page.splitlines() if "pid=" in line}

    def close(self) -> None:
        self._stop.set()
        for thread in self._load:
            thread.join(20)
        self.client.close()
        self._process.terminate()
        self._process.communicate(timeout=30)

    def _keep_asking(self) -> None:
        while not self._stop.is_set():
            self.ask("A7")
            time.sleep(0.01)


def until(holds: Callable[[], bool]) -> None:
    """A worker looks at the store several times a second, if the machine lets it."""
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture(scope="module")
def workers(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """For all tests here, each with accounts of its own."""
    folder = tmp_path_factory.mktemp("workers")
    (folder / "rules.toml").write_text("")
    served = Workers(bundle_folder, f"sqlite:///{folder}/e.db", folder / "rules.toml")
    yield served
    served.close()


def test_what_one_worker_takes_is_in_force_in_both_soon_after(workers: Workers) -> None:
    assert len(workers.workers()) == 2
    answer = workers.ask("A1", limit=4)
    first, second, third, fourth = [str(offer["product_id"]) for offer in answer["offers"]]
    product = {"product_id": first, "stock": 0}
    assert workers.client.post("/v1/products", json={"products": [product]}).status_code == 200
    order = {"order_id": "o1", "account_id": "A1", "lines": [{"product_id": second}]}
    assert workers.client.post("/v1/orders", json={"orders": [order]}).status_code == 200
    told = {"outcome_id": "x", "decision_id": answer["decision_id"], "kind": "declined", "product_id": fourth}
    assert workers.client.post("/v1/outcomes", json={"outcomes": [told]}).status_code == 200
    silent = {"accounts": [{"account_id": "A5", "do_not_offer": True}]}
    assert workers.client.post("/v1/accounts", json=silent).status_code == 200
    assert workers.client.post("/v1/visitors/v1:link", json={"account_id": "A5"}).status_code == 200
    new = workers.rules.with_name("new.toml")
    new.write_text(RULE.format(product=third))
    new.replace(workers.rules)
    until(lambda: not {first, second, third, fourth} & workers.offered("A1"))
    until(lambda: not workers.offered("A5"))
    until(lambda: not any(workers.ask(visitor_id="v1")["returned"] for _ in range(20)))


def test_an_erased_account_is_unknown_in_both_soon_after(workers: Workers) -> None:
    assert workers.ask("A2")["tier"] == "account"
    command = [str(OFFERS), "forget", "A2", "--store", workers.store]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "1 decisions" in told
    until(lambda: {workers.ask("A2")["tier"] for _ in range(30)} == {"popular"})
    assert workers.ask("A3")["tier"] == "account"
