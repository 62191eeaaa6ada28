"""`offers backtest`: how the engine and the baselines would have done at chosen cutoffs."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from recsys.backtesting.backtest import SERVED, BacktestConfig, Trainer, score_cutoffs
from recsys.backtesting.baselines import default_baselines
from recsys.backtesting.results import Backtest
from recsys.backtesting.trainer import EngineAt, bundle_at, cart_scorer, freeze_ladder, pipeline_trainer
from recsys.bundle.load import load_bundle
from recsys.bundle.resolve import DEFAULT_TRACKING_URI
from recsys.cli.terminal import output_console
from recsys.contracts.config import read_config
from recsys.data.dataset import Dataset, ReadSpec, read_dataset
from recsys.data.files.texts import parse_encoding
from recsys.data.history import History
from recsys.data.mapping import parse_map
from recsys.data.numbers import parse_decimal
from recsys.errors import ConfigError
from recsys.fitting.pipeline import with_horizon
from recsys.fitting.steps import Step
from recsys.ladder.edges import Ladder
from recsys.reporting.backtest_plots import write_plots
from recsys.reporting.backtest_text import backtest_tables
from training.gate import TrainConfig
from training.progress import StepDisplay
from training.registry import Registry
from training.run import COMPARED
from training.tracking import compared_params, log_backtest, open_run

RESULTS = "backtest.json"
BUNDLES = "bundles"


def backtest_command(
    orders: Annotated[str, typer.Option(help="A file, a folder of files, or a database table URL#table.")],
    cutoffs: Annotated[str, typer.Option(help="Where the past ends: dates joined by commas.")],
    out: Annotated[Path, typer.Option(help="Folder for backtest.json, the plots and a bundle a cutoff.")],
    products: Annotated[str | None, typer.Option(help="The products table; default: derived from the orders.")] = None,
    accounts: Annotated[str | None, typer.Option(help="The accounts table; default: derived from the orders.")] = None,
    upgrades: Annotated[str | None, typer.Option(help="Curated upgrades; default: none.")] = None,
    preset: Annotated[str | None, typer.Option(help="Name of a well-known layout, as online-retail-ii.")] = None,
    map_: Annotated[str | None, typer.Option("--map", help="Their columns, as account_id=customer,....")] = None,
    currency: Annotated[str | None, typer.Option(help="The currency to keep where there are several.")] = None,
    time_format: Annotated[str | None, typer.Option(help="How times are written, as %d/%m/%Y %H:%M.")] = None,
    decimal: Annotated[str | None, typer.Option(help="What decimals follow, . or ,; default: found out.")] = None,
    encoding: Annotated[str | None, typer.Option(help="Of text files, as latin-1; default: found out.")] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file with the options of training.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.KEY=VALUE", help="One option of training, before the file's."),
    ] = None,
    horizon_days: Annotated[int, typer.Option(help="Days after a cutoff that are scored.")] = 30,
    max_accounts: Annotated[int | None, typer.Option(help="Score a random sample of at most this many.")] = None,
    baselines_only: Annotated[bool, typer.Option(help="Score the baselines and train nothing.")] = False,
    tracking_uri: Annotated[str, typer.Option(help="Where MLflow keeps runs.")] = DEFAULT_TRACKING_URI,
) -> None:
    """Score the engine and the baselines on what accounts did after each cutoff, novel products and carts apart."""
    training = with_horizon(read_config(config, TrainConfig, set_ or ()), horizon_days)
    options = {"horizon_days": horizon_days, "max_accounts": max_accounts, "climbs": training.ladder.climbs}
    asked = BacktestConfig(**options | {"cutoffs": parse_cutoffs(cutoffs)})
    spec = ReadSpec(
        orders=orders,
        products=products,
        accounts=accounts,
        upgrades=upgrades,
        preset=preset,
        mapping=parse_map(map_) if map_ else {},
        currency=currency,
        time_format=time_format,
        decimal=parse_decimal(decimal),
        encoding=parse_encoding(encoding),
    )
    printed, registry = output_console(), Registry(tracking_uri)
    name = f"backtest {asked.cutoffs[0]:%Y-%m-%d} to {asked.cutoffs[-1]:%Y-%m-%d}"
    with StepDisplay(Console(stderr=True)) as shown, open_run(registry, name) as run:
        step = run.follow(shown.step)
        with step("reading and checking"):
            data = read_dataset(spec)
            history = data.history()
        run.log_data(data)
        run.log_params({"backtest": asked.model_dump(mode="json"), "training": compared_params(training, COMPARED)})
        trainers: dict[str, Trainer] = {}
        ladder, engine_at = None, None
        if not baselines_only:
            with step("ladder before the first cutoff"):
                trainers[SERVED], ladder = _engine(spec, history, asked, training, out / BUNDLES, step)
            engine_at = _engine_of(out / BUNDLES)
        carts = cart_scorer(history, asked, engine_at)
        found = score_cutoffs(
            history,
            asked,
            trainers=trainers,
            ladder=ladder,
            carts=carts,
            baselines=partial(default_baselines, training.evaluation.baselines),
            step=step,
        )
        with step("report and plots"):
            written = report_backtest(found, out, printed)
            log_backtest(run, found, written)
    typer.echo(f"Logged: MLflow run {run.run_id} in {tracking_uri}")


def parse_cutoffs(text: str) -> tuple[datetime, ...]:
    """Return the dates of `2011-06-01,2011-07-01`, UTC.

    Raises:
        ConfigError: a part is no date.
    """
    return tuple(_date(part.strip()) for part in text.split(","))


def report_backtest(found: Backtest, out: Path, printed: Console) -> tuple[Path, ...]:
    """Print the tables, write `backtest.json` and the plots into `out`, and return what was written."""
    for table in backtest_tables(found):
        printed.print(table)
    out.mkdir(parents=True, exist_ok=True)
    results = out / RESULTS
    results.write_text(found.to_json(), "utf-8")
    plots = write_plots(found, out)
    typer.echo(f"Written: {results}, {', '.join(path.name for path in plots)}")
    return (results, *plots)


def _engine(
    spec: ReadSpec, history: History, asked: BacktestConfig, training: TrainConfig, folder: Path, step: Step
) -> tuple[Trainer, Ladder]:
    def read(cutoff: datetime) -> Dataset:
        return read_dataset(spec.model_copy(update={"as_of": cutoff}))

    ladder = freeze_ladder(read, asked.cutoffs[0], training)
    return pipeline_trainer(read, history, training, ladder, folder, step), ladder


def _engine_of(folder: Path) -> EngineAt:
    return lambda cutoff: load_bundle(bundle_at(folder, cutoff)).engine()


def _date(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"cutoff {text!r}, must be a date as 2011-06-01; join several by commas") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
