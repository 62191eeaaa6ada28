"""`offers experiment off-policy`: what another policy would have earned, from logged propensities."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from recsys.errors import ReadoutError
from recsys.evaluation.experiment_lifecycle import DEFAULT_STORE

if TYPE_CHECKING:
    from rich.table import Table

    from recsys.evaluation.offline.off_policy import LoggedActions, OffPolicy


def off_policy(
    policy: Annotated[
        str | None, typer.Argument(help="Of the event store: first (no exploration) or drawn (exploration always).")
    ] = None,
    store: Annotated[str, typer.Option(help="Event store of the servers.")] = DEFAULT_STORE,
    data: Annotated[
        str | None, typer.Option(help="One row a decision: .csv, .parquet, a folder of them, or URL#table.")
    ] = None,
    reward: Annotated[str, typer.Option(help="Column of what the action brought.")] = "reward",
    propensity: Annotated[str, typer.Option(help="Column of the logged probability of the action.")] = "propensity",
    target: Annotated[str, typer.Option(help="Column of its probability under the target policy.")] = "target",
    unit: Annotated[str | None, typer.Option(help="Column of the account; default: every row is a unit.")] = None,
    expected: Annotated[
        str | None, typer.Option(help="Column of the reward that a model expects of the action.")
    ] = None,
    expected_of_target: Annotated[
        str | None, typer.Option(help="Column of the reward that it expects of the target policy.")
    ] = None,
    largest_weight: Annotated[float | None, typer.Option(help="Cut weights there; default: not at all.")] = None,
    level: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    format_: Annotated[Literal["table", "json"], typer.Option("--format", help="How to show it.")] = "table",
) -> None:
    """Estimate the reward a decision of another policy by IPS, SNIPS and, with a model of the reward, DR."""
    from rich.console import Console

    from recsys.evaluation.offline.off_policy import actions_of, evaluate_policy

    if (policy is None) == (data is None):
        raise ReadoutError(
            "give either a policy of the event store, first or drawn, or --data with a table of decisions"
        )
    if data is None:
        log = _of_store(str(policy), store)
    else:
        named = {"reward": reward, "propensity": propensity, "target": target, "unit": unit}
        named |= {"expected": expected, "expected_of_target": expected_of_target}
        log = actions_of(data, {field: column for field, column in named.items() if column is not None})
    found = evaluate_policy(log, level=level, largest_weight=largest_weight)
    if format_ == "json":
        typer.echo(json.dumps({**asdict(found), "overlaps": found.overlaps}, indent=1))
        return
    console = Console()
    console.print(_table(found, level))
    console.print(_belief(found))


def _of_store(policy: str, url: str) -> LoggedActions:
    from recsys.evaluation.offline.off_policy import SLOT_POLICIES, drawn_slots
    from recsys.events import open_store

    known = next((one for one in SLOT_POLICIES if one == policy), None)
    if known is None:
        raise ReadoutError(f"policy == {policy!r}, must be one of {', '.join(SLOT_POLICIES)}")
    events = open_store(url)
    try:
        return drawn_slots(events, known)
    finally:
        events.close()


def _table(found: OffPolicy, level: float) -> Table:
    from rich.table import Table

    table = Table(title="Reward a decision", title_justify="left", box=None, header_style="bold", padding=(0, 2, 0, 0))
    for head in ("policy", "estimate", f"{level:.0%}", "standard error"):
        table.add_column(head, justify="left" if head == "policy" else "right", no_wrap=True)
    rows = [("as logged", found.logged), *((f"target, {one.estimator}", one) for one in found.values)]
    for name, one in rows:
        table.add_row(name, f"{one.estimate:.5g}", f"{one.low:.5g} to {one.high:.5g}", f"{one.standard_error:.2g}")
    return table


def _belief(found: OffPolicy) -> str:
    counts = f"{found.n_decisions:,} decisions of {found.n_units:,} units"
    weights = f"mean weight {found.mean_weight:.3f}, largest {found.largest_weight:.3g}"
    said = f"{counts}, worth {found.effective_decisions:,.0f} unweighted ones; {weights}."
    if found.overlaps:
        return said
    return f"{said} The mean weight is not 1: the log lacks actions of the target, or propensities are not as told."
