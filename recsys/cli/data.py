"""`offers check` and `offers simulate`: look at data before training, or make some."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from recsys.cli.terminal import output_console
from recsys.errors import ConfigError

if TYPE_CHECKING:
    from recsys.data.proposal import Proposal


def check_command(
    orders: Annotated[
        str, typer.Option(help="Order lines: .csv, .tsv, .jsonl, .xlsx, .parquet, a folder, or a database URL#table.")
    ],
    products: Annotated[str | None, typer.Option(help="Products, read the same way.")] = None,
    accounts: Annotated[str | None, typer.Option(help="Accounts, read the same way.")] = None,
    upgrades: Annotated[str | None, typer.Option(help="Curated upgrades, read the same way.")] = None,
    preset: Annotated[str | None, typer.Option(help="A well-known layout, as online-retail-ii.")] = None,
    map_: Annotated[
        str | None, typer.Option("--map", help="account_id=customer,... or a TOML file with them in [columns].")
    ] = None,
    as_of: Annotated[str | None, typer.Option(help="Use nothing at or after this moment (UTC).")] = None,
    currency: Annotated[str | None, typer.Option(help="The currency to keep where there are several.")] = None,
    time_format: Annotated[str | None, typer.Option(help="How times are written, as %d/%m/%Y %H:%M.")] = None,
    decimal: Annotated[str | None, typer.Option(help="What decimals follow, . or ,; default: found out.")] = None,
    encoding: Annotated[str | None, typer.Option(help="Of text files, as latin-1; default: found out.")] = None,
    write_map: Annotated[Path | None, typer.Option(help="Write the mapping to this TOML file, for --map.")] = None,
    rejects: Annotated[Path | None, typer.Option(help="Write the rejected rows to this .csv or .parquet file.")] = None,
) -> None:
    """Read order lines, propose which column is which, and show what would be rejected and why."""
    from recsys.data.dataset import ReadSpec, read_dataset
    from recsys.data.files.texts import parse_encoding
    from recsys.data.mapping import parse_map, write_map_file
    from recsys.data.numbers import parse_decimal
    from recsys.data.times import parse_moment

    shown = output_console()
    mapping = parse_map(map_) if map_ is not None else {}
    mapping = _proposed(shown, (orders, products, accounts), mapping, preset, parse_encoding(encoding))
    if write_map is not None:
        if preset is not None:
            raise ConfigError(f"--write-map with --preset {preset}: a preset needs no mapping; leave one of them out")
        write_map_file(mapping, write_map)
        typer.echo(f"Wrote the mapping to {write_map}; use it with --map {write_map}")
    spec = ReadSpec(
        orders=orders,
        products=products,
        accounts=accounts,
        upgrades=upgrades,
        preset=preset,
        mapping=mapping,
        as_of=parse_moment(as_of) if as_of is not None else None,
        currency=currency,
        time_format=time_format,
        decimal=parse_decimal(decimal),
        encoding=parse_encoding(encoding),
        rejects=rejects,
    )
    data = read_dataset(spec, warn=False)  # the report shows the warnings
    shown.print(data.report)
    typer.echo(f"{len(data.accounts):,} accounts, {len(data.products):,} products.")
    if rejects is not None:
        typer.echo(f"Wrote the rejected rows to {rejects}")


def simulate_command(
    out: Annotated[Path, typer.Option(help="The folder to write the tables to; its truth/ holds what was planted.")],
    accounts: Annotated[int, typer.Option(help="How many accounts.")] = 5_000,
    products: Annotated[int, typer.Option(help="How many products.")] = 4_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same market.")] = 0,
) -> None:
    """Write a simulated market with known complements, substitutes and upgrades."""
    from recsys.simulation.constants import MarketConfig
    from recsys.simulation.market import write_market

    config = MarketConfig(n_accounts=accounts, n_products=products, seed=seed)
    with Console().status("Simulating"):
        n_lines = write_market(config, out)
    typer.echo(f"Wrote {n_lines:,} order lines of {accounts:,} accounts to {out}")


def _proposed(
    console: Console,
    places: tuple[str, str | None, str | None],
    mapping: dict[str, str],
    preset: str | None,
    encoding: str | None,
) -> dict[str, str]:
    """The mapping as proposed for each table, where the user said nothing else; shown as tables."""
    from recsys.contracts.tables import ACCOUNTS, ORDERS, PRODUCTS
    from recsys.data.presets import find_preset, matching_preset
    from recsys.data.proposal import propose_for_table, propose_mapping, sample_ids
    from recsys.data.sources import connect, open_source

    connection = connect()
    source = open_source(connection, places[0], name=ORDERS.name, encoding=encoding)
    complete = dict(mapping)
    if preset is None:
        known = matching_preset(source.columns)
        if known is not None and not mapping:
            typer.echo(f"This is the layout of preset {known}: `--preset {known}` knows more than a mapping can.")
        proposals = propose_mapping(source, mapping)
        _show(console, proposals)
        unused = [name for name in source.columns if name not in {item.column for item in proposals}]
        if unused:
            typer.echo(f"Not used: {', '.join(unused)}")
        complete = {item.name: item.column for item in proposals} | mapping
    in_orders = complete if preset is None else {**find_preset(preset).mapping, **mapping}
    for schema, place in zip((PRODUCTS, ACCOUNTS), places[1:], strict=True):
        if place is not None:
            (key,) = schema.key
            table = open_source(connection, place, name=schema.name, encoding=encoding)
            found = propose_for_table(table, schema, mapping, ids=sample_ids(source, in_orders.get(key, "")))
            _show(console, found)
            complete |= {item.name: item.column for item in found if item.because != "given"}
    return complete


def _show(console: Console, proposals: Sequence[Proposal]) -> None:
    grid = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for head in ("contract", "column", "because of", "first values"):
        grid.add_column(head, no_wrap=head != "first values")
    for item in proposals:
        grid.add_row(item.name, Text(item.column), item.because, Text(", ".join(item.examples)))
    console.print(grid)
