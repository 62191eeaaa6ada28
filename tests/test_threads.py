"""Inside, nothing numerical takes a second thread; afterwards each library has its own number of them again."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.linalg
import sklearn.ensemble
from threadpoolctl import threadpool_info, threadpool_limits

from recsys.threads import one_openmp_thread, single_threaded

LIBRARIES = (np.linalg, scipy.linalg, sklearn.ensemble)
"""The first two bring a BLAS each, the third OpenMP: what is not loaded has no number of threads."""


def threads(api: str) -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == api}


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    with threadpool_limits(limits=2):
        assert threads("blas") == threads("openmp") == {2}
        yield


def test_nested_blocks_end_with_the_outer_one() -> None:
    with single_threaded():
        with single_threaded():
            assert threads("blas") == threads("openmp") == {1}
        assert threads("blas") == threads("openmp") == {1}
    assert threads("blas") == threads("openmp") == {2}


def test_a_block_in_a_thread_that_was_started_inside_gives_nothing_back() -> None:
    @single_threaded()
    def work() -> set[int]:
        return threads("blas") | threads("openmp")

    with single_threaded(), ThreadPoolExecutor(1, initializer=one_openmp_thread) as pool:
        assert pool.submit(threads, "openmp").result() == {1}
        assert pool.submit(work).result() == {1}
        assert threads("blas") == {1}
    assert threads("blas") == threads("openmp") == {2}


def test_an_error_gives_them_back_too() -> None:
    @single_threaded()
    def fail() -> None:
        raise ValueError

    with pytest.raises(ValueError):
        fail()
    assert threads("blas") == threads("openmp") == {2}
