"""Starting and stopping the server's processes; a worker that dies is replaced."""

from __future__ import annotations

import gc
import ipaddress
import logging
import multiprocessing
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Final, NoReturn, TypeAlias

import uvloop
from fastapi import FastAPI

from recsys.bundle.resolve import ResolvedModel
from recsys.errors import ServerError
from recsys.events.store import open_store
from serving import logs
from serving.app import create_app
from serving.models.by_alias import LoadedModel, WatchedModels
from serving.models.finding import ModelFinder, finder_of, sources_of
from serving.models.loading import load_model
from serving.processes.http_server import GRACE_SECONDS, serve
from serving.settings import Settings

Work: TypeAlias = Callable[[Callable[[], None]], None]
"""What a worker does: call the function it is given once it accepts requests, and serve until SIGTERM. It travels to
another process."""

_PAUSE_SECONDS: Final = 0.5
"""Before a dead worker is replaced: one that dies at once must not keep the machine busy."""
_SPARE_SECONDS: Final = 5
"""Beyond the grace of a stopping worker, for its store and its interpreter to end."""


def run_workers(work: Work, n_workers: int, ready: Callable[[], None]) -> None:
    """Keep workers running until a signal's handler raises.

    Args:
        work: what each of them does.
        n_workers: how many.
        ready: called when all of them accept requests.

    Raises:
        ServerError: a worker ended before it was ready.
    """
    workers = [_Worker(work) for _ in range(n_workers)]
    try:
        for worker in workers:
            worker.wait_until_ready()
        ready()
        while True:
            ended = wait([worker.process.sentinel for worker in workers])
            time.sleep(_PAUSE_SECONDS)
            for i, worker in enumerate(workers):
                if worker.process.sentinel in ended:
                    _log.error("a worker ended with code %s; another takes its place", worker.process.exitcode)
                    workers[i] = _Worker(work)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # the first one is being obeyed
        for worker in workers:
            worker.process.terminate()
        until = time.monotonic() + GRACE_SECONDS + _SPARE_SECONDS
        for worker in workers:
            worker.process.join(max(0.0, until - time.monotonic()))
            worker.process.kill()  # does nothing to one that has ended


class _Worker:
    def __init__(self, work: Work) -> None:
        context = multiprocessing.get_context("spawn")
        self._ready, writer = context.Pipe(duplex=False)
        self.process = context.Process(target=_begin, args=(work, writer))
        self.process.start()
        writer.close()

    def wait_until_ready(self) -> None:
        try:
            self._ready.recv()
        except EOFError:
            self.process.join()
            message = f"a worker ended with code {self.process.exitcode} before it accepted requests; see its messages"
            raise ServerError(message) from None


def _begin(work: Work, ready: Connection) -> None:
    work(lambda: ready.send(None))


_GARBAGE: Final = (50_000, 20, 50)
"""Objects that are made before the collector looks for cycles: with 64 requests under way Python's 700 are made every
few requests, and looking took some tenth of the time. Answers hold no cycles; what is not looked for is some MB."""

_log = logging.getLogger("serving")


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """What is to be served; it travels to worker processes.

    Attributes:
        source: what the champion is asked for by: a folder, or a model of the registry.
        tracking_uri: of the registry.
        found: where `source` led when the server started; its digests were compared then.
        store_url: of the event store.
        workers: processes.
    """

    source: str
    tracking_uri: str
    found: ResolvedModel
    store_url: str
    settings: Settings
    workers: int


def reserve(host: str, port: int, *, keys: bool) -> socket.socket:
    """Return a socket that keeps `host` and `port` for the server's processes; each of them listens there by itself.

    Args:
        host: an address; beyond this machine's own loopback only with keys.
        port: 0 takes a free one.
        keys: whether callers need API keys.

    Raises:
        ServerError: the host is not loopback and there are no keys, or the port is taken or not allowed.
    """
    address = "127.0.0.1" if host == "localhost" else host
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        is_loopback = ipaddress.ip_address(address).is_loopback
    except ValueError:
        is_loopback = False
    if not (is_loopback or keys):
        raise ServerError(
            f"host == {host!r}, must be loopback (127.0.0.1, ::1) without API keys; "
            "`offers key create` makes one, --keys names their file"
        )
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:  # refuses where another server shares its port too
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
        reserved = socket.socket(family, socket.SOCK_STREAM)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind((address, port))
    except OSError as error:
        raise ServerError(f"port {port} on {host}: {error.strerror}; name another with --port") from None
    return reserved


def run(plan: ServerConfig, reserved: socket.socket) -> None:
    """Serve where a port is reserved until a signal; what was accepted is finished first.

    Raises:
        BundleError: the bundle can't be read.
        StoreError: the event store does not answer.
        SystemExit: 0 after SIGTERM or SIGINT.
    """
    finder = finder_of(plan.settings, plan.tracking_uri, _now)
    model = finder.load(plan.found, plan.source)
    store = open_store(plan.store_url)
    logs.configure()
    gc.set_threshold(*_GARBAGE)
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    try:
        address: tuple[str, int] = reserved.getsockname()[:2]
        announce = partial(_announce, _url(*address), model, store.name)
        if plan.workers > 1:
            # The parent has verified the bundle and brought the store forward; each worker opens its own.
            run_workers(partial(_work, plan, address), plan.workers, announce)
        else:
            app = create_app(plan.settings, bundles=_watched(plan, finder, model), store=store, clock=_now)
            uvloop.run(serve(app, address, plan.settings.limits, announce))
    finally:
        store.close()


def _work(plan: ServerConfig, address: tuple[str, int], ready: Callable[[], None]) -> None:
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    uvloop.run(serve(build_worker(plan), address, plan.settings.limits, ready))


def build_worker(plan: ServerConfig) -> FastAPI:
    """Return the application of one worker process, with the model that the parent has kept and tried."""
    logs.configure()
    gc.set_threshold(*_GARBAGE)
    finder = finder_of(plan.settings, plan.tracking_uri, _now)
    model = _verified(plan, finder)
    store = open_store(plan.store_url, create=False)  # else a worker would begin anew where the store has gone
    return create_app(plan.settings, bundles=_watched(plan, finder, model), store=store, clock=_now)


def _verified(plan: ServerConfig, finder: ModelFinder) -> LoadedModel:
    kept = finder.kept.find(plan.found.version)
    if kept is None:  # the parent could keep no copy, or it went since: what the folder holds may have changed
        found = finder.first(plan.source)
        return finder.load(found, plan.source)
    return load_model(kept.path, source=plan.source, now=_now(), verify=False)


def _watched(plan: ServerConfig, finder: ModelFinder, model: LoadedModel) -> WatchedModels:
    sources = sources_of(plan.source, plan.settings, finder)
    return WatchedModels(sources, model, _now, timedelta(seconds=plan.settings.model_retry_seconds))


def _announce(url: str, model: LoadedModel, store: str) -> None:
    fields = {"url": url, "docs": f"{url}/docs", "model_version": model.version, "model": model.source, "store": store}
    _log.info("serving", extra={logs.FIELDS: fields})


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _leave(_number: int, _frame: object) -> NoReturn:
    sys.exit(0)


def _now() -> datetime:
    return datetime.now(UTC)
