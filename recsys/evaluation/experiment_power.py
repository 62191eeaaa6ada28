"""`offers experiment power`: how many accounts and how long an experiment needs, from real orders."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Literal

import typer

from recsys.errors import ReadoutError


def power(
    orders: Annotated[str, typer.Option(help="Order lines: a file, a folder of files, or URL#table.")],
    effect: Annotated[list[float] | None, typer.Option(help="Relative effect to find.")] = None,
    window_days: Annotated[int, typer.Option(help="Days after an account's entry that count.")] = 28,
    power: Annotated[float, typer.Option(help="Chance of finding the effect.")] = 0.8,
    alpha: Annotated[float, typer.Option(help="Two-sided error.")] = 0.05,
    preset: Annotated[str | None, typer.Option(help="A well-known layout of the orders.")] = None,
    map_: Annotated[str | None, typer.Option("--map", help="Their columns, account_id=customer,....")] = None,
    as_of: Annotated[str | None, typer.Option(help="End of the history, UTC; default: all.")] = None,
    format_: Annotated[Literal["table", "json"], typer.Option("--format", help="How to show it.")] = "table",
) -> None:
    """Show units an arm and days for each metric and effect, with and without pre-period values (CUPED)."""
    from rich.console import Console
    from rich.table import Table

    from recsys.data import ReadSpec, parse_map, read_data
    from recsys.data.times import parse_moment
    from recsys.evaluation.readout.gathering import revenue_lines
    from recsys.evaluation.readout.planning import history_of, plan_sizes

    if not 0 < power < 1 or not 0 < alpha < 1:
        raise ReadoutError(f"power == {power}, alpha == {alpha}, both must lie between 0 and 1")
    if window_days < 1:
        raise ReadoutError(f"--window-days {window_days}, must be 1 or more")
    spec = ReadSpec(
        orders=orders,
        preset=preset,
        mapping=parse_map(map_) if map_ else {},
        as_of=parse_moment(as_of) if as_of else None,
    )
    data = read_data(spec)
    history = history_of(revenue_lines(data.orders), data.as_of, window_days)
    found = plan_sizes(history, effect or [0.02, 0.05, 0.1], window_days=window_days, power=power, alpha=alpha)
    if format_ == "json":
        typer.echo(json.dumps([asdict(size) for size in found], indent=1))
        return
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for head in ("metric", "mean", "effect", "units an arm", "without CUPED", "days"):
        table.add_column(head, justify="left" if head == "metric" else "right")
    for size in found:
        days = f"{size.days}" if size.days is not None else "too few accounts"
        numbers = (f"{size.n_per_arm:,}", f"{size.n_per_arm_without:,}", days)
        table.add_row(size.metric, f"{size.mean:,.4g}", f"{100 * size.relative:+g} %", *numbers)
    console = Console()
    console.print(f"{history.n_accounts:,} accounts measured; {power:.0%} power, alpha {alpha:g}, two equal arms.")
    console.print(table)
