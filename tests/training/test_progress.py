"""Steps are named from their beginning, with the time left where an earlier run tells it, and never silent for long."""

from __future__ import annotations

import io
import time
from threading import Event, Thread

import pytest
from rich.console import Console

from recsys.fitting.steps import no_progress
from training.progress import StepDisplay, Stopwatch


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def wait_for(log: io.StringIO, text: str) -> None:
    end = time.monotonic() + 60
    while text not in log.getvalue():
        assert time.monotonic() < end, log.getvalue()
        time.sleep(0.01)


def test_a_log_hears_of_a_step_at_its_beginning_while_it_runs_and_at_its_end() -> None:
    log, clock = io.StringIO(), Clock()
    with StepDisplay(Console(file=log), clock=clock) as shown:
        shown.expect({"complements": 40.0, "cart_weights": 20.0})
        with shown.step("complements"):
            assert "complements: begins, about 40 s left" in log.getvalue()
            clock.now = 6.0
            wait_for(log, "complements: 6 s so far, about 34 s left")
            clock.now = 80.0
            wait_for(log, "complements: 80 s so far, longer than before")
        assert "complements: done in 80 s" in log.getvalue()
        with shown.step("cart weights"):  # this run takes twice as long as the one before
            assert "cart weights: begins, about 40 s left" in log.getvalue()
        with shown.step("ladder"):
            clock.now += 6.0
            wait_for(log, "ladder: 6 s so far\n")


def _fail_in_a_step(shown: StepDisplay, clock: Clock, log: io.StringIO) -> None:
    with shown.step("ladder"):
        clock.now = 7.0
        wait_for(log, "replay of upgrades: 7 s so far")
        wait_for(log, "ladder: 7 s so far")
        raise ZeroDivisionError


def test_steps_beside_each_other_are_both_reminded_of_and_one_that_fails_says_so() -> None:
    log, clock, ended = io.StringIO(), Clock(), Event()

    with StepDisplay(Console(file=log), clock=clock) as shown:

        def beside() -> None:
            with shown.step("replay of upgrades"):
                ended.wait(60)

        other = Thread(target=beside)
        other.start()
        wait_for(log, "replay of upgrades: begins")
        with pytest.raises(ZeroDivisionError):
            _fail_in_a_step(shown, clock, log)
        ended.set()
        other.join()
    assert "ladder: failed after 7 s" in log.getvalue()


def test_a_terminal_shows_bars_with_the_time_left() -> None:
    log, clock = io.StringIO(), Clock()
    console = Console(file=log, force_terminal=True, width=100)
    with StepDisplay(console, clock=clock) as shown:
        shown.expect({"complements": 40.0})
        with shown.step("complements"):
            wait_for(log, "about 40 s left")
            clock.now = 10.0
            wait_for(log, "about 30 s left")


def test_what_was_read_from_an_earlier_run_is_not_timed() -> None:
    watch = Stopwatch(no_progress)
    for name in ("cart weights", "ladder"):
        with watch(name):
            pass
    assert {name.partition(".")[2] for name in watch.metrics(frozenset({"ladder"}))} == {"cart_weights"}
    assert watch.times[1].began >= watch.times[0].began
