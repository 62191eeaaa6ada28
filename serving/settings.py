"""What can be set about the server."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import Field

from recsys.contracts.config import Config
from recsys.contracts.offers import Objective
from recsys.events.writer import WriterConfig

Clock: TypeAlias = Callable[[], datetime]
"""Gives the time now, UTC."""


class RegistryConfig(Config):
    """How long the server waits for the model registry."""

    seconds: float = Field(default=10.0, gt=0, le=60)
    """For the answer where an alias leads; then the models that run go on, and the next look asks again."""
    download_seconds: float = Field(default=600.0, gt=0)
    """For the bundle of a remote store of artifacts; a gigabyte takes minutes on a slow line."""


class KeptModelsConfig(Config):
    """Where bundles are kept that served, and for how long."""

    folder: Path = Path("var/models")
    """A folder of this machine; several servers may share it."""
    days: float = Field(default=90.0, ge=0)
    """How long a bundle stays after it last served; until then why-not answers about its decisions."""
    gigabytes: float = Field(default=20.0, ge=0)
    """All of them together; beyond, those go first that served longest ago. What serves always stays."""


class FrequencyCaps(Config):
    """How often the same may be presented on one day, UTC."""

    product_a_day: int = Field(default=10, ge=1)
    """Presentations of one product to one account or visitor; after ten on one day another adds nothing."""
    offers_a_day: int | None = Field(default=None, ge=1)
    """Presented offers of one account or visitor, over all products; None: any number."""


class ConnectionLimits(Config):
    """What a worker lets its clients hold. The size and time of bodies are bounded by the application."""

    head_bytes: int = Field(default=65_536, ge=8_192)
    """Bytes of a request's line and headers, and what is read of a connection before the request at hand is answered;
    longer heads get 431. Keys, cookies and traces together take some 10 kB."""
    idle_seconds: float = Field(default=75.0, gt=0)
    """Seconds from the end of an answer, or from the start of a connection, to the end of the next head; then the
    connection is closed. Callers keep theirs for a minute, and must not write into one that closes."""
    connections: int = Field(default=512, ge=1)
    """Connections that are open at a time; the next one waits until one ends. Half of the 1,024 files that a process
    may usually open: the rest is for the store and the model."""


class Settings(Config):
    """How the server answers. Every default suits one machine on loopback."""

    objective: Objective = "conversion"
    """What the ranking maximises where a request names no objective."""
    language: Literal["en", "de"] = "en"
    """Of the reasons, where neither the request nor the account names one that the engine speaks."""
    returned_is_presented: frozenset[str] = frozenset()
    """Surfaces that show whatever they get: a returned offer counts as presented there without a `shown` outcome."""
    answer_unlogged: bool = False
    """Answer with `logged: false` when the event store fails, instead of with 503; evaluation loses those."""
    declined_cooldown_days: int = Field(default=30, ge=0)
    """Days that a declined or dismissed product is not offered to that account again; 0: at once. A month's orders."""
    future_tolerance_seconds: float = Field(default=300.0, ge=0)
    """How far a reported time may lie after the server's own: clocks differ, and servers' alone by
    minutes. What is later is refused."""
    fatigue: FrequencyCaps = FrequencyCaps()
    """How often the same may be presented to one account or visitor on one day."""
    rules_file: Path | None = None
    """The file of business rules (`offers serve --rules`), read again when it changes; None: there are none."""
    exploration: float = Field(default=0.0, ge=0, le=0.5)
    """Share of answers whose last slot is drawn from the twenty ranks below it, so that the log can judge other
    policies; 0: never."""
    refresh_seconds: float = Field(default=0.5, gt=0)
    """How often a worker looks for what other workers took; half of the second that state may be late."""
    max_body_bytes: int = Field(default=1_048_576, ge=1_024)
    """Bytes of a request body; a full cart of 200 lines takes some 20 kB."""
    body_seconds: float = Field(default=10.0, gt=0)
    """How long a request body may take to arrive; the largest one comes within it at 1 Mbit a second."""
    limits: ConnectionLimits = ConnectionLimits()
    """What a worker lets its clients hold: bytes of a head, connections and their time."""
    retry_after_seconds: int = Field(default=1, ge=1)
    """What `Retry-After` says when the event store is busy."""
    writer: WriterConfig = WriterConfig()
    """How decisions are grouped into commits."""
    challengers: dict[str, str] = Field(default_factory=dict)
    """Models beside the champion, for arms of experiments: alias -> folder, models:/NAME@ALIAS or models:/NAME/VERSION.
    `challenger` is there by itself where the server runs models:/NAME@champion."""
    model_look_seconds: float = Field(default=5.0, gt=0)
    """How often a worker looks whether an alias or folder holds another model; a look takes milliseconds."""
    registry: RegistryConfig = RegistryConfig()
    """How long the server waits for the model registry."""
    kept_models: KeptModelsConfig = KeptModelsConfig()
    """Where bundles are kept that served: to start without the registry, and to answer about their decisions."""
    reload_seconds: float = Field(default=30.0, gt=0)
    """How long `POST /v1/models:reload` waits; what takes longer goes on, and is answered with 503."""
    model_retry_seconds: float = Field(default=60.0, ge=0)
    """How long a model that was refused is left alone; the digests of a gigabyte take seconds to compare."""
    trial_seconds: float = Field(default=120.0, gt=0)
    """How long a new model may take to compare its digests and answer varied requests in a process of its own, before
    it is loaded; the first on a machine compiles the ranking, some fifteen seconds of it."""
    remembered_visitors: int = Field(default=100_000, ge=1)
    """Visitors without an account whose purchases, refusals and presentations a worker remembers; the latest count.
    Each takes about a kilobyte."""
    keys_file: Path | None = None
    """The file of API keys (`offers key create`); None: nobody needs one, and the server stays on loopback."""
    keys_refresh_seconds: float = Field(default=0.5, ge=0, le=1)
    """How often a worker reads the file of keys; half of the second in which a revoked key stops to open anything."""
    keys_max_age_seconds: float = Field(default=1.0, gt=0)
    """How old a worker's knowledge of the keys may be while their file can't be read (missing, broken, being written);
    then no key opens anything and every request that needs one is 503. More than a second lets revoked keys live on."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may call the server from a browser (https://shop.example); empty: none may."""
    allowed_hosts: tuple[str, ...] = ()
    """Names beside those of loopback that requests may ask (`Host`, without a port); others get 421. Empty: none
    without keys, so that no page of another site reaches the server through a name of its own; any with keys."""
