"""The command `offers kpis`: figures from order lines and the event log, or the definitions themselves."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recsys.bundle.resolve import DEFAULT_TRACKING_URI
from recsys.cli.terminal import output_console
from recsys.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

    from recsys.evaluation.kpis.results import KpiReport
    from recsys.events.store import EventStore

_FORMATS = ("table", "json", "html")


def kpis_command(
    orders: Annotated[
        str | None,
        typer.Option(help="Order lines: .csv, .tsv, .jsonl, .xlsx, .parquet, a folder, or a database URL#table."),
    ] = None,
    products: Annotated[str | None, typer.Option(help="Products, read the same way; families make cross-sell.")] = None,
    accounts: Annotated[str | None, typer.Option(help="Accounts, read the same way.")] = None,
    upgrades: Annotated[str | None, typer.Option(help="Curated upgrades, read the same way.")] = None,
    events: Annotated[str | None, typer.Option(help="The event store, as sqlite:///var/offers.db.")] = None,
    model: Annotated[
        str | None,
        typer.Option(help="For lifetime value: models:/offers@champion, or the folder of a bundle."),
    ] = None,
    preset: Annotated[str | None, typer.Option(help="A well-known layout, as online-retail-ii.")] = None,
    map_: Annotated[
        str | None, typer.Option("--map", help="account_id=customer,... or a TOML file with them in [columns].")
    ] = None,
    as_of: Annotated[str | None, typer.Option(help="Use nothing at or after this moment (UTC).")] = None,
    since: Annotated[str | None, typer.Option(help="Figures start here; earlier orders tell what was known.")] = None,
    currency: Annotated[str | None, typer.Option(help="The currency to keep where there are several.")] = None,
    time_format: Annotated[str | None, typer.Option(help="How times are written, as %d/%m/%Y %H:%M.")] = None,
    decimal: Annotated[str | None, typer.Option(help="What decimals follow, . or ,; default: found out.")] = None,
    encoding: Annotated[str | None, typer.Option(help="Of text files, as latin-1; default: found out.")] = None,
    by: Annotated[str | None, typer.Option(help="Segments, as channel,category,segment,key_account.")] = None,
    period: Annotated[str, typer.Option(help="day, week, month or quarter.")] = "month",
    window_days: Annotated[int, typer.Option(help="Days after an exposure in which a purchase counts for it.")] = 30,
    families: Annotated[str, typer.Option(help="What makes a family in organic cross-sell: family or category.")] = (
        "family"
    ),
    infer_ladder: Annotated[
        bool, typer.Option("--infer-ladder", help="Take upgrade edges from tiers, names and prices too.")
    ] = False,
    key_accounts: Annotated[str, typer.Option(help="Rule where accounts don't say: top:5% of prior revenue.")] = (
        "top:5%"
    ),
    target: Annotated[list[str] | None, typer.Option(help="NAME=VALUE, as upsell_ratio=0.2; may be repeated.")] = None,
    targets_file: Annotated[
        Path | None,
        typer.Option("--targets", help="TOML file of targets and their sources, as --explain --format toml writes it."),
    ] = None,
    format_: Annotated[
        str, typer.Option("--format", help="table, json or html; with --explain also toml: the benchmarks, to edit.")
    ] = "table",
    out: Annotated[Path | None, typer.Option(help="Write to this file instead.")] = None,
    tracking_uri: Annotated[str, typer.Option(help="Where MLflow keeps its registry.")] = DEFAULT_TRACKING_URI,
    explain: Annotated[bool, typer.Option("--explain", help="Show what every KPI means, without any data.")] = False,
) -> None:
    """Show upsell and cross-sell KPIs, organic and attributed, against the last period and the target."""
    formats = (*_FORMATS, "toml") if explain else _FORMATS
    if format_ not in formats:
        raise ConfigError(f"--format == {format_!r}, must be one of {', '.join(formats)}")
    sources: dict[str, str] = {}
    targets = parse_targets(target or [])
    if targets_file is not None:
        from recsys.evaluation.kpis.definitions.benchmarks import read_benchmarks

        named = read_benchmarks(targets_file)
        sources = {name: said for name, said in named.sources.items() if name not in targets}
        targets = named.targets | targets
    if explain:
        _write(_explained(format_, targets), out)
        return
    if orders is None:
        raise ConfigError("--orders is missing: name the order lines, or ask for the definitions with --explain")
    from recsys.data.dataset import ReadSpec, read_dataset
    from recsys.data.files.texts import parse_encoding
    from recsys.data.mapping import parse_map
    from recsys.data.numbers import parse_decimal
    from recsys.data.times import parse_moment
    from recsys.evaluation.api import kpis, opened_store
    from recsys.evaluation.kpis.config import KpiConfig

    options: dict[str, Any] = {
        "period": period,
        "by": tuple(part.strip() for part in by.split(",") if part.strip()) if by else (),
        "since": None if since is None else parse_moment(since),
        "window_days": window_days,
        "families_by": families,
        "key_accounts": key_accounts,
        "targets": targets,
        "target_sources": sources,
    }
    config = KpiConfig(**options)
    log: AbstractContextManager[EventStore | None] = nullcontext() if events is None else opened_store(events)
    with log as store:
        data = read_dataset(
            ReadSpec(
                orders=orders,
                products=products,
                accounts=accounts,
                upgrades=upgrades,
                preset=preset,
                mapping={} if map_ is None else parse_map(map_),
                as_of=None if as_of is None else parse_moment(as_of),
                currency=currency,
                time_format=time_format,
                decimal=parse_decimal(decimal),
                encoding=parse_encoding(encoding),
            )
        )
        if infer_ladder:
            from recsys.ladder.edges import Ladder

            data = replace(data, upgrades=Ladder.build(data).edges)
        report = kpis(data, events=store, config=config, lifetime_values=_lifetime_values(model, tracking_uri))
    _write(_rendered(report, format_), out)


def _lifetime_values(model: str | None, tracking_uri: str) -> pa.Table | None:
    if model is None:
        return None
    from recsys.bundle.arrow import lifetime_value_table
    from recsys.bundle.load import load_bundle
    from recsys.bundle.resolve import resolve_model

    return lifetime_value_table(load_bundle(resolve_model(model, tracking_uri=tracking_uri)).model)


def parse_targets(given: list[str]) -> dict[str, float]:
    """Return targets by KPI from NAME=VALUE, several with commas; 20% is 0.2.

    Raises:
        ConfigError: a pair is not NAME=VALUE.

    Example:
        >>> parse_targets(["upsell_ratio=20%,attrition=0.3"])
        {'upsell_ratio': 0.2, 'attrition': 0.3}
    """
    targets = {}
    for pair in [part for text in given for part in text.split(",")]:
        name, equals, value = pair.partition("=")
        share = value.strip().endswith("%")
        try:
            number = float(value.strip().removesuffix("%"))
        except ValueError:
            number = None
        if not equals or number is None:
            raise ConfigError(f"--target {pair!r}: must be NAME=VALUE, as upsell_ratio=0.2 or upsell_ratio=20%")
        targets[name.strip()] = number / 100 if share else number
    return targets


def _explained(form: str, targets: dict[str, float]) -> str:
    import json

    from recsys.reporting.kpi_text import explain_document, explain_page, explain_text

    if form == "toml":
        from recsys.evaluation.kpis.definitions.benchmarks import benchmark_text

        return benchmark_text()
    if form == "json":
        return json.dumps(explain_document(targets), indent=1) + "\n"
    return explain_page(targets) if form == "html" else explain_text(targets)


def _rendered(report: KpiReport, form: str) -> str:

    if form == "json":
        return report.to_json()
    if form == "html":
        from recsys.reporting.kpi_page import report_page

        return report_page(report)
    from recsys.reporting.kpi_text import report_table

    shown = output_console()
    with shown.capture() as captured:
        shown.print(report_table(report))
    return captured.get()


def _write(text: str, out: Path | None) -> None:
    if out is None:
        sys.stdout.write(text)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    typer.echo(f"Wrote {out}")
