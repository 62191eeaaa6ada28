"""`offers serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recsys.bundle.resolve import DEFAULT_TRACKING_URI


def serve(
    model: Annotated[
        str, typer.Option(help="models:/NAME@ALIAS, models:/NAME/VERSION, or the folder of a bundle.")
    ] = "models:/offers@champion",
    host: Annotated[str, typer.Option(help="Loopback only, as long as there are no API keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes a free one.")] = 8000,
    store: Annotated[
        str, typer.Option(help="Event store: sqlite:///FILE or postgresql://HOST/NAME.")
    ] = "sqlite:///var/offers.db",
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes; they share the bundle's memory.")] = 1,
    config: Annotated[Path | None, typer.Option(help="TOML file of the server's settings.")] = None,
    tracking_uri: Annotated[str, typer.Option(help="Where MLflow keeps its registry.")] = DEFAULT_TRACKING_URI,
) -> None:
    """Serve offers over HTTP; every answer is in the event store before it is sent."""
    from recsys.bundle.resolve import resolve_model
    from recsys.contracts.config import read_config
    from serving.running import Plan, listen, run
    from serving.settings import Settings

    settings = Settings() if config is None else read_config(config, Settings)
    with listen(host, port) as listening:
        folder = resolve_model(model, tracking_uri=tracking_uri)
        run(Plan(folder, model, store, settings, workers), listening)
