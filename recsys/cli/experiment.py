"""The command `offers experiment`: power and start before it, status and stop, off-policy values after it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from recsys.cli.events import DEFAULT_STORE, Store
from recsys.cli.journal import decide_command, list_command, no_experiment, plan_text
from recsys.cli.readout import readout_command
from recsys.cli.terminal import output_console
from recsys.errors import ReadoutError
from recsys.experiments.lifecycle import start_experiment, stop_experiment
from recsys.extras import require

if TYPE_CHECKING:
    from rich.table import Table

    from recsys.data.dataset import ReadSpec
    from recsys.evaluation.journal.entries import JournalEntry
    from recsys.evaluation.offline.off_policy import LoggedActions, OffPolicy
    from recsys.evaluation.planning.placebo_results import Placebo
    from recsys.evaluation.planning.sizes import PlannedSizes


def start(
    plan: Annotated[Path, typer.Argument(help="TOML file of the experiment's plan.")], store: Store = DEFAULT_STORE
) -> None:
    """Lock a plan and start its experiment: every server of the store assigns units within a second."""
    from recsys.events.store import open_store
    from recsys.experiments.plan import read_plan

    read = read_plan(plan)
    with closing(open_store(store)) as events:
        record = start_experiment(events, read, datetime.now(UTC))
    begin, end = read.layer_share
    layer = "" if read.layer is None else f"; in the layer {read.layer} from {begin:g} to {end:g}"
    typer.echo(f"{record.experiment_id} version {record.version} runs; plan {record.plan_hash}{layer}")


def status(
    experiment_id: Annotated[str | None, typer.Argument(help="Only this experiment.")] = None,
    store: Store = DEFAULT_STORE,
) -> None:
    """Show the experiments of a store: how far they are, units and planned size, layer, plan."""
    from recsys.evaluation.journal.entries import journal_of
    from recsys.events.store import open_store

    now = datetime.now(UTC)
    with closing(open_store(store)) as events:
        found = journal_of(events, now, experiment_id).entries
    if not found:
        raise no_experiment(experiment_id)
    for entry in found:
        for line in _status_lines(entry, now):
            typer.echo(line)


def _status_lines(entry: JournalEntry, now: datetime) -> Iterator[str]:
    plan, units = entry.plan, ", ".join(f"{arm} {count:,}" for arm, count in entry.units.items()) or "no unit yet"
    yield f"{entry.experiment_id} version {entry.version}: {_state(entry, now)}"
    if plan is not None:
        begin, end = plan.layer_share
        layer = "in no layer" if plan.layer is None else f"in the layer {plan.layer} from {begin:g} to {end:g}"
        units += f"; {plan.planned_size:,} planned in the smallest arm; {layer}"
    yield f"  {units}"
    yield f"  started {entry.started_at:%Y-%m-%d %H:%M} UTC; plan {plan_text(entry)}"


def _state(entry: JournalEntry, now: datetime) -> str:
    """How far an experiment is, and what comes next."""
    plan = entry.plan
    if plan is None:
        return "its plan can't be read by this release"
    if entry.decision is not None:
        return f"{entry.state}, decided {entry.decision.decided} on {entry.decision.decided_at:%Y-%m-%d}"
    due = f"to be decided as of {entry.decision_due:%Y-%m-%d %H:%M} UTC"
    if entry.stopped_at is not None:
        return f"stopped {entry.stopped_at:%Y-%m-%d %H:%M} UTC, {due}"
    if entry.state == "running":
        planned = plan.planned_end - entry.started_at - timedelta.resolution
        days = f"day {(now - entry.started_at).days + 1} of {planned.days + 1}"
        return f"runs, {days}, until {plan.planned_end:%Y-%m-%d %H:%M} UTC"
    if entry.state == "closing":
        ended = f"no unit enters since {plan.planned_end:%Y-%m-%d %H:%M} UTC"
        return f"{ended}, windows close on {plan.windows_end:%Y-%m-%d %H:%M} UTC, {due}"
    return f"ended {plan.windows_end:%Y-%m-%d %H:%M} UTC, {due}"


def stop(experiment_id: Annotated[str, typer.Argument(help="The experiment.")], store: Store = DEFAULT_STORE) -> None:
    """Stop an experiment: no server assigns units to it any more; what was logged stays."""
    from recsys.events.store import open_store

    with closing(open_store(store)) as events:
        record = stop_experiment(events, experiment_id, datetime.now(UTC))
    typer.echo(f"{record.experiment_id} version {record.version} is stopped; it ran since {record.started_at:%Y-%m-%d}")


def power_command(
    orders: Annotated[str, typer.Option(help="Order lines: a file, a folder of files, or URL#table.")],
    effect: Annotated[list[float] | None, typer.Option(help="Relative effect to find.")] = None,
    window_days: Annotated[int, typer.Option(help="Days after an account's entry that count.")] = 28,
    power: Annotated[float, typer.Option(help="Chance of finding the effect.")] = 0.8,
    alpha: Annotated[float, typer.Option(help="Two-sided error.")] = 0.05,
    plan: Annotated[Path | None, typer.Option(help="Its arms' shares, window, alpha and guardrails are sized.")] = None,
    accounts: Annotated[str | None, typer.Option(help="Accounts that are reached, buyers or not.")] = None,
    events: Annotated[str | None, typer.Option(help="Event store: accounts that servers answered.")] = None,
    preset: Annotated[str | None, typer.Option(help="A well-known layout of the orders.")] = None,
    map_: Annotated[str | None, typer.Option("--map", help="Their columns, account_id=customer,....")] = None,
    as_of: Annotated[str | None, typer.Option(help="End of the history, UTC; default: all.")] = None,
    format_: Annotated[Literal["table", "json"], typer.Option("--format", help="How to show it.")] = "table",
) -> None:
    """Show units an arm and days for each metric and effect, with and without pre-period values (CUPED)."""
    require("train", what="offers experiment power")
    from recsys.data.dataset import read_dataset
    from recsys.evaluation.api import power as planned_power
    from recsys.experiments.plan import read_plan

    found = planned_power(
        read_dataset(_history(orders, accounts, preset, map_, as_of)),
        effects=effect,
        window_days=window_days,
        power=power,
        alpha=alpha,
        events=events,
        plan=read_plan(plan) if plan else None,
    )
    if format_ == "json":
        typer.echo(json.dumps([asdict(size) for size in found.sizes], indent=1))
        return
    typer.echo(_sized(found))
    output_console().print(_sizes_table(found))
    if found.planned_sentence:
        typer.echo(found.planned_sentence)


def _history(orders: str, accounts: str | None, preset: str | None, map_: str | None, as_of: str | None) -> ReadSpec:
    """The firm's past as the options name it."""
    from recsys.data.dataset import ReadSpec
    from recsys.data.mapping import parse_map
    from recsys.data.times import parse_moment

    return ReadSpec(
        orders=orders,
        accounts=accounts,
        preset=preset,
        mapping=parse_map(map_) if map_ else {},
        as_of=parse_moment(as_of) if as_of else None,
    )


def _sized(found: PlannedSizes) -> str:
    """Who was measured, and what the sizes are for."""
    who = {
        "ordered": "only those that ordered; give --accounts or --events where others are served too",
        "listed": f"all that are listed, {found.n_buyers:,} of them bought",
        "served": f"those that were served, {found.n_buyers:,} of them bought",
    }[found.entry]
    equal = max(found.shares) - min(found.shares) < 1e-9
    number = {2: "two", 3: "three", 4: "four"}.get(len(found.shares), str(len(found.shares)))
    shares = " / ".join(f"{100 * share:.3g}" for share in found.shares)
    arms = f"{number} equal arms" if equal else f"{number} arms with {shares} % of the units, control first"
    enter = "" if found.entered_a_day is None else f" {found.entered_a_day:,.3g} enter a day."
    counts = f" Units are whole clusters, by {found.cluster}." if found.cluster else ""
    asked = f"{found.power:.0%} power, alpha {found.alpha:g}, {arms}.{counts}"
    left_out = f"\nNot sized, not in past orders or without a margin: {', '.join(found.left_out)}."
    said = f"{found.n_accounts:,} accounts measured, {who}.{enter}\n{asked}"
    return said + (left_out if found.left_out else "")


def _sizes_table(found: PlannedSizes) -> Table:
    from rich.table import Table

    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    units = "units an arm" if len(set(found.shares)) == 1 else "units, smallest arm"
    planned = ["planned"] if found.planned_size is not None else []
    for head in ("metric", "mean", "effect", units, "without CUPED", "days", *planned):
        table.add_column(head, justify="left" if head == "metric" else "right")
    for size in found.sizes:
        days = f"{size.days}" if size.days is not None else "too few accounts"
        numbers = (f"{size.n_per_arm:,}", f"{size.n_per_arm_without:,}", days)
        shown = f"{100 * size.relative:+g} %" if size.margin is None else f"margin {size.margin:.3g}"
        enough = ["enough" if size.is_planned else "too few"] if planned else []
        table.add_row(size.metric, f"{size.mean:,.4g}", shown, *numbers, *enough)
    return table


def placebo_command(
    plan: Annotated[Path, typer.Argument(help="TOML file of the experiment's plan.")],
    orders: Annotated[str, typer.Option(help="Order lines: a file, a folder of files, or URL#table.")],
    effect: Annotated[
        list[float] | None, typer.Option(help="Relative effect to plant; default: the plan's practical_margin, or 0.1.")
    ] = None,
    accounts: Annotated[str | None, typer.Option(help="Accounts that are reached, buyers or not.")] = None,
    events: Annotated[str | None, typer.Option(help="Event store: accounts that servers answered.")] = None,
    cluster: Annotated[str | None, typer.Option(help="Column of accounts that are assigned together.")] = None,
    draws: Annotated[int, typer.Option(help="Assignments that are drawn.", min=1)] = 2_000,
    preset: Annotated[str | None, typer.Option(help="A well-known layout of the orders.")] = None,
    map_: Annotated[str | None, typer.Option("--map", help="Their columns, account_id=customer,....")] = None,
    as_of: Annotated[str | None, typer.Option(help="End of the history, UTC; default: all.")] = None,
    format_: Annotated[Literal["table", "json"], typer.Option("--format", help="How to show it.")] = "table",
) -> None:
    """Try a plan on past orders, before its start: how often it errs where nothing was tested, and what it finds."""
    require("train", what="offers experiment placebo")
    from recsys.data.dataset import read_dataset
    from recsys.evaluation.api import placebo
    from recsys.experiments.plan import read_plan

    found = placebo(
        read_dataset(_history(orders, accounts, preset, map_, as_of)),
        read_plan(plan),
        effects=effect,
        events=events,
        cluster=cluster,
        draws=draws,
    )
    if format_ == "json":
        said = {"outcome": found.outcome, "is_fit": found.is_fit, "sentence": found.sentence}
        typer.echo(json.dumps({**asdict(found), **said}, indent=1))
        return
    _show_placebo(found)


def _show_placebo(found: Placebo) -> None:
    from rich.table import Table

    who = f"{found.n_accounts:,} accounts of the past ({found.n_buyers:,} bought)"
    groups = "" if found.n_clusters is None else f" in {found.n_clusters:,} groups"
    arm = f"about {found.smallest_arm:,.0f} in the smallest arm, {found.planned_size:,} are planned"
    typer.echo(f"{who}{groups}, assigned anew {found.n_draws:,} times; {arm}.")
    if found.n_refused:
        typer.echo(f"{found.n_refused:,} draws left an arm with fewer than 2 accounts; they are not judged.")
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for head in ("where nothing was tested", "found", "stated", "band"):
        table.add_column(head, justify="left" if head.startswith("where") else "right", no_wrap=True)
    for name, rate in {**found.errors.named, "interval covers": found.errors.coverage}.items():
        if rate.stated:
            table.add_row(name, f"{rate.rate:.1%}", f"{rate.stated:.1%}", f"{rate.low:.1%} to {rate.high:.1%}")
    for power in found.power:
        table.add_row(f"SHIP of a planted {100 * power.relative:+.3g}%", f"{power.ship:.1%}", "", "")
    output_console().print(table)
    if found.left_out:
        typer.echo(f"Not tried, not in past orders: {', '.join(found.left_out)}.")
    typer.echo(found.sentence)


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
    output_console().print(_table(found, level))
    typer.echo(_belief(found))


def _of_store(policy: str, url: str) -> LoggedActions:
    from recsys.evaluation.offline.off_policy import SLOT_POLICIES, drawn_slots
    from recsys.events.store import open_store

    known = next((one for one in SLOT_POLICIES if one == policy), None)
    if known is None:
        raise ReadoutError(f"policy == {policy!r}, must be one of {', '.join(SLOT_POLICIES)}")
    with closing(open_store(url)) as events:
        return drawn_slots(events, known)


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


experiment_application = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Plan, start, watch, stop, read out and decide an experiment.",
)


@experiment_application.callback()
def experiment() -> None:
    """Plan, start, watch, stop, read out and decide an experiment."""


experiment_application.command("power")(power_command)
experiment_application.command("placebo")(placebo_command)
experiment_application.command("readout")(readout_command)
experiment_application.command("decide")(decide_command)
experiment_application.command("list")(list_command)
experiment_application.command()(off_policy)
experiment_application.command()(start)
experiment_application.command()(status)
experiment_application.command()(stop)
