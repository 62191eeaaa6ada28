"""The commands `offers recommend`, the offers of every account in one file, and `offers rules check`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar, get_args

import typer
from rich.console import Console
from rich.progress import track
from uuid6 import uuid7

from recsys.bundle.load import load_bundle
from recsys.bundle.resolve import DEFAULT_TRACKING_URI, ResolvedModel, resolve
from recsys.cli.terminal import output_console
from recsys.contracts.decisions import Decision
from recsys.contracts.offers import KINDS, Mix, Objective, OfferKind, OfferRequest, Slate, Variants
from recsys.errors import ConfigError
from recsys.events.store import EventStore, open_store
from recsys.ranking.batch import BLOCK_ACCOUNTS, Answered, Record, answers, write_offers

_T = TypeVar("_T")

SURFACE = "bulk"


def recommend_command(
    model: Annotated[str, typer.Option(help="models:/offers@champion, models:/offers/3, or the folder of a bundle.")],
    out: Annotated[Path, typer.Option(help="The file to write: .parquet or .csv.")],
    limit: Annotated[int, typer.Option(help="Offers an account.")] = 10,
    kinds: Annotated[str, typer.Option(help="cross_sell, upsell, or both with a comma.")] = ",".join(KINDS),
    objective: Annotated[str, typer.Option(help="conversion, revenue or margin.")] = "conversion",
    mix: Annotated[
        str | None, typer.Option(help="Of what a share of the ranks at most is filled: kinds, categories, all or none.")
    ] = None,
    variants: Annotated[
        str | None, typer.Option(help="leave_out or keep products that differ in a colour or pattern alone.")
    ] = None,
    language: Annotated[
        str | None, typer.Option(help="Of the reasons, such as de; the account's comes first where it is left out.")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="The ranker's own order; value and diversity off.")] = False,
    log: Annotated[bool, typer.Option("--log", help="Record every slate as a decision; adds decision_id.")] = False,
    store: Annotated[str, typer.Option(help="Where --log records decisions.")] = "sqlite:///var/offers.db",
    tracking_uri: Annotated[str, typer.Option(help="Where MLflow keeps its registry.")] = DEFAULT_TRACKING_URI,
) -> None:
    """Write the offers of every account of a model to one file, rank 1 best."""
    pattern = OfferRequest(
        kinds=parse_kinds(kinds),
        limit=_positive(limit),
        objective=_one_of("objective", objective, get_args(Objective)),
        mix=None if mix is None else _one_of("mix", mix, get_args(Mix)),
        variants=None if variants is None else _one_of("variants", variants, get_args(Variants)),
        language=language,
        raw=raw,
    )
    found = resolve(model, tracking_uri=tracking_uri)
    engine = load_bundle(found.path).engine()
    engine.check_objective(pattern.objective)
    blocks = _shown(answers(engine, pattern), len(engine.model.accounts.ids))
    n_offers = _write_logged(out, blocks, found, store) if log else write_offers(out, blocks)
    typer.echo(f"{n_offers:,} offers for {len(engine.model.accounts.ids):,} accounts in {out}")


def parse_kinds(text: str) -> tuple[OfferKind, ...]:
    """Return the kinds that a text with commas names, without doubles.

    Raises:
        ConfigError: one is unknown, or there is none.
    """
    names = [part.strip() for part in text.split(",") if part.strip()]
    kinds: list[OfferKind] = [kind for kind in KINDS if kind in names]
    strangers = [name for name in names if name not in KINDS]
    if strangers or not kinds:
        raise ConfigError(f"--kinds == {text!r}, must name {' or '.join(KINDS)}; separate two with a comma")
    return tuple(kinds)


def _one_of(name: str, text: str, known: tuple[_T, ...]) -> _T:
    for value in known:
        if text == value:
            return value
    raise ConfigError(f"--{name} == {text!r}, must be one of {', '.join(map(str, known))}")


def _positive(limit: int) -> int:
    if limit < 1:
        raise ConfigError(f"--limit == {limit}, must be 1 or more; ask for at least one offer an account")
    return limit


def _shown(blocks: Iterable[list[Answered]], n_accounts: int) -> Iterator[list[Answered]]:
    n_blocks = -(-n_accounts // BLOCK_ACCOUNTS)
    console = Console(stderr=True)
    yield from track(blocks, "Offers", total=n_blocks, console=console, disable=not sys.stderr.isatty())


def _write_logged(out: Path, blocks: Iterable[list[Answered]], found: ResolvedModel, url: str) -> int:
    if url.startswith("sqlite:///"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    with closing(open_store(url)) as events:
        return write_offers(out, blocks, _recorder(events, found.version))


def _recorder(events: EventStore, model_version: str) -> Record:
    def record(block: list[Answered]) -> list[str]:
        now = datetime.now(tz=UTC)
        decisions = [_decision(request, slate, model_version, now) for request, slate in block]
        events.append(decisions)
        return [decision.decision_id for decision in decisions]

    return record


def _decision(request: OfferRequest, slate: Slate, model_version: str, now: datetime) -> Decision:
    return Decision(
        decision_id=str(uuid7()),
        decided_at=now,
        request=request,
        model_version=model_version,
        objective=slate.objective,
        tier=slate.tier,
        horizon_days=slate.horizon_days,
        n_considered=slate.n_considered,
        offers=slate.offers,
        shortfall=slate.shortfall,
        surface=SURFACE,
    )


rules_application = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Business rules about offers.",
)


@rules_application.callback()
def rules() -> None:
    """Business rules about offers."""


@rules_application.command("check")
def check_rules_command(file: Annotated[Path, typer.Argument(help="TOML file of the business rules.")]) -> None:
    """Check a file of business rules, and show what each rule is about and whether it holds now."""
    from rich.table import Table

    from recsys.offer_catalogue.business_rules import read_rules

    found, now = read_rules(file), datetime.now(UTC)
    table = Table("rule", "action", "about", "where", "now", "owner")
    for rule in found.rules:
        about = [*rule.products, *(f"category {name}" for name in rule.categories)]
        where = [*rule.segments, *rule.regions, *rule.channels, *rule.surfaces]
        shown = ", ".join(about[:4]) + (f" and {len(about) - 4:,} more" if len(about) > 4 else "")
        holds = "holds" if rule.holds(now) else "does not"
        table.add_row(rule.name, rule.action, shown, ", ".join(where) or "everywhere", holds, rule.owner)
    output_console().print(table)
    typer.echo(f"{len(found.rules):,} rules, version {found.version}")
