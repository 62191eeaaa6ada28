"""Worker processes: started together, replaced when one dies, stopped together."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Final, TypeAlias

from recsys.errors import ServerError
from serving.processes.http_server import GRACE_SECONDS

Work: TypeAlias = Callable[[Callable[[], None]], None]
"""What a worker does: call the function it is given once it accepts requests, and serve until SIGTERM. It travels to
another process."""

_PAUSE_SECONDS: Final = 0.5
"""Before a dead worker is replaced: one that dies at once must not keep the machine busy."""
_SPARE_SECONDS: Final = 5
"""Beyond the grace of a stopping worker, for its store and its interpreter to end."""

_log = logging.getLogger("serving")


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
