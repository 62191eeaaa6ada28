"""Serving against its floor, in one run: requests a second and latency, one worker, the load on the other core."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from recsys.bundle.load import load_bundle
from recsys.contracts.events import EventQuery
from recsys.events import open_store

HERE = Path(__file__).parent
OFFERS = Path(sys.executable).parent / "offers"
PROOF = HERE.parent.parent / "docs" / "proof" / "serving.json"
SERVER_CORE, LOAD_CORE = 0, 1
SECONDS, ROUNDS = 4, 3
LEAST_SHARE_OF_FLOOR, MOST_TIMES_FLOOR_P99 = 0.8, 2.5


@pytest.fixture(scope="module")
def bundle(online_retail_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    command = [str(OFFERS), "train", "--preset", "online-retail-ii", "--orders", str(online_retail_path.resolve())]
    subprocess.run([*command, "--as-of", "2011-06-01", "--out", str(folder / "bundle")], cwd=folder, check=True)
    return folder / "bundle"


@contextmanager
def on_a_core(command: list[str], core: int, **pipes: Any) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(command, text=True, **pipes) as process:
        os.sched_setaffinity(process.pid, {core})
        try:
            yield process
        finally:
            process.terminate()


@contextmanager
def engine(bundle: Path, store: str) -> Iterator[str]:
    command = [str(OFFERS), "serve", "--model", str(bundle), "--port", "0", "--store", store]
    with on_a_core(command, SERVER_CORE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        yield json.loads(process.stderr.readline())["url"]


@contextmanager
def floor(answer: Path) -> Iterator[str]:
    command = [sys.executable, str(HERE / "floor_server.py"), str(answer)]
    with on_a_core(command, SERVER_CORE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()


def load(url: str, requests: Path, connections: int, rate: int = 0) -> dict[str, float]:
    target = urlsplit(url)
    program = [sys.executable, str(HERE / "load_generator.py"), str(target.hostname), str(target.port)]
    command = [*program, str(connections), str(SECONDS), str(rate), str(requests)]
    with on_a_core(command, LOAD_CORE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        measured: dict[str, float] = json.loads(process.stdout.read())
    assert measured.pop("failed") == 0
    return measured


def questions(bundle: Path, folder: Path) -> dict[str, Path]:
    """200 requests of each route: account, cart of three, ten offers, brief reasons; and an account's page."""
    model = load_bundle(bundle, verify=False).model
    accounts = [model.accounts.ids[i * len(model.accounts.ids) // 200] for i in range(200)]
    popular = [model.products.ids[row] for row in model.fallback.product[:60].tolist()]
    posts = [
        [
            "POST",
            "/v1/offers",
            {
                "account_id": account,
                "cart": [{"product_id": popular[(7 * i + j) % len(popular)], "quantity": 2} for j in range(3)],
                "limit": 10,
                "channel": "web",
                "surface": "cart",
            },
        ]
        for i, account in enumerate(accounts)
    ]
    gets = [["GET", f"/v1/accounts/{account}/offers?limit=10", None] for account in accounts]
    files = {"POST /v1/offers": folder / "posts.json", "GET /v1/accounts/{id}/offers": folder / "gets.json"}
    for file, content in zip(files.values(), (posts, gets), strict=True):
        file.write_text(json.dumps(content))
    return files


def median(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


@pytest.mark.proof
@pytest.mark.data
def test_a_durable_answer_costs_little_more_than_a_bare_one(bundle: Path, tmp_path: Path) -> None:
    if (os.cpu_count() or 1) < 2:
        pytest.skip("the load generator needs a core of its own")
    files = questions(bundle, tmp_path)
    store = f"sqlite:///{tmp_path}/events.db"
    results: list[dict[str, Any]] = []
    with engine(bundle, store) as url:
        for route, file in files.items():
            method, path, body = json.loads(file.read_text())[0]
            answer = tmp_path / "answer.json"
            answer.write_bytes(httpx.request(method, f"{url}{path}", json=body).content)
            with floor(answer) as floor_url:
                for connections in (16, 64):
                    pairs = [(load(floor_url, file, connections), load(url, file, connections)) for _ in range(ROUNDS)]
                    low, ours = median([pair[0] for pair in pairs]), median([pair[1] for pair in pairs])
                    share = round(ours["requests_per_second"] / low["requests_per_second"], 2)
                    times = round(ours["p99_ms"] / low["p99_ms"], 2)
                    results.append(
                        {"route": route, "connections": connections, "floor": low, "engine": ours}
                        | {"share_of_floor": share, "p99_times_floor": times}
                    )
                    print(results[-1])
        steady = {route: load(url, file, 16, rate=200) for route, file in files.items()}
    decisions = open_store(store).read(EventQuery("decisions", columns=("decision_id",)))["decision_id"].to_pylist()
    assert len(decisions) == len(set(decisions))
    PROOF.parent.mkdir(parents=True, exist_ok=True)
    PROOF.write_text(
        json.dumps(
            {
                "measured": datetime.now(UTC).date().isoformat(),
                "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.machine()},
                "what": "one worker on one core, the load on another; SQLite with full synchronisation; "
                f"median of {ROUNDS} rounds of {SECONDS} s, floor and engine by turns; bundle of Online Retail II",
                "closed_loop": results,
                "at_200_requests_per_second": steady,
                "decisions_kept": len(decisions),
            },
            indent=2,
        )
        + "\n"
    )
    for result in results:
        assert result["share_of_floor"] >= LEAST_SHARE_OF_FLOOR, result
        assert result["p99_times_floor"] <= MOST_TIMES_FLOOR_P99, result
