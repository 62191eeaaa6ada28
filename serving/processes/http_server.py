"""The HTTP server: granian around the application, with bounds on what one client can hold.

It reads one request of a connection at a time and no more than a buffer ahead, so that neither a pipeline nor a head
without end fills the memory; a head has to be complete in time; beyond a number of connections the next one waits.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from typing import Final

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.embed import Server
from starlette.applications import Starlette
from starlette.types import ASGIApp

from recsys.errors import ServerError
from serving.logs import granian_config
from serving.settings import ConnectionLimits

GRACE_SECONDS: Final = 10
"""How long a stopping server finishes what it accepted."""
_BACKLOG: Final = 2_048

_log = logging.getLogger("serving")


@asynccontextmanager
async def serving(
    app: ASGIApp, address: tuple[str, int], limits: ConnectionLimits
) -> AsyncIterator[asyncio.Task[None]]:
    """Serve `app` on `address` within the block, which begins when connections are accepted.

    Behind the block new connections are refused, what was accepted is finished, and the application's lifespan ends.

    Args:
        app: the application; its lifespan surrounds the server's.
        address: host, as a number, and port. Several processes may serve on the same.
        limits: what clients may hold.

    Yields:
        The server's task: one that is done within the block has failed.

    Raises:
        ServerError: the server can't listen there.
    """
    host, port = address
    server = Server(
        app,
        address=host,
        port=port,
        interface=Interfaces.ASGINL,  # the lifespan is entered here, so that its errors come out and its end is sure
        http=HTTPModes.http1,
        websockets=False,
        backlog=_BACKLOG,
        backpressure=limits.connections,
        http1_settings=HTTP1Settings(
            header_read_timeout=int(limits.idle_seconds * 1_000), max_buffer_size=limits.head_bytes
        ),
        log_level=LogLevels.error,
        log_dictconfig=granian_config(),
    )
    lifespan = app.router.lifespan_context(app) if isinstance(app, Starlette) else nullcontext()
    async with lifespan:
        task = asyncio.create_task(server.serve())
        try:
            await _accepting(address, task)
            yield task
        finally:
            server.stop()  # type: ignore[no-untyped-call]
            _, unfinished = await asyncio.wait({task}, timeout=GRACE_SECONDS)
            if unfinished:
                _log.warning("requests were under way %d s after the signal to stop; they are cut", GRACE_SECONDS)
                task.cancel()


async def serve(app: ASGIApp, address: tuple[str, int], limits: ConnectionLimits, ready: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT, or until the process that started this one has gone.

    Args:
        app: the application.
        address: host, as a number, and port.
        limits: what clients may hold.
        ready: called when connections are accepted.

    Raises:
        ServerError: the server can't listen there, or has failed.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if parent := multiprocessing.parent_process():
        loop.add_reader(parent.sentinel, stop.set)
    async with serving(app, address, limits) as task:
        ready()
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({stopped, task}, return_when=asyncio.FIRST_COMPLETED)
        if not stopped.done():
            stopped.cancel()
            raise ServerError("the HTTP server has ended by itself; the log says why")


async def _accepting(address: tuple[str, int], task: asyncio.Task[None]) -> None:
    """Wait until a connection is accepted: nothing of the server says so."""
    while not task.done():
        try:
            _, writer = await asyncio.open_connection(*address)
        except OSError:
            await asyncio.sleep(0.005)
        else:
            writer.close()
            return
    raise ServerError(f"{address[0]}:{address[1]} can't be listened on; name another port")
