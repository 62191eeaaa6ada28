"""Benchmarks of KPIs with their sources: those that are shipped, and those of a file that a house edits."""

from __future__ import annotations

from datetime import date
from importlib.resources import files
from pathlib import Path

from pydantic import Field, field_validator

from recsys.contracts.config import Config, read_config
from recsys.evaluation.kpis.registry import REGISTRY


class Benchmark(Config):
    """What a KPI is compared with, and how far that can be trusted."""

    target: float | None = None
    """The value; a share as 0.2. None: the place for one's own."""
    source: str = ""
    """Who says so, and where."""
    read_on: date | None = None
    """When it was read there."""
    note: str = ""
    """What to know before comparing: other formulas, other periods."""

    @property
    def said(self) -> str:
        """Source, day and note as one text; empty where nothing is said."""
        day = "" if self.read_on is None else f", read {self.read_on:%Y-%m-%d}"
        return ". ".join(part for part in (f"{self.source}{day}".lstrip(", "), self.note.strip()) if part)


class BenchmarkFile(Config):
    """A file of benchmarks: a table `[kpi.NAME]` for each KPI that it says something of."""

    kpi: dict[str, Benchmark] = Field(default_factory=dict)
    """By the KPI's name."""

    @field_validator("kpi")
    @classmethod
    def _known(cls, given: dict[str, Benchmark]) -> dict[str, Benchmark]:
        strangers = [name for name in given if name not in REGISTRY]
        if strangers:
            raise ValueError(f"no KPI is called {strangers[0]!r}; the names are {', '.join(REGISTRY)}")
        return given

    @property
    def targets(self) -> dict[str, float]:
        """The values by KPI."""
        return {name: item.target for name, item in self.kpi.items() if item.target is not None}

    @property
    def sources(self) -> dict[str, str]:
        """What is said of each value, by KPI."""
        return {name: item.said for name, item in self.kpi.items() if item.target is not None and item.said}


_SHIPPED = Path(str(files("recsys.evaluation.kpis.definitions") / "benchmarks.toml"))


def benchmark_text() -> str:
    """Return the shipped file as it is to be edited."""
    return _SHIPPED.read_text(encoding="utf-8")


def read_benchmarks(path: Path | None = None) -> BenchmarkFile:
    """Return the benchmarks of a file; None: those that are shipped.

    Raises:
        ConfigError: the file is missing, is not TOML, names no KPI, or a value is not a number.
    """
    return read_config(_SHIPPED if path is None else path, BenchmarkFile)
