"""`offers serve` and `offers key`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recsys.bundle.resolve import DEFAULT_TRACKING_URI

KEYS_FILE = Path("var/keys.json")


def serve_command(
    model: Annotated[
        str, typer.Option(help="models:/NAME@ALIAS, models:/NAME/VERSION, or the folder of a bundle.")
    ] = "models:/offers@champion",
    host: Annotated[str, typer.Option(help="Beyond loopback only with --keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes a free one.")] = 8000,
    store: Annotated[
        str, typer.Option(help="Event store: sqlite:///FILE or postgresql://HOST/NAME.")
    ] = "sqlite:///var/offers.db",
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes; they share the bundle's memory.")] = 1,
    config: Annotated[Path | None, typer.Option(help="TOML file of the server's settings.")] = None,
    keys: Annotated[
        Path | None,
        typer.Option(
            readable=False, help="`offers key create` makes this file of API keys; every caller then needs one."
        ),
    ] = None,
    rules: Annotated[
        Path | None, typer.Option(help="TOML file of business rules; a running server takes a change within a second.")
    ] = None,
    tracking_uri: Annotated[str, typer.Option(help="Where MLflow keeps its registry.")] = DEFAULT_TRACKING_URI,
) -> None:
    """Serve offers over HTTP; every answer is in the event store before it is sent."""
    from datetime import UTC, datetime

    from recsys.contracts.config import read_config
    from recsys.offer_catalogue.business_rules import read_rules
    from serving.http.keys import read_keys
    from serving.models.finding import finder_of
    from serving.processes.server import ServerConfig, reserve, run
    from serving.settings import Settings

    settings = Settings() if config is None else read_config(config, Settings)
    files = {"keys_file": keys, "rules_file": rules}
    settings = settings.model_copy(update={name: file for name, file in files.items() if file is not None})
    if settings.rules_file is not None:
        read_rules(settings.rules_file)
    if settings.keys_file is not None:
        read_keys(settings.keys_file)
    with reserve(host, port, keys=settings.keys_file is not None) as reserved:
        found = finder_of(settings, tracking_uri, lambda: datetime.now(UTC)).first(model)
        run(ServerConfig(model, tracking_uri, found, store, settings, workers), reserved)


key = typer.Typer(
    help="Make, list and revoke API keys; a running server takes the change within a second.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# What a file is readable for is said where it is read, with user, mode and remedy.
_KeysOption = Annotated[Path, typer.Option(readable=False, help="The file of keys; it holds hashes, never a key.")]


@key.command("create")
def create_key(
    name: Annotated[str, typer.Option(help="What uses the key.")],
    owner: Annotated[str, typer.Option(help="Who answers for it: a person or a team.")],
    role: Annotated[
        str | None, typer.Option(help="storefront, sales, orders, operator or administrator: a named set of scopes.")
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(help="In place of a role: offers, outcomes, sales or admin; may be given several times."),
    ] = None,
    keys: _KeysOption = KEYS_FILE,
    days: Annotated[int | None, typer.Option(min=1, help="The key holds that long; left out, until revoked.")] = None,
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="Requests a second that each worker lets it ask; left out, any.")
    ] = None,
    burst: Annotated[int, typer.Option(min=1, help="Requests that it may ask at once after a pause.")] = 20,
) -> None:
    """Make a key, print it once, and write its hash to the file."""
    from datetime import UTC, datetime, timedelta

    from serving.http.keys import KeyFile, change_keys, new_key, parse_role, parse_scopes

    now = datetime.now(UTC)
    text, entry = new_key(
        name,
        parse_scopes(scope) if scope else (),
        now=now,
        owner=owner,
        role=None if role is None else parse_role(role),
        expires_at=None if days is None else now + timedelta(days=days),
        requests_per_second=rate,
        burst=burst,
    )
    change_keys(keys, lambda known: KeyFile(keys=(*known.keys, entry)))
    typer.echo(text)
    typer.echo(f"Key {entry.key_id} of {name} is in {keys}; the key itself is not shown again.", err=True)


@key.command("list")
def list_keys(keys: _KeysOption = KEYS_FILE) -> None:
    """Show what keys there are, who answers for them and what they open."""
    from serving.http.keys import read_keys

    for entry in read_keys(keys).keys:
        scopes = ",".join(entry.granted_scopes)
        opens = scopes if entry.role is None else f"{entry.role} ({scopes})"
        until = "" if entry.expires_at is None else f"  until {entry.expires_at:%Y-%m-%d}"
        typer.echo(f"{entry.key_id}  {entry.name}  {entry.owner or 'no owner'}  {opens}{until}")


@key.command("revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(help="As `offers key list` shows it.")], keys: _KeysOption = KEYS_FILE
) -> None:
    """Take a key out of the file; running servers refuse it within a second."""
    from serving.http.keys import change_keys, without_key

    change_keys(keys, lambda known: without_key(known, key_id))
    typer.echo(f"Key {key_id} opens nothing any more.")
