"""Counts answers by route and tier: plain numbers, read by Prometheus when it asks."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


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
