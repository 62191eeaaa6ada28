"""What Prometheus reads from `/metrics`: each worker counts its own answers and says which one it is."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from recsys.contracts.decisions import AssignedArm
from recsys.events.writer import WriterState
from serving.encoding import EncodedSlate
from serving.models.by_alias import AliasStatus, Models


@dataclass(slots=True)
class _Answers:
    """Of one route and tier.

    Attributes:
        within: how many took up to each bound, and more than the one before; the last beyond all.
        seconds: of all together.
        returned: offers of all together.
    """

    within: list[int]
    seconds: float = 0.0
    returned: int = 0


@dataclass(slots=True, eq=False)  # the registry finds it by its identity
class AnswerCounts(Collector):
    """The histogram `offers_answer_seconds` and the counter `offers_returned`.

    The client's own metrics take a lock and look a child up for each number, which on the hot path costs more than an
    answer's JSON; these belong to one thread.

    Attributes:
        bounds: of the histogram's buckets, seconds.
    """

    bounds: Sequence[float]
    _of: dict[tuple[str, str], _Answers] = field(default_factory=dict)

    def add(self, route: str, tier: str, seconds: float, returned: int) -> None:
        """Count one answer."""
        answers = self._of.get((route, tier))
        if answers is None:
            answers = self._of[route, tier] = _Answers([0] * (len(self.bounds) + 1))
        answers.within[bisect_left(self.bounds, seconds)] += 1
        answers.seconds += seconds
        answers.returned += returned

    def collect(self) -> Iterator[Metric]:
        """Yield both metrics as they stand."""
        text = "From a request to its durable answer."
        taken = HistogramMetricFamily("offers_answer_seconds", text, labels=["route", "tier"])
        returned = CounterMetricFamily("offers_returned", "Offers returned.", labels=["tier"])
        names = [*map(floatToGoString, self.bounds), "+Inf"]
        of_tier: dict[str, int] = {}
        for (route, tier), answers in self._of.items():
            buckets = list(zip(names, map(float, accumulate(answers.within)), strict=True))
            taken.add_metric([route, tier], buckets=buckets, sum_value=answers.seconds)
            of_tier[tier] = of_tier.get(tier, 0) + answers.returned
        for tier, number in of_tier.items():
            returned.add_metric([tier], number)
        yield taken
        yield returned


CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
_NO_ARM: Final = ""


class Metrics:
    """The counters of one worker, in a registry of their own."""

    def __init__(self, models: Models, clock: Callable[[], datetime]) -> None:
        self._models = models
        self._clock = clock
        self._registry = registry = CollectorRegistry()
        self._answers = AnswerCounts(_SECONDS)
        registry.register(self._answers)
        self._commit_seconds = Histogram(
            "offers_store_commit_seconds", "One commit of the event store.", buckets=_SECONDS, registry=registry
        )
        self._of_arm = Counter(
            "offers_arm_decisions", "Answers by experiment and arm.", ["experiment", "arm"], registry=registry
        )
        self._outcomes = Counter(
            "offers_outcomes",
            "Outcomes reported, by what came of the offer and the arm that made it.",
            ["kind", "experiment", "arm"],
            registry=registry,
        )
        self._presented = Counter("offers_presented", "Offers that somebody saw or was told of.", registry=registry)
        self._unknown_experiments = Counter(
            "offers_unknown_experiments",
            "Answers to requests that name an experiment that does not run.",
            registry=registry,
        )
        self._short = Counter("offers_shortfalls", "Answers with fewer offers than asked.", registry=registry)
        self._unlogged = Counter("offers_unlogged", "Answers without a kept decision.", registry=registry)
        self._swaps = Counter("offers_model_swaps", "Models that began to answer.", ["alias"], registry=registry)
        self._refusals = Counter("offers_model_refusals", "Models that were refused.", ["alias"], registry=registry)
        self._gauges = {
            name: Gauge(name, text, registry=registry)
            for name, text in (
                ("offers_store_queue", "Requests that wait for their commit."),
                ("offers_store_commits", "Commits since the start."),
                ("offers_store_requests_written", "Requests written since the start."),
                ("offers_model_as_of_seconds", "What the champion was trained up to, seconds since 1970."),
                ("offers_model_age_seconds", "Seconds since then."),
            )
        }
        self._worker = Gauge(
            "offers_worker", "The worker and its models.", ["pid", "alias", "version"], registry=registry
        )

    def answered(
        self,
        route: str,
        slate: EncodedSlate,
        seconds: float,
        *,
        logged: bool,
        experiment: str | None = None,
        arm: str = _NO_ARM,
    ) -> None:
        """Count one answer."""
        self._answers.add(route, slate.tier, seconds, slate.returned)
        if slate.shortfall is not None:
            self._short.inc()
        if not logged:
            self._unlogged.inc()
        if experiment is not None:
            self._of_arm.labels(experiment, arm or _NO_ARM).inc()

    def unknown_experiment(self) -> None:
        """Count a request that names an experiment that does not run; its id comes from outside and is no label."""
        self._unknown_experiments.inc()

    def presented(self, n_offers: int) -> None:
        """Count offers that were presented."""
        self._presented.inc(n_offers)

    def outcome(self, kind: str, assignments: Sequence[AssignedArm]) -> None:
        """Count one outcome under each arm of its decision. Acceptance is accepted over decisions of an arm."""
        for assigned in assignments or (AssignedArm(_NO_ARM, _NO_ARM),):
            self._outcomes.labels(kind, assigned.experiment_id, assigned.arm).inc()

    def committed(self, seconds: float) -> None:
        """Count one commit; called by the writer's thread."""
        self._commit_seconds.observe(seconds)

    def swapped(self, change: AliasStatus) -> None:
        """Count a model that began to answer, or was refused."""
        counter = self._swaps if change.refused is None else self._refusals
        counter.labels(change.alias).inc()

    def render(self, writer: WriterState) -> bytes:
        """Return everything in Prometheus' text format."""
        as_of = self._models.current().as_of
        self._gauges["offers_store_queue"].set(writer.queued)
        self._gauges["offers_store_commits"].set(writer.commits)
        self._gauges["offers_store_requests_written"].set(writer.written)
        self._gauges["offers_model_as_of_seconds"].set(as_of.timestamp())
        self._gauges["offers_model_age_seconds"].set((self._clock() - as_of).total_seconds())
        self._worker.clear()
        for alias, model, _ in self._models.running():
            if model is not None:
                self._worker.labels(str(os.getpid()), alias, model.version).set(1)
        return generate_latest(self._registry)
