"""Follows four journeys through one release and counts the files that they enter; `structure_figures.py` runs it.

    CHECKOUT/.venv/bin/python tests/benchmarks/journeys.py RELEASE MARKET

RELEASE is a key of `RELEASES`: what the entry points are called there. MARKET is a folder of simulated tables. Each
journey runs once, on a small input. The result is JSON.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
import tomllib
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, Final, Self

from followed_calls import Journey, Profiler  # type: ignore[import-not-found]

RELEASES: Final[dict[str, dict[str, str]]] = {
    "before": {
        "ReadSpec": "recsys.data.reading:ReadSpec",
        "read": "recsys.data.reading:read_data",
        "Config": "training.config:TrainConfig",
        "fit": "training.pipeline:fit",
        "write_bundle": "training.pipeline:write_bundle",
        "load_model": "serving.loading:load_model",
        "FixedModel": "serving.models:FixedModel",
        "Settings": "serving.settings:Settings",
        "create_app": "serving.app:create_app",
        "open_store": "recsys.events.store:open_store",
        "read_log": "recsys.evaluation.readout.store_form:read_log",
        "readout": "recsys.evaluation.readout.store_form:readout_from_log",
        "analyse": "recsys.evaluation.readout.readout:read_out",
        "read_events": "recsys.evaluation.kpis.tables:read_events",
        "kpis": "recsys.evaluation.kpis.compute:kpis_from_tables",
        "kpi_page": "recsys.evaluation.kpis.page:report_page",
        "fast_path": "serving.lane:Lane",
        "route": "serving.routes.offers:router",
        "ranker": "recsys.ranking.quick:QuickRanker",
    },
    "now": {
        "ReadSpec": "recsys.data.dataset:ReadSpec",
        "read": "recsys.data.dataset:read_dataset",
        "Config": "recsys.fitting.pipeline:FitConfig",
        "fit": "recsys.fitting.pipeline:fit",
        "write_bundle": "recsys.fitting.pipeline:write_bundle",
        "load_model": "serving.models.loading:load_model",
        "FixedModel": "serving.models.by_alias:FixedModel",
        "Settings": "serving.settings:Settings",
        "create_app": "serving.app:create_app",
        "open_store": "recsys.events.store:open_store",
        "read_log": "recsys.evaluation.readout.from_event_store:read_log",
        "readout": "recsys.evaluation.readout.from_event_store:readout_from_log",
        "analyse": "recsys.evaluation.readout.pipeline:analyse_units",
        "read_events": "recsys.evaluation.kpis.tables:read_events",
        "kpis": "recsys.evaluation.kpis.report:kpis_from_tables",
        "kpi_page": "recsys.reporting.kpi_page:report_page",
        "fast_path": "serving.fast_path:FastPath",
        "route": "serving.routes.offers:router",
        "ranker": "recsys.ranking.compiled_ranker:CompiledRanker",
    },
}
"""What each journey calls, as `module:name`."""

QUICK: Final = """
[rules]
min_both = 4
max_q_value = 0.05
[next_product.sampling]
train_accounts = 80
calibration_accounts = 120
[next_product.ranker]
n_trees = 15
[offers]
candidates_per_kind = 40
least_segment_accounts = 15
[upgrades]
n_cutoffs = 2
"""
AS_OF: Final = datetime(2025, 7, 1, tzinfo=UTC)
BEGUN: Final = AS_OF + timedelta(days=1)
EXPERIMENT: Final = "spring-offers"
READ_AT: Final = AS_OF + timedelta(days=40)
PLAN: Final = f"""
id = "{EXPERIMENT}"
planned_start = 2025-07-02
planned_end = 2098-01-01
planned_size = 60
attribution_window_days = 7
secondary = ["aov", "buyer_rate"]
arms = [
  {{ name = "best sellers", weight = 1, is_control = true, policy = {{ kind = "popular" }} }},
  {{ name = "engine", weight = 1 }},
]
"""


class Server:
    """An ASGI application that has started, asked in process."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.state: dict[str, Any] = {}
        self._to_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._from_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": self.state}
        self._task = asyncio.create_task(self._app(scope, self._to_app.get, self._from_app.put))
        await self._to_app.put({"type": "lifespan.startup"})
        assert (await self._from_app.get())["type"] == "lifespan.startup.complete"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._to_app.put({"type": "lifespan.shutdown"})
        await self._from_app.get()
        await self._task

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        content = json.dumps(body).encode()
        headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
        headers.append((b"content-length", str(len(content)).encode()))
        scope: dict[str, Any] = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1"}
        scope |= {"method": "POST", "scheme": "http"}
        scope |= {"path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": headers}
        scope |= {"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000), "state": dict(self.state)}
        waiting = [{"type": "http.request", "body": content, "more_body": False}]
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return waiting.pop() if waiting else await asyncio.Future()

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        answer = b"".join(message.get("body", b"") for message in sent)
        assert sent[0]["status"] == 200, answer
        return json.loads(answer)


async def _post_over_uvicorn(server: Server, app: Any, body: dict[str, Any]) -> None:
    """Ask as the release before did, whose fast path was a protocol of uvicorn's."""
    from serving.protocol import ShopProtocol  # type: ignore[import-untyped]
    from uvicorn.config import Config
    from uvicorn.server import ServerState

    config, loop = Config(app, lifespan="off", log_config=None), asyncio.get_running_loop()
    config.load()
    listening = await loop.create_server(lambda: ShopProtocol(config, ServerState(), server.state), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
    content = json.dumps(body).encode()
    head = "POST /v1/offers HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    writer.write(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
    assert b" 200 " in await reader.readline()
    writer.close()
    listening.close()


class Release:
    """What the journeys call of one release."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.paths = RELEASES[name]
        self.root = Path(import_module("recsys").__file__ or "").parents[1]

    def __getitem__(self, key: str) -> Any:
        module, _, name = self.paths[key].partition(":")
        return getattr(import_module(module), name)

    def module(self, key: str) -> str:
        """The module where a journey begins."""
        return self.paths[key].partition(":")[0]

    def app(self, model: Any, store: Any, clock: _Clock, **options: Any) -> Any:
        """Return the application around a model and a store; it looks for no changes of its own meanwhile."""
        settings = self["Settings"](refresh_seconds=3_600.0, model_look_seconds=3_600.0)
        return self["create_app"](settings, bundles=self["FixedModel"](model), store=store, clock=clock, **options)


class _Clock:
    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


async def _ask(release: Release, profiler: Profiler, folder: Path) -> dict[str, Journey]:
    """Ask for offers by each way through HTTP, each time of a server that was not asked before."""
    question = {"account_id": "A0000017", "cart": [{"product_id": "P000003"}, {"product_id": "P000042"}], "limit": 4}
    found: dict[str, Journey] = {}
    for way, asked, on_fast_path in (
        ("fast path", question, True),
        ("fast path, with a price limit", question | {"filters": {"max_price": 20.0}}, True),
        ("route", question, False),
    ):
        model = release["load_model"](folder / "bundle", source="journeys", now=AS_OF)
        profiler.enter_compiled()
        store = release["open_store"](f"sqlite:///{folder}/asked{len(found)}.db")
        options = {} if release.name == "before" else {"fast_path": on_fast_path}
        app = release.app(model, store, _Clock(AS_OF), **options)
        async with Server(app) as server:
            with profiler.journey() as found[way]:
                if on_fast_path and release.name == "before":
                    await _post_over_uvicorn(server, app, asked)
                else:
                    await server.post("/v1/offers", asked)
        store.close()
    await _serve_experiment(release, model, folder)
    return found


async def _serve_experiment(release: Release, model: Any, folder: Path) -> None:
    """Serve an experiment for three weeks of a clock of its own."""
    url = f"sqlite:///{folder}/experiment.db"
    (folder / "plan.toml").write_text(PLAN, encoding="utf-8")
    offers = Path(sys.executable).with_name("offers")
    command = [str(offers), "experiment", "start", str(folder / "plan.toml"), "--store", url]
    subprocess.run(command, check=True, stdout=sys.stderr)
    with sqlite3.connect(folder / "experiment.db") as connection:  # the command takes the time of the machine
        connection.execute("UPDATE experiments SET started_at = ?", (f"{BEGUN:%Y-%m-%d %H:%M:%S.%f}",))
    connection.close()
    store, clock, rng = release["open_store"](url), _Clock(BEGUN), Random(7)
    async with Server(release.app(model, store, clock)) as server:
        for day in range(21):
            for number in range(12):
                clock.now = BEGUN + timedelta(days=day, minutes=10 * number + 1)
                await _visit(server, clock.now, rng, f"{day}-{number}")
    store.close()


async def _visit(server: Server, now: datetime, rng: Random, visit: str) -> None:
    """An account asks, is shown something, and perhaps takes it or something else."""
    account = f"A{rng.randrange(1, 131):07}"
    answer = await server.post("/v1/offers", {"account_id": account, "limit": 3})
    bought = rng.random() < 0.5
    product = f"P{rng.randrange(1, 101):06}"
    if answer["offers"]:
        product = answer["offers"][0]["product_id"]
        outcome = {"decision_id": answer["decision_id"], "product_id": product, "occurred_at": now.isoformat()}
        kinds = ("shown", "accepted") if bought else ("shown",)
        outcomes = [outcome | {"kind": kind, "outcome_id": f"{visit}-{kind}"} for kind in kinds]
        await server.post("/v1/outcomes", {"outcomes": outcomes})
    if bought:
        line = {"product_id": product, "quantity": rng.choice((1, 2)), "unit_price": rng.choice((1.5, 4.0))}
        order = {"order_id": visit, "account_id": account, "ordered_at": now.isoformat(), "currency": "GBP"}
        await server.post("/v1/orders", {"orders": [order | {"lines": [line]}]})


def follow(release: Release, market: Path, folder: Path) -> dict[str, dict[str, Any]]:
    """Return files, stays and entries of each journey."""
    profiler = Profiler(release.root, release["analyse"])
    tables = {name: str(market / f"{name}.parquet") for name in ("orders", "products", "accounts", "upgrades")}
    data = release["read"](release["ReadSpec"](**tables, as_of=AS_OF))
    config = release["Config"].model_validate(tomllib.loads(QUICK))
    with profiler.journey() as fitting:
        fitted = release["fit"](data, config)
    release["write_bundle"](folder / "bundle", fitted, data, config)
    asked = asyncio.run(_ask(release, profiler, folder))

    store = release["open_store"](f"sqlite:///{folder}/experiment.db")
    log, events = release["read_log"](store, EXPERIMENT, READ_AT), release["read_events"](store)
    with profiler.journey() as from_log:
        release["readout"](log, READ_AT)
    with profiler.journey() as from_units:
        release["analyse"](**from_log.arguments)
    options = {"products": data.products, "accounts": data.accounts, "upgrades": data.upgrades, "events": events}
    with profiler.journey() as kpis:
        release["kpi_page"](release["kpis"](data.orders, as_of=READ_AT, **options))
    store.close()

    found = {
        "order line to offer": (fitting, ("fit",)),
        **{f"request to answer, {way}": (asked[way], (way.split(",")[0].replace(" ", "_"),)) for way in asked},
        "exposure to verdict, from the log": (from_log, ("readout",)),
        "exposure to verdict, from the units": (from_units, ("analyse",)),
        "KPI to page": (kpis, ("kpis", "kpi_page")),
    }
    return {
        name: {"files": sorted(journey.files), "stays": journey.stays, "entries": [*map(release.module, keys)]}
        for name, (journey, keys) in found.items()
    }


if __name__ == "__main__":
    with TemporaryDirectory() as made:
        json.dump(follow(Release(sys.argv[1]), Path(sys.argv[2]), Path(made)), sys.stdout)
