"""Starting and stopping the server's processes."""

from __future__ import annotations

import gc
import ipaddress
import logging
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, NoReturn

import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess

from recsys.bundle.manifest import model_version
from recsys.bundle.resolve import ResolvedModel
from recsys.errors import ServerError
from recsys.events import open_store
from serving import logs
from serving.app import create_app
from serving.loading import load_model, sources_of
from serving.models import LoadedModel, WatchedModels
from serving.settings import Settings
from serving.trial import BundleTrial

GRACE_SECONDS: Final = 10
"""How long a stopping server finishes what it accepted."""
KEEP_ALIVE_SECONDS: Final = 75
"""An idle connection stays open as long: callers keep theirs for a minute, and must not write into one that closes."""
_GARBAGE: Final = (50_000, 20, 50)
"""Objects that are made before the collector looks for cycles: with 64 requests under way Python's 700 are made every
few requests, and looking took some tenth of the time. Answers hold no cycles; what is not looked for is some MB."""

_log = logging.getLogger("serving")


@dataclass(frozen=True, slots=True)
class Plan:
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


def listen(host: str, port: int, *, keys: bool) -> socket.socket:
    """Return a socket bound to `host` and `port`; port 0 takes a free one.

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
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((address, port))
        listening.listen(2_048)
    except OSError as error:
        listening.close()
        raise ServerError(f"port {port} on {host}: {error.strerror}; name another with --port") from None
    listening.set_inheritable(True)
    return listening


def run(plan: Plan, listening: socket.socket) -> None:
    """Serve until a signal; what was accepted is finished first.

    Raises:
        BundleError: the bundle can't be read.
        StoreError: the event store does not answer.
        SystemExit: 0 after SIGTERM or SIGINT.
    """
    model = _load(plan, tried=False)
    store = open_store(plan.store_url)
    logs.configure()
    gc.set_threshold(*_GARBAGE)
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    try:
        announce = partial(_announce, _url(listening), model, store.name)
        if plan.workers > 1:
            # The parent has verified the bundle and brought the store forward; each worker opens its own.
            _Workers(_config(partial(build_worker, plan), plan.workers), [listening], announce).run()
        else:
            app = create_app(plan.settings, bundles=_watched(plan, model), store=store, clock=_now)
            _Server(_config(lambda: app, 1), announce).run([listening])
    finally:
        store.close()


def build_worker(plan: Plan) -> FastAPI:
    """Return the application of one worker process, with the model that the parent has tried.

    A worker that takes the place of one that died may find other content by now: it tries that itself.
    """
    logs.configure()
    gc.set_threshold(*_GARBAGE)
    known = model_version(plan.found.path) == plan.found.version
    model = _load(plan, tried=known)
    store = open_store(plan.store_url, create=False)  # else a worker would begin anew where the store has gone
    return create_app(plan.settings, bundles=_watched(plan, model), store=store, clock=_now)


def _load(plan: Plan, *, tried: bool) -> LoadedModel:
    remembered, trial = plan.settings.remembered_slates, BundleTrial(plan.settings.trial_seconds)
    folder, now = plan.found.path, _now()
    if tried:
        return load_model(folder, source=plan.source, now=now, remembered=remembered, verify=False)
    return load_model(folder, source=plan.source, now=now, remembered=remembered, trial=trial)


def _watched(plan: Plan, model: LoadedModel) -> WatchedModels:
    sources = sources_of(plan.source, plan.settings, plan.tracking_uri, _now)
    return WatchedModels(sources, model, _now, timedelta(seconds=plan.settings.model_retry_seconds))


class _Server(uvicorn.Server):
    """Says when it is ready."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        if self.started:
            self._announce()


class _Workers(Multiprocess):
    """Says when its processes are ready."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket], announce: Callable[[], None]) -> None:
        super().__init__(config, sockets)
        self._announce = announce

    def init_processes(self) -> None:
        """Start the processes, wait for them, then say so."""
        super().init_processes()
        if all(process.wait_until_ready(60, self.should_exit) for process in self.processes):
            self._announce()


def _config(build: Callable[[], FastAPI], workers: int) -> uvicorn.Config:
    return uvicorn.Config(
        build,
        factory=True,
        workers=workers,
        lifespan="on",
        ws="none",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        log_config=None,
        access_log=False,  # paths hold account ids
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


def _announce(url: str, model: LoadedModel, store: str) -> None:
    fields = {"url": url, "docs": f"{url}/docs", "model_version": model.version, "model": model.source, "store": store}
    _log.info("serving", extra={logs.FIELDS: fields})


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _leave(_number: int, _frame: object) -> NoReturn:
    sys.exit(0)


def _now() -> datetime:
    return datetime.now(UTC)
