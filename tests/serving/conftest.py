"""A real server on a free port of loopback, in a thread, around a fake model and a store in memory."""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest
import uvloop
from fastapi import FastAPI

from recsys.bundle.save import save_bundle
from recsys.contracts import columns as c
from recsys.data.history import History
from recsys.events.memory import MemoryStore
from recsys.fitting.assembly import LearnedParts, OfferModelConfig, build_offer_model
from recsys.models.candidates import Candidates
from serving.app import create_app
from serving.fakes import fake_model
from serving.models.by_alias import FixedModel
from serving.processes.http_server import serving
from serving.processes.server import reserve
from serving.settings import ConnectionLimits, Settings

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
OFFERS = Path(sys.executable).parent / "offers"

NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""A client of plain HTTP loads those of all authorities too, which takes longer than most tests."""

Running = Callable[[FastAPI], AbstractContextManager[httpx.Client]]


@contextmanager
def _running(app: FastAPI) -> Iterator[httpx.Client]:
    """The server of `offers serve` in a thread of this process."""
    with reserve("127.0.0.1", 0, keys=False) as reserved:
        address = reserved.getsockname()
        started, stop = threading.Event(), threading.Event()

        async def serve() -> None:
            async with serving(app, address, ConnectionLimits()):
                started.set()
                await asyncio.to_thread(stop.wait)

        with ThreadPoolExecutor(1) as pool:
            ended = pool.submit(uvloop.run, serve())
            ended.add_done_callback(lambda _: started.set())
            started.wait()
            try:
                if not ended.done():
                    url = f"http://127.0.0.1:{address[1]}"
                    with httpx.Client(base_url=url, timeout=20, verify=NO_CERTIFICATES) as client:
                        yield client
            finally:
                stop.set()
                ended.result(20)


@pytest.fixture
def running() -> Running:
    """Starts an application and gives a client of it."""
    return _running


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def app(store: MemoryStore) -> FastAPI:
    settings = Settings(returned_is_presented=frozenset({"newsletter"}))
    return create_app(settings, bundles=FixedModel(fake_model()), store=store, clock=lambda: NOW)


@pytest.fixture
def api(app: FastAPI) -> Iterator[httpx.Client]:
    with _running(app) as client:
        yield client


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real bundle: 120 accounts, 40 products, each product bought with its neighbour."""
    return _bundle(tmp_path_factory.mktemp("bundle") / "offers", seed=7)


@pytest.fixture(scope="session")
def retrained_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another one of the same accounts and products."""
    return _bundle(tmp_path_factory.mktemp("retrained") / "offers", seed=8)


def _bundle(folder: Path, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 20, 900) * 2
    lines = pd.DataFrame(
        {
            c.ORDER_ID: np.repeat([f"O{i:04}" for i in range(900)], 2),
            c.ACCOUNT_ID: np.repeat([f"A{i}" for i in rng.integers(0, 120, 900)], 2),
            c.PRODUCT_ID: [f"P{i:02}" for i in np.stack([first, first + 1], axis=1).ravel()],
            c.ORDERED_AT: np.repeat(pd.date_range("2025-01-01", periods=900, freq="9h", tz="UTC"), 2),
            c.QUANTITY: 1.0,
            c.UNIT_PRICE: 10.0,
        }
    )
    history = History.from_frame(lines)
    product_ids = list(history.product_ids)
    rules = pd.DataFrame(
        [
            {
                c.ANTECEDENT_ID: f"P{i:02}",
                c.CONSEQUENT_ID: f"P{i ^ 1:02}",
                c.N_BOTH: 45,
                c.N_ANTECEDENT: 45,
                c.CONFIDENCE: 0.9,
                c.RELATION: "complement",
            }
            for i in range(40)
        ]
    )
    n_accounts, per_account = len(history.account_ids), 15
    scores = np.sort(rng.uniform(0.01, 0.3, (n_accounts, per_account)))[:, ::-1]
    candidates = Candidates(
        account=np.repeat(np.arange(n_accounts, dtype=np.int32), per_account),
        product=np.concatenate([rng.permutation(40)[:per_account] for _ in range(n_accounts)]).astype(np.int32),
        from_product=np.full(n_accounts * per_account, -1, np.int32),
        score=scores.ravel().astype(np.float32),
        probability=scores.ravel().astype(np.float32),
        expected_quantity=np.ones(n_accounts * per_account, np.float32),
    )
    model = build_offer_model(
        history,
        pd.DataFrame({c.PRODUCT_ID: product_ids, c.NAME: [f"Product {item}" for item in product_ids], c.PRICE: 10.0}),
        pd.DataFrame({c.ACCOUNT_ID: list(history.account_ids)}),
        LearnedParts(cross=candidates, rules=rules),
        OfferModelConfig(),
        as_of=datetime(2026, 1, 1, tzinfo=UTC),
        horizon_days=30,
        currency="EUR",
    )
    save_bundle(folder, model)
    return folder


class Served:
    """A running `offers serve`; what it writes is read as it comes, as a service manager would.

    Args:
        wrapper: a command that ends in running the one that follows it.
    """

    def __init__(self, model: str, store: str, *options: str, where: Path, wrapper: Sequence[str] = ()) -> None:
        command = [*wrapper, str(OFFERS), "serve", "--model", model, "--port", "0", "--store", store, *options]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=where)
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.started = json.loads(line)
            if self.started["message"] == "serving":
                break
        else:
            raise AssertionError("the server ended before it said that it serves")
        self.url: str = self.started["url"]
        self._written: list[str] = []
        self._reading = threading.Thread(target=self._written.extend, args=(self.process.stderr,), daemon=True)
        self._reading.start()

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """End the process; return its exit code and what it still wrote."""
        self.process.send_signal(number)
        self.process.wait(30)
        self._reading.join(30)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return self.process.returncode, "".join(self._written)


@pytest.fixture
def serve(bundle_folder: Path, tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Starts `offers serve` in the test's folder, where it keeps its models."""
    started: list[Served] = []

    def start(store: str, *options: str, folder: Path | str = bundle_folder, wrapper: Sequence[str] = ()) -> Served:
        started.append(Served(str(folder), store, *options, where=tmp_path, wrapper=wrapper))
        return started[-1]

    yield start
    for served in started:
        if served.process.poll() is None:
            served.stop()  # which ends its workers too


@pytest.fixture(scope="module")
def serve_in(
    bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., AbstractContextManager[Served]]:
    """Starts `offers serve` for the length of a block."""

    @contextmanager
    def start(store: str, *options: str) -> Iterator[Served]:
        served = Served(str(bundle_folder), store, *options, where=tmp_path_factory.mktemp("served"))
        try:
            yield served
        finally:
            assert served.stop() == (0, "")

    return start
