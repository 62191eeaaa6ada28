"""`offers train`: purchase history in, a registered challenger out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from recsys.bundle.resolve import DEFAULT_TRACKING_URI
from recsys.cli.terminal import output_console

if TYPE_CHECKING:
    from training.progress import StepTime
    from training.run import TrainingRun

RATIO = "replay.ratio_to_best_baseline.raw_ranker"


def train_command(
    orders: Annotated[
        str, typer.Option(help="Order lines: .csv, .tsv, .jsonl, .xlsx, .parquet, a folder, or a database URL#table.")
    ],
    preset: Annotated[str | None, typer.Option(help="A well-known layout, as online-retail-ii.")] = None,
    map_: Annotated[
        str | None, typer.Option("--map", help="account_id=customer,... or a TOML file with them in [columns].")
    ] = None,
    products: Annotated[str | None, typer.Option(help="Products, read the same way; default: from the orders.")] = None,
    accounts: Annotated[str | None, typer.Option(help="Accounts, read the same way; default: from the orders.")] = None,
    upgrades: Annotated[str | None, typer.Option(help="Curated upgrades, read the same way.")] = None,
    as_of: Annotated[
        str | None,
        typer.Option(help="Use nothing at or after this moment (UTC); default: the day after the last order."),
    ] = None,
    currency: Annotated[str | None, typer.Option(help="The currency to keep where there are several.")] = None,
    time_format: Annotated[str | None, typer.Option(help="How times are written, as %d/%m/%Y %H:%M.")] = None,
    decimal: Annotated[str | None, typer.Option(help="What decimals follow, . or ,; default: found out.")] = None,
    encoding: Annotated[str | None, typer.Option(help="Of text files, as latin-1; default: found out.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file of options; see training/gate.py.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.KEY=VALUE", help="One option, before the file's; may be repeated."),
    ] = None,
    ladder: Annotated[
        Path | None, typer.Option(help="`offers ladder` writes one, to be edited; default: built from the data.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the bundle to this folder too, and the fitted models beside it.")
    ] = None,
    rejects: Annotated[Path | None, typer.Option(help="Write the rejected rows to this .csv or .parquet file.")] = None,
    tracking_uri: Annotated[str, typer.Option(help="Where MLflow keeps runs and models.")] = DEFAULT_TRACKING_URI,
) -> None:
    """Learn offers from purchase history and register them as the challenger."""
    from recsys.contracts.config import read_config
    from recsys.data.dataset import ReadSpec
    from recsys.data.files.texts import parse_encoding
    from recsys.data.mapping import parse_map
    from recsys.data.numbers import parse_decimal
    from recsys.data.times import parse_moment
    from recsys.errors import ReplayError
    from recsys.fitting.scoring_models import models_folder
    from training.gate import TrainConfig
    from training.progress import StepDisplay
    from training.registry import Registry
    from training.run import seconds_before, train_and_register
    from training.tracking import run_page

    options = read_config(config, TrainConfig, set_ or ())
    spec = ReadSpec(
        orders=orders,
        products=products,
        accounts=accounts,
        upgrades=upgrades,
        preset=preset,
        mapping=parse_map(map_) if map_ is not None else {},
        as_of=parse_moment(as_of) if as_of is not None else None,
        currency=currency,
        time_format=time_format,
        decimal=parse_decimal(decimal),
        encoding=parse_encoding(encoding),
        rejects=rejects,
    )
    printed = output_console()
    with StepDisplay(Console(stderr=True)) as shown:
        with shown.step("opening MLflow"):  # a new database takes seconds
            registry = Registry(tracking_uri)
            shown.expect(seconds_before(registry))
        done = train_and_register(
            spec, options, tracking_uri=tracking_uri, out=out, ladder_file=ladder, step=shown.step
        )
    printed.print(done.report)
    printed.print(_summary(done.figures))
    printed.print(_times(done.times))
    if done.resumed:
        typer.echo(f"{len(done.resumed)} steps were read from a run of the same training that was ended.")
    if done.no_upgrades:
        typer.echo(done.no_upgrades)
    if done.order:
        typer.echo(done.order)
    typer.echo(_replayed(done))
    typer.echo(f"Registered as offers version {done.version}, alias challenger; run {done.run_id}.")
    if out is not None:
        typer.echo(f"The bundle stands in {out} too, the fitted models in {models_folder(out)}.")
    if not tracking_uri.startswith("http"):
        typer.echo(f"To look at it: mlflow ui --backend-store-uri {tracking_uri}")
    typer.echo(f"Its page: {run_page(registry, done.run_id)}")
    if done.fault is not None:
        raise ReplayError(done.fault)
    typer.echo("Make it champion, if it passes the gate: offers promote")


def _replayed(run: TrainingRun) -> str:
    """What the replay found, in a sentence or two."""
    found, figures = run.evidence, run.figures
    said = list(found.notes)
    if found.ndcg_at_10 is not None and found.cutoff is not None:
        said.append(
            f"Replayed at {found.cutoff:%Y-%m-%d}: NDCG@10 on novel products {found.ndcg_at_10:.4f} over "
            f"{found.n_accounts:,} accounts, {figures[RATIO]:.2f} times the best of {len(found.baselines)} baselines."
        )
    said.append(f"{found.coverage:.0%} of the active catalogue is offered to someone.")
    return "\n".join(said)


def _times(times: Sequence[StepTime]) -> Table:
    table = Table("step", title="What took how long", title_justify="left")
    for heading in ("seconds", "CPU seconds", "peak GB so far"):
        table.add_column(heading, justify="right")
    for one in times:
        table.add_row(one.name, f"{one.seconds:,.0f}", f"{one.cpu_seconds:,.0f}", f"{one.peak_gb:.1f}")
    return table


def _summary(figures: dict[str, float]) -> Table:
    table = Table(title="What was learned", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in figures.items():
        if "." not in name:  # those of the replay MLflow keeps, and the gate says what counts
            table.add_row(name.replace("_", " "), f"{value:,.4g}" if value != int(value) else f"{int(value):,}")
    return table
