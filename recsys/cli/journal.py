"""`offers experiment decide` and `list`: a decision that is worked out once and signed, and the journal of all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from recsys.cli.events import DEFAULT_STORE, Store
from recsys.cli.readout import override_of
from recsys.errors import PlanError

if TYPE_CHECKING:
    from recsys.evaluation.journal.entries import Journal, JournalEntry


def decide_command(
    experiment_id: Annotated[str, typer.Argument(help="An experiment of the event store.")],
    by: Annotated[str, typer.Option(help="Who decides: a person's name.")],
    store: Store = DEFAULT_STORE,
    override: Annotated[str | None, typer.Option(help="A decision against the rules; needs --reason.")] = None,
    reason: Annotated[str, typer.Option(help="Why the rules are overridden.")] = "",
    arm: Annotated[str | None, typer.Option(help="Of the override, where several are compared with control.")] = None,
    accounts: Annotated[str | None, typer.Option(help="account_id and the plan's segments.")] = None,
    currency: Annotated[str | None, typer.Option(help="The currency to keep where orders have several.")] = None,
    format_: Annotated[Literal["text", "json"], typer.Option("--format", help="How to show it.")] = "text",
) -> None:
    """Decide an experiment once its windows are over and late rows are in; store it, signed. A second time shows it."""
    from recsys.evaluation.journal.deciding import decide_experiment
    from recsys.evaluation.readout.results import json_value
    from recsys.events.store import open_store
    from recsys.reporting.formatting import decision_text

    now, against = datetime.now(UTC), override_of(override, reason, arm)
    with closing(open_store(store)) as events:
        found = decide_experiment(
            events, experiment_id, now, signed_by=by, override=against, accounts=accounts, currency=currency
        )
    if format_ == "json":
        typer.echo(json.dumps({"is_new": found.is_new, "decision": json_value(found.decision)}, indent=1))
        return
    typer.echo(decision_text(found.decision))
    typer.echo(f"Because {found.decision.rule}: {found.decision.reason}")
    typer.echo("Stored." if found.is_new else "It was decided before; nothing was stored.")


def list_command(
    experiment_id: Annotated[str | None, typer.Argument(help="Only this experiment.")] = None,
    store: Store = DEFAULT_STORE,
    out: Annotated[Path | None, typer.Option(help="Write the journal as a page, as journal.html.")] = None,
    format_: Annotated[Literal["text", "json"], typer.Option("--format", help="How to show it.")] = "text",
) -> None:
    """List every experiment: hypothesis, state, plan, decision, who, override and why; what all of them earned."""
    from recsys.evaluation.journal.entries import journal_of
    from recsys.events.store import open_store
    from recsys.reporting.journal_page import write_journal

    now = datetime.now(UTC)
    with closing(open_store(store)) as events:
        found = journal_of(events, now, experiment_id)
    if not found.entries:
        raise no_experiment(experiment_id)
    if format_ == "json":
        typer.echo(json.dumps(found.to_dict(), indent=1, ensure_ascii=False))
    else:
        for line in _lines(found):
            typer.echo(line)
    if out is not None:
        write_journal(found, out, now)
        typer.echo(f"Written: {out}", err=format_ == "json")


def no_experiment(experiment_id: str | None) -> PlanError:
    """Return what is to be raised where the store has none, or not that one."""
    what = "no experiment" if experiment_id is None else f"no experiment {experiment_id!r}"
    return PlanError(f"the store has {what}; start one: offers experiment start PLAN")


def plan_text(entry: JournalEntry) -> str:
    """Return the beginning of a plan's hash, and whether the plan still has it."""
    return f"{entry.plan_hash[:12]} {'unchanged' if entry.is_unchanged else 'CHANGED'}"


def _lines(found: Journal) -> Iterator[str]:
    """An experiment in three lines: what nobody may miss must not be cut off by a narrow terminal."""
    from recsys.reporting.formatting import decision_text

    for entry in found.entries:
        yield f"{entry.experiment_id} version {entry.version}: {entry.state}; plan {plan_text(entry)}"
        yield f"  {entry.hypothesis or 'No hypothesis was written down.'}"
        if entry.decision is not None:
            yield f"  {decision_text(entry.decision)}"
        elif entry.decision_due is not None:
            yield f"  Not decided; due {entry.decision_due:%Y-%m-%d %H:%M} UTC."
    yield found.programme.sentence
