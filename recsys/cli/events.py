"""`offers export`, `offers retention` and `offers forget`: the upkeep of an event store."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from recsys.errors import ConfigError

if TYPE_CHECKING:
    from recsys.contracts.events import TableName

Store = Annotated[str, typer.Option(help="Event store of the servers: sqlite:///FILE or postgresql://HOST/NAME.")]
DEFAULT_STORE = "sqlite:///var/offers.db"

_SETTLE_SECONDS = 2.0
"""A running server hears of an erasure within a second; until then it may still write of the account."""


def export_command(
    table: Annotated[str, typer.Option(help="decisions, decision_offers, outcomes, order_lines, assignments, ...")],
    out: Annotated[Path, typer.Option(help="Folder; a day goes to OUT/TABLE/day=YYYY-MM-DD/part.parquet.")],
    store: Store = DEFAULT_STORE,
    since: Annotated[str | None, typer.Option(help="First day, YYYY-MM-DD, UTC.")] = None,
    until: Annotated[str | None, typer.Option(help="First day that is left out, YYYY-MM-DD, UTC.")] = None,
) -> None:
    """Write a table of the event store to Parquet, one file a day; a day that is there already is replaced."""
    from recsys.events.maintenance import export_events
    from recsys.events.store import open_store

    with closing(open_store(store)) as events:
        days = export_events(events, _table(table), out, _day("--since", since), _day("--until", until))
    typer.echo(f"{sum(days.values()):,} rows of {len(days):,} days in {out / table}")


def retention_command(
    days: Annotated[int, typer.Option(min=1, help="What is older goes.")],
    store: Store = DEFAULT_STORE,
) -> None:
    """Drop decisions, outcomes, order lines and logins by age. Experiments that run longer lose their beginning."""
    from recsys.events.maintenance import RETAINED, drop_before
    from recsys.events.store import open_store

    before = datetime.now(UTC) - timedelta(days=days)
    with closing(open_store(store)) as events:
        gone = {name: drop_before(events, name, before) for name in RETAINED}
    counts = ", ".join(f"{count:,} {name}" for name, count in gone.items())
    typer.echo(f"Dropped from before {before:%Y-%m-%d %H:%M}: {counts}")


def forget_command(
    account: Annotated[str, typer.Argument(help="Id of the account.")],
    store: Store = DEFAULT_STORE,
) -> None:
    """Erase an account's data. Servers treat it as unknown within a second, whatever a bundle still holds of it."""
    import time

    from recsys.events.maintenance import erase_account as erase
    from recsys.events.store import open_store

    with closing(open_store(store)) as events:
        gone = erase(events, account, datetime.now(UTC), lambda: time.sleep(_SETTLE_SECONDS))
    counts = ", ".join(f"{count:,} {name}" for name, count in gone.items() if count) or "nothing"
    typer.echo(
        f"Erased from the store: {counts}. Bundles and exports still hold what they were made from; train again."
    )


def _table(name: str) -> TableName:
    from recsys.contracts.events import TableName

    for table in get_args(TableName):
        if table == name:
            return table  # type: ignore[no-any-return]
    raise ConfigError(f"--table == {name!r}, must be one of {', '.join(get_args(TableName))}")


def _day(option: str, text: str | None) -> datetime | None:
    try:
        return None if text is None else datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise ConfigError(f"{option} == {text!r}, must be a day like 2026-03-01") from None
