"""What a person sees of a long command: each step by name from its beginning, with the time left where it is known."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Lock, Thread
from types import TracebackType
from typing import NamedTuple, Self

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from recsys.fitting.steps import Step

_RSS_UNITS_A_GB = 1024**3 if sys.platform == "darwin" else 1024**2  # bytes there, kilobytes on Linux
SECONDS = "seconds."
"""How the metrics begin that say what each step took."""


class StepTime(NamedTuple):
    """What one step took.

    Attributes:
        name: of the step.
        seconds: of the clock on the wall.
        cpu_seconds: of all cores, those of steps that ran at the same time too.
        peak_gb: most memory of the process until the end of the step.
        began: seconds of the epoch.
    """

    name: str
    seconds: float
    cpu_seconds: float
    peak_gb: float
    began: float


class Stopwatch:
    """A step that measures: announces each step as the given one does, and keeps what it took in `times`."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self.times: list[StepTime] = []

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Announce and measure one step; a step that fails is not kept."""
        began, clock, cpu = time.time(), time.perf_counter(), time.process_time()
        with self._step(name):
            yield
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _RSS_UNITS_A_GB
        took = time.perf_counter() - clock, time.process_time() - cpu
        self.times.append(StepTime(name, *took, peak, began))

    def metrics(self, without: frozenset[str] = frozenset()) -> dict[str, float]:
        """Return the times and peaks of the steps so far, by names that MLflow accepts.

        Args:
            without: steps to leave out, whose results were read from an earlier run: their times say nothing.
        """
        found: dict[str, float] = {}
        for one in self.times:
            name = metric_name(one.name)
            if one.name not in without:
                found |= {
                    f"{SECONDS}{name}": one.seconds,
                    f"cpu_seconds.{name}": one.cpu_seconds,
                    f"peak_gb.{name}": one.peak_gb,
                }
        return found


def metric_name(step: str) -> str:
    """Return a step's name as a metric has it."""
    return step.replace(" ", "_")


@dataclass
class _Running:
    """A step that runs: since when, when it was last spoken of, and its bar."""

    began: float
    told: float
    bar: TaskID


class StepDisplay:
    """Shows the running steps: as bars on a terminal, as lines in a log; a step is never silent for ten seconds.

    The time left of a step is what it took in an earlier run, times how much slower this run was so far.

    Args:
        console: where to show them.
        every: seconds after which a log hears of a running step again.
        clock: seconds of a clock that never goes back.
    """

    def __init__(
        self,
        console: Console,
        *,
        every: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        columns = SpinnerColumn(finished_text="done"), TextColumn("{task.description}"), TimeElapsedColumn()
        self._bars = Progress(*columns, TextColumn("{task.fields[left]}"), console=console)
        self._console, self._every, self._clock = console, every, clock
        self._expected: dict[str, float] = {}
        self._running: dict[str, _Running] = {}
        self._took = self._planned = 0.0
        self._lock, self._stop = Lock(), Event()
        self._reminder = Thread(target=self._remind, daemon=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bars.start()
        self._reminder.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._reminder.join()
        self._bars.stop()

    def expect(self, seconds: Mapping[str, float]) -> None:
        """Tell what each step took in an earlier run, by `metric_name`; steps without have no time left."""
        self._expected = dict(seconds)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Show one step for as long as the block runs."""
        now = self._clock()
        with self._lock:
            self._running[name] = _Running(now, now, self._bars.add_task(name, total=1, left=self._left(name, 0.0)))
            self._say(name, "begins", self._left(name, 0.0))
        try:
            yield
        except BaseException:
            with self._lock:
                self._say(name, f"failed after {_shown(self._end(name))}")
            raise
        with self._lock:
            bar, seconds = self._running[name].bar, self._end(name)
            if metric_name(name) in self._expected:
                self._took, self._planned = self._took + seconds, self._planned + self._expected[metric_name(name)]
            self._bars.update(bar, completed=1, left="")
            self._say(name, f"done in {_shown(seconds)}")

    def _end(self, name: str) -> float:
        return self._clock() - self._running.pop(name).began

    def _left(self, name: str, so_far: float) -> str:
        planned = self._expected.get(metric_name(name))
        if planned is None:
            return ""
        pace = self._took / self._planned if self._planned > 0 else 1.0
        left = planned * pace - so_far
        if left <= 0:
            return "longer than before"
        return f"{'about ' if left >= 1 else ''}{_shown(left)} left"

    def _remind(self) -> None:
        while not self._stop.wait(min(1.0, self._every)):
            with self._lock:
                now = self._clock()
                for name, running in self._running.items():
                    left = self._left(name, now - running.began)
                    self._bars.update(running.bar, left=left)
                    if now - running.told >= self._every:
                        running.told = now
                        self._say(name, f"{_shown(now - running.began)} so far", left)

    def _say(self, name: str, what: str, left: str = "") -> None:
        if not self._console.is_terminal:  # a log shows nothing of a bar before the end
            moment = time.strftime("%H:%M:%S")
            line = f"{moment} {name}: {what}{f', {left}' if left else ''}"
            self._console.print(Text(line), soft_wrap=True)


def _shown(seconds: float) -> str:
    if seconds < 1:
        return "less than 1 s"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
