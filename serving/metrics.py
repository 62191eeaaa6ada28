"""What Prometheus reads from `/metrics`. Each worker counts its own and says which one it is."""

from __future__ import annotations

import os
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from recsys.contracts.offers import Slate
from recsys.events import GroupCommitWriter
from serving.models import Models

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


class Metrics:
    """The counters of one worker, in a registry of their own."""

    def __init__(self, models: Models, writer: GroupCommitWriter) -> None:
        self._registry = CollectorRegistry()
        self._models = models
        self._writer = writer
        self._seconds = Histogram(
            "offers_answer_seconds",
            "From a request to its durable answer.",
            ["route", "tier"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._returned = Counter("offers_returned", "Offers returned.", ["tier"], registry=self._registry)
        self._short = Counter("offers_shortfalls", "Answers with fewer offers than asked.", registry=self._registry)
        self._unlogged = Counter("offers_unlogged", "Answers without a kept decision.", registry=self._registry)
        self._gauges = {
            name: Gauge(name, text, registry=self._registry)
            for name, text in (
                ("offers_store_queue", "Requests that wait for their commit."),
                ("offers_store_commits", "Commits since the start."),
                ("offers_store_requests_written", "Requests written since the start."),
                ("offers_model_as_of_seconds", "What the model was trained up to, seconds since 1970."),
            )
        }
        self._worker = Gauge("offers_worker", "The worker and its model.", ["pid", "version"], registry=self._registry)

    def answered(self, route: str, slate: Slate, seconds: float, *, logged: bool) -> None:
        """Count one answer."""
        self._seconds.labels(route, slate.tier).observe(seconds)
        self._returned.labels(slate.tier).inc(len(slate.offers))
        if slate.shortfall is not None:
            self._short.inc()
        if not logged:
            self._unlogged.inc()

    def render(self) -> bytes:
        """Return everything in Prometheus' text format."""
        state, model = self._writer.state, self._models.current()
        self._gauges["offers_store_queue"].set(state.queued)
        self._gauges["offers_store_commits"].set(state.commits)
        self._gauges["offers_store_requests_written"].set(state.written)
        self._gauges["offers_model_as_of_seconds"].set(model.as_of.timestamp())
        self._worker.clear()
        self._worker.labels(str(os.getpid()), model.version).set(1)
        return generate_latest(self._registry)
