"""Plain numbers give Prometheus what its own client would give it."""

from __future__ import annotations

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from serving.metrics import AnswerCounts

BOUNDS = (0.001, 0.01, 1.0)


def lines(registry: CollectorRegistry) -> list[str]:
    return sorted(line for line in generate_latest(registry).decode().splitlines() if "_created" not in line)


def test_the_text_is_that_of_the_clients_own_metrics() -> None:
    theirs, ours = CollectorRegistry(), CollectorRegistry()
    seconds = Histogram(
        "offers_answer_seconds",
        "From a request to its durable answer.",
        ["route", "tier"],
        buckets=BOUNDS,
        registry=theirs,
    )
    returned = Counter("offers_returned", "Offers returned.", ["tier"], registry=theirs)
    counts = AnswerCounts(BOUNDS)
    ours.register(counts)
    rng = np.random.default_rng(3)
    for number in range(60):
        route, tier = ("POST /v1/offers", "GET /v1/x")[number % 2], ("cart", "account", "popular")[number % 3]
        taken = float(rng.choice([0.001, 0.0005, 0.25, 3.0]))
        seconds.labels(route, tier).observe(taken)
        returned.labels(tier).inc(number)
        counts.add(route, tier, taken, number)
    assert lines(ours) == lines(theirs)
