"""Calls that may hang for ever, in daemon threads: neither who asked nor the end of the process waits for them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from threading import Thread
from typing import Any, TypeVar

_T = TypeVar("_T")


class BoundedCalls:
    """Calls to one service; while one hangs, others would as well, and are not begun.

    Args:
        closed: when it is done, nobody waits any longer.
    """

    def __init__(self, closed: Future[None]) -> None:
        self._closed = closed
        self._name = ""
        self._under_way: Future[Any] | None = None

    def ask(self, name: str, call: Callable[[], _T], seconds: float) -> _T:
        """Return what `call` returns; one call at a time.

        A call that takes longer goes on alone, and the next one of the same name waits for it instead of its own.

        Raises:
            TimeoutError: it takes longer than so many seconds, or another call hangs.
        """
        hanging = self._under_way
        if hanging is None or hanging.done():  # what came after its time is old
            self._name, self._under_way = name, _in_daemon_thread(call)
        elif self._name != name:
            raise TimeoutError
        future: Future[_T] = self._under_way  # type: ignore[assignment]
        either: list[Future[Any]] = [future, self._closed]
        wait(either, seconds, FIRST_COMPLETED)
        if not future.done():
            raise TimeoutError
        self._under_way = None
        return future.result()


def _in_daemon_thread(call: Callable[[], _T]) -> Future[_T]:
    future: Future[_T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - who waits for it raises it
            future.set_exception(error)

    Thread(target=run, name="bounded call", daemon=True).start()
    return future
