"""Queues in a file or of a process: what a restart, a kill, a lock and a fork leave of them."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from recsys.client import (
    ClientConfig,
    OfferClient,
)
from recsys.errors import ConfigError
from tests.support.queue_server import (
    HURRIED,
    NOBODY,
    Server,
    order,
    outcome,
    takes_all,
)


def test_a_queue_in_a_file_survives_a_restart_of_either_side(tmp_path: Path) -> None:
    config = HURRIED.model_copy(update={"queue_file": tmp_path / "queue.db", "flush_seconds": 0.0})
    with OfferClient(NOBODY, config) as client:
        client.queue_outcomes([outcome(1)])
        assert client.close() == 1
    with OfferClient(NOBODY, config) as client:
        client.queue_orders([order(2)])
        assert client.queue.waiting == 2
        with pytest.raises(ConfigError, match=r"queue_file == .*queue.db'.* one for each client"):
            OfferClient(NOBODY, config)
    server = Server(takes_all)
    with server.running() as url, OfferClient(url, config):
        assert server.asked.wait(20)  # though nothing new was queued
    with server.running() as url, OfferClient(url, config.model_copy(update={"flush_seconds": 20.0})) as client:
        assert client.close() == 0
    assert set(server.ids) == {"o1", "w2"}


def test_a_process_that_is_killed_loses_nothing_of_a_queue_in_a_file(tmp_path: Path) -> None:
    _in_a_process(f"queue_file=Path({str(tmp_path / 'queue.db')!r})", NOBODY, "os._exit(9)", code=9)
    server = Server(takes_all)
    with server.running() as url, OfferClient(url, ClientConfig(queue_file=tmp_path / "queue.db")) as client:
        assert client.close() == 0
    assert server.ids == Counter(["o0"])


def test_a_process_that_forgets_to_close_its_client_sends_what_waits() -> None:
    server = Server(takes_all)
    with server.running() as url:
        _in_a_process("", url, "pass", code=0)
    assert server.ids == Counter(["o0"])


def _in_a_process(options: str, url: str, ending: str, code: int) -> None:
    script = (
        "import os\nfrom pathlib import Path\nfrom recsys.client import *\n"
        f"client = OfferClient({url!r}, ClientConfig({options}))\n"
        f"assert client.queue_outcomes([ReportedOutcome('o0', 'd1', 'shown')]) == 1\n{ending}\n"
    )
    done = subprocess.run([sys.executable, "-c", script], timeout=60, check=False)
    assert done.returncode == code


def test_a_file_that_can_not_be_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("this is no database, whatever its name says, and must stay as it is")
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE queued (id TEXT, job TEXT)")
    other.close()
    for file, sentence in (
        (tmp_path / "nowhere" / "queue.db", r"its folder does not exist; make it"),
        (tmp_path / "text.db", r"name a file"),
        (tmp_path / "other.db", r"its table `queued` has the columns id, job, must have position, kind, body"),
    ):
        with pytest.raises(ConfigError, match=rf"queue_file == .*{sentence}"):
            OfferClient(NOBODY, ClientConfig(queue_file=file))


def test_a_page_that_makes_its_client_waits_no_longer_than_its_deadline_for_a_locked_file(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "queue.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        took = []
        for _ in range(5):  # the best of several, on a machine that does other things
            begun = time.monotonic()
            with pytest.raises(ConfigError, match=r"queue_file == .*locked"):
                OfferClient(NOBODY, ClientConfig(queue_file=tmp_path / "queue.db", deadline_ms=20))
            took.append(time.monotonic() - begun)
    assert min(took) < 0.9  # it was 1 s whatever the deadline


def test_after_a_fork_a_client_says_that_it_belongs_to_the_other_process() -> None:
    """Its thread is not there: without a word every page would wait for its deadline."""
    script = (
        "import os\nfrom recsys.client import OfferClient\n"
        f"client = OfferClient({NOBODY!r})\n"
        "if child := os.fork():\n    client.close()\n"
        "    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        "try:\n    client.models()\nexcept RuntimeError as error:\n    os._exit(7 if 'forked' in str(error) else 1)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], timeout=60, check=False)
    assert done.returncode == 7
