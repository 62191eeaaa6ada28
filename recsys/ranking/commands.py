"""`offers rules check`: is the file of business rules right, and what does it come to?"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

application = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Business rules about offers.",
)


@application.callback()
def rules() -> None:
    """Business rules about offers."""


@application.command()
def check(file: Annotated[Path, typer.Argument(help="TOML file of the business rules.")]) -> None:
    """Check a file of business rules, and show what each rule is about and whether it holds now."""
    from rich.console import Console
    from rich.table import Table

    from recsys.ranking.rules import read_rules

    found, now = read_rules(file), datetime.now(UTC)
    table = Table("rule", "action", "about", "where", "now", "owner")
    for rule in found.rules:
        about = [*rule.products, *(f"category {name}" for name in rule.categories)]
        where = [*rule.segments, *rule.regions, *rule.channels]
        shown = ", ".join(about[:4]) + (f" and {len(about) - 4:,} more" if len(about) > 4 else "")
        holds = "holds" if rule.holds(now) else "does not"
        table.add_row(rule.name, rule.action, shown, ", ".join(where) or "everywhere", holds, rule.owner)
    Console().print(table)
    typer.echo(f"{len(found.rules):,} rules, version {found.version}")
