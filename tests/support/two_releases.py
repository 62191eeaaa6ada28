"""The servers of two releases that share a store, and the shop that asks them while one is upgraded."""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, get_args

import httpx

N_CALLERS, PAUSE_SECONDS, PHASE_SECONDS = 8, 0.04, 4.0
"""At most 200 requests a second; how long each state of the installation is asked once its servers are ready."""
READY_SECONDS = 180.0
"""The first start of a release on a machine compiles its ranking."""
MOST_TRIES = 500

ReleaseName = Literal["last", "new"]
RELEASES: Final[tuple[ReleaseName, ...]] = get_args(ReleaseName)


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
