"""One thread for the numerical libraries while models are learned or score.

Threads of OpenMP spin while they wait: beside any other load two are slower than one, up to five times. BLAS adds up a
product of matrices in another order for each number of threads: the last bits of a score, then a split of a tree, and
with them the bytes of a bundle would hang on the number of cores and on environment variables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

_T = TypeVar("_T")

THREADS = 2
"""Replays, classifiers or blocks of accounts worked on at a time, each on one OpenMP thread and with features of its
own. Side by side they need not wait for each other; the threads of one would, and lose most of the gain."""


@contextmanager
def single_threaded() -> Iterator[None]:
    """Hold OpenMP in the calling thread, and BLAS in the whole process, at one thread; also as a decorator.

    Blocks may be nested, also in threads that are started inside: a pool of them takes `one_openmp_thread`. Of blocks
    that start beside each other in several threads, the first alone rules BLAS.
    """
    with threadpool_limits(limits=1):
        yield


def one_openmp_thread() -> None:
    """Hold OpenMP at one thread in the calling thread for as long as that lives: the initializer of a pool."""
    threadpool_limits(limits=1, user_api="openmp")


def parallel_map(work: Callable[..., _T], *arguments: Sequence[Any]) -> list[_T]:
    """Return `work` of each set of arguments, in their order whatever finishes first.

    Example:
        >>> parallel_map(pow, [2, 3], [3, 2])
        [8, 9]
    """
    with ThreadPoolExecutor(THREADS, initializer=one_openmp_thread) as pool:
        return list(pool.map(work, *arguments))
