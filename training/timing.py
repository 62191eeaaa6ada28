"""How long each step of a training run took, and how much memory the run had needed by then."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from recsys.fitting.pipeline import Step

_RSS_UNITS_A_GB = 1024**3 if sys.platform == "darwin" else 1024**2  # bytes there, kilobytes on Linux


class StepTime(NamedTuple):
    """What one step took.

    Attributes:
        name: of the step.
        seconds: of the clock on the wall.
        cpu_seconds: of all cores, those of steps that ran at the same time too.
        peak_gb: most memory of the process until the end of the step.
    """

    name: str
    seconds: float
    cpu_seconds: float
    peak_gb: float


class Stopwatch:
    """A step that measures: announces each step as the given one does, and keeps what it took in `times`."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self.times: list[StepTime] = []

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Announce and measure one step; a step that fails is not kept."""
        clock, cpu = time.perf_counter(), time.process_time()
        with self._step(name):
            yield
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _RSS_UNITS_A_GB
        self.times.append(StepTime(name, time.perf_counter() - clock, time.process_time() - cpu, peak))

    def metrics(self) -> dict[str, float]:
        """Return the times and peaks of the steps so far, by names that MLflow accepts."""
        found: dict[str, float] = {}
        for one in self.times:
            name = one.name.replace(" ", "_")
            found |= {f"seconds.{name}": one.seconds, f"cpu_seconds.{name}": one.cpu_seconds}
            found[f"peak_gb.{name}"] = one.peak_gb
        return found
