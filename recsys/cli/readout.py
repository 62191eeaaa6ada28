"""`offers experiment readout`: judge an experiment from the event store or from a table."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, cast, get_args

import typer

from recsys.cli.events import DEFAULT_STORE
from recsys.cli.terminal import output_console
from recsys.errors import ReadoutError

if TYPE_CHECKING:
    from recsys.evaluation.readout.design import ReadoutConfig
    from recsys.evaluation.readout.from_table import TableSpec
    from recsys.evaluation.readout.results import Readout
    from recsys.evaluation.readout.verdict import VerdictOverride
    from recsys.experiments.plan import LockedPlan


_ALWAYS: Final = {"override", "reason", "out", "mlflow_run"}
_COLUMNS: Final = {
    *("arm", "control", "metric", "covariate", "primary", "guardrail", "money", "currency", "share", "alpha"),
    *("practical_margin", "correction", "interim", "plan", "plan_hash", "started", "as_of"),
}
_ROWS: Final = {*_COLUMNS, "data", "unit", "segment", "cluster", "cap", "quality", "assigned_at"}
_APPLY: Final[Mapping[str, set[str]]] = {
    "an experiment of the event store": {"experiment_id", "store", "accounts", "currency", "as_of"},
    "--data": {*_ROWS, "exposed", "decompose", "attributed", "aggregate"},
    "--data with --orders": {*_ROWS, "orders", "preset", "map_", "window_days"},
    "--sums": {*_COLUMNS, "sums", "day", "experiment"},
    "a stored readout.json": {"sums"},
}
"""Which options say something in which form; any other is refused by name, as it would be passed over in silence."""
_PLANNED: Final = {"share", "alpha", "practical_margin", "window_days"}
"""What the plan has decided."""


def readout_command(
    context: typer.Context,
    experiment_id: Annotated[
        str | None, typer.Argument(help="An experiment of the event store; leave it out with --data.")
    ] = None,
    store: Annotated[str, typer.Option(help="Event store of the servers.")] = DEFAULT_STORE,
    accounts: Annotated[
        str | None, typer.Option(help="Of a store's experiment: account_id and the plan's segments.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="One row a unit: .csv, .parquet, a folder of them, or URL#table.")
    ] = None,
    sums: Annotated[
        str | None,
        typer.Option(help="One row an arm: n, x_mean, x_variance or x_sum, x_squares; or a readout.json."),
    ] = None,
    day: Annotated[str | None, typer.Option(help="With --sums: column of the day, its rows hold sums to date.")] = None,
    experiment: Annotated[
        str | None, typer.Option(help="With --sums in ASOS' layout: one of its experiment_id.")
    ] = None,
    arm: Annotated[str, typer.Option(help="Column of the arm.")] = "arm",
    control: Annotated[str, typer.Option(help="The arm that the others are compared with.")] = "control",
    metric: Annotated[
        list[str] | None, typer.Option(help="NAME=COLUMN[/COLUMN] or NAME=quantile(COLUMN,0.9); first mean decides.")
    ] = None,
    unit: Annotated[str | None, typer.Option(help="Column of the account; default: every row is a unit.")] = None,
    covariate: Annotated[list[str] | None, typer.Option(help="Pre-period values, NAME=COLUMN[+COLUMN].")] = None,
    primary: Annotated[str | None, typer.Option(help="The metric that decides, a mean per unit.")] = None,
    guardrail: Annotated[list[str] | None, typer.Option(help="NAME=MARGIN[%][:lower|:higher]: what is good.")] = None,
    quality: Annotated[
        list[str] | None, typer.Option(help="NAME=COLUMN[/COLUMN] that no treatment can move: shows lost data.")
    ] = None,
    money: Annotated[list[str] | None, typer.Option(help="A metric whose values are money.")] = None,
    segment: Annotated[list[str] | None, typer.Option(help="Column by which the primary is split.")] = None,
    cluster: Annotated[
        str | None, typer.Option(help="Column by which arms were assigned, as company_id; default: the unit.")
    ] = None,
    exposed: Annotated[str | None, typer.Option(help="Column of 0 and 1: met the treatment, or would have.")] = None,
    share: Annotated[list[str] | None, typer.Option(help="Planned share, ARM=NUMBER; default: equal.")] = None,
    decompose: Annotated[str | None, typer.Option(help="COLUMN,COLUMN,...: the total last, as buyers,revenue.")] = None,
    attributed: Annotated[str | None, typer.Option(help="Column of the revenue credited to offers.")] = None,
    cap: Annotated[
        list[str] | None, typer.Option(help="Cap at this quantile of the positive values: 0.99, or METRIC=0.99.")
    ] = None,
    alpha: Annotated[float, typer.Option(help="Two-sided error of the primary.")] = 0.05,
    practical_margin: Annotated[float, typer.Option(help="Smallest effect worth having, share of control.")] = 0.0,
    correction: Annotated[str, typer.Option(help="Of the secondary family: holm or bh.")] = "holm",
    aggregate: Annotated[bool, typer.Option(help="Add up several rows of one unit.")] = False,
    interim: Annotated[
        bool, typer.Option(help="The run is not over: only the anytime-valid interval decides.")
    ] = False,
    plan: Annotated[
        Path | None, typer.Option(help="The plan (TOML): shares, alpha and assignment are checked.")
    ] = None,
    plan_hash: Annotated[str | None, typer.Option(help="The hash under which the plan was locked.")] = None,
    orders: Annotated[str | None, typer.Option(help="Order lines: metrics are read off them, by account.")] = None,
    currency: Annotated[str | None, typer.Option(help="Of the money; with --orders the one to keep.")] = None,
    preset: Annotated[str | None, typer.Option(help="A well-known layout of the orders.")] = None,
    map_: Annotated[str | None, typer.Option("--map", help="Columns of the orders, account_id=customer,....")] = None,
    assigned_at: Annotated[str | None, typer.Option(help="Column of the assignment's time.")] = None,
    window_days: Annotated[int, typer.Option(help="With --orders: days after the assignment that count.")] = 28,
    started: Annotated[str | None, typer.Option(help="When all units, or the plan, started.")] = None,
    as_of: Annotated[str | None, typer.Option(help="Judge as of this moment (UTC), at most now; default: now.")] = None,
    override: Annotated[str | None, typer.Option(help="A decision against the rules; needs --reason.")] = None,
    reason: Annotated[str, typer.Option(help="Why the rules are overridden.")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder for readout.json, readout.html and readout.md.")] = None,
    mlflow_run: Annotated[str | None, typer.Option(help="Log the report to this MLflow run.")] = None,
) -> None:
    """Judge an experiment: health first, then effects with intervals, then a verdict."""
    from recsys.data.dataset import ReadSpec
    from recsys.data.mapping import parse_map
    from recsys.data.times import parse_moment
    from recsys.evaluation.readout.from_orders import OrdersSpec, orders_readout
    from recsys.evaluation.readout.from_table import TableSpec, table_readout, with_plan
    from recsys.evaluation.readout.sums.from_sums import stored_readout, sums_readout
    from recsys.evaluation.statistics.metric import parse_margins, parse_ratios

    now = datetime.now(UTC)
    moment = min(parse_moment(as_of), now) if as_of else None  # what lies ahead has not happened yet
    decided = override_of(override, reason)
    if sum(given is not None for given in (experiment_id, data, sums)) != 1:
        raise ReadoutError(
            "give one of an experiment of the event store, --data with a table of its units, or --sums with their sums"
        )
    _refuse_idle_options(context)
    if sums is not None and sums.endswith(".json"):
        _report(stored_readout(Path(sums), override=decided), out, mlflow_run)
        return
    if experiment_id is not None:
        found = _from_store(store, experiment_id, moment or now, decided, accounts, currency)
        _report(found, out, mlflow_run)
        return
    form = with_plan(
        TableSpec(
            unit=unit,
            arm=arm,
            control=control,
            metrics=parse_ratios("--metric", metric or []),
            before=parse_ratios("--covariate", covariate or []),
            guardrails=parse_margins(guardrail or []),
            primary=primary,
            segments=tuple(segment or ()),
            cluster=cluster,
            caps={name: quantile for name, quantile in _caps(cap or []).items() if name},
            exposed=exposed,
            shares=_shares(share or []),
            chain=tuple(part.strip() for part in decompose.split(",")) if decompose else (),
            attributed=attributed,
            aggregate=aggregate,
            interim=interim,
            plan=_locked(plan, plan_hash, started),
            has_plan_hash=plan_hash is not None,
            money=tuple(money or ()),
            currency=currency,
            quality=parse_ratios("--quality", quality or []),
            assigned_at=assigned_at,
        )
    )
    config = _config(
        form,
        alpha=alpha,
        practical_margin=practical_margin,
        correction=correction,
        cap_percentile=_caps(cap or []).get(""),
    )
    if sums is not None:
        found = sums_readout(sums, form, config, now=moment or now, day=day, experiment=experiment, override=decided)
    elif orders is None:
        found = table_readout(data, form, config, now=moment or now, override=decided)
    else:
        spec = ReadSpec(orders=orders, preset=preset, mapping=parse_map(map_) if map_ else {}, currency=currency)
        days = form.plan.plan.attribution_window_days if form.plan else window_days
        start = parse_moment(started) if started else None
        order_form = OrdersSpec(form, spec, days, assigned_at, start)
        until = moment or (now if form.plan else None)
        found = orders_readout(data, order_form, config, now=until, override=decided)
    _report(found, out, mlflow_run)


def _refuse_idle_options(context: typer.Context) -> None:
    """An option that the form of the data passes over would leave its user with another readout than was asked for."""
    given = {
        parameter.name: parameter.opts[0]
        for parameter in context.command.params
        if parameter.name and _is_given(context, parameter.name)
    }
    form = _form(context.params)
    for name, option in given.items():
        if name not in _APPLY[form] | _ALWAYS:
            where = " or ".join(known for known, names in _APPLY.items() if name in names)
            raise ReadoutError(f"{option} does not apply to {form}, must go with {where}; leave it out")
    has_plan = "plan" in given
    if form == "an experiment of the event store":
        return
    for name in sorted(_PLANNED & given.keys()):
        if has_plan:
            raise ReadoutError(f"{given[name]} with --plan, must be left out: the plan has decided it")
    if "plan_hash" in given and not has_plan:
        raise ReadoutError("--plan-hash without --plan, must go with one: there is nothing to check it against")
    for name in ("started", "as_of"):
        if name in given and not (has_plan or "orders" in given):
            raise ReadoutError(f"{given[name]} without --plan or --orders, must go with one: rows have no times")
    if "started" in given and "assigned_at" in given and not has_plan:
        raise ReadoutError("--started with --assigned-at, must be one of both: each unit has its own start")


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def _form(options: Mapping[str, Any]) -> str:
    if options["experiment_id"] is not None:
        return "an experiment of the event store"
    if options["sums"] is not None:
        return "a stored readout.json" if options["sums"].endswith(".json") else "--sums"
    return "--data" if options["orders"] is None else "--data with --orders"


def _from_store(
    url: str,
    experiment_id: str,
    now: datetime,
    override: VerdictOverride | None,
    accounts: str | None,
    currency: str | None,
) -> Readout:
    from recsys.evaluation.readout.from_event_store import store_readout
    from recsys.events.store import open_store

    with closing(open_store(url)) as store:
        return store_readout(store, experiment_id, now, override=override, accounts=accounts, currency=currency)


def _report(found: Readout, out: Path | None, mlflow_run: str | None) -> None:
    from recsys.reporting.readout_page import log_report, write_report
    from recsys.reporting.readout_text import readout_tables

    shown = output_console()
    for part in readout_tables(found):
        shown.print(part)
    if out is not None:
        typer.echo(f"Written: {', '.join(str(path) for path in write_report(found, out))}")
    if mlflow_run is not None:
        log_report(found, mlflow_run)


def _config(form: TableSpec, **options: Any) -> ReadoutConfig:  # noqa: ANN401 - each is checked by its field
    from recsys.evaluation.readout.design import ReadoutConfig

    if form.plan is not None:
        plan = form.plan.plan
        options |= {
            "alpha": plan.alpha,
            "practical_margin": plan.practical_margin,
            "cap_percentile": plan.cap_percentile,
            "planned_units": 2 * plan.planned_size,
        }
    return ReadoutConfig(**options)


def _locked(path: Path | None, given_hash: str | None, started: str | None) -> LockedPlan | None:
    if path is None:
        return None
    from recsys.data.times import parse_moment
    from recsys.experiments.plan import LockedPlan, plan_hash, read_plan

    plan = read_plan(path)
    start = parse_moment(started) if started else plan.planned_start
    return LockedPlan(plan, given_hash or plan_hash(plan), start)


def _caps(texts: list[str]) -> dict[str, float]:
    """Quantiles by metric; the primary's, which needs no name, under an empty one."""
    found: dict[str, float] = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        try:
            found[name.strip()] = float(number)
        except ValueError:
            raise ReadoutError(f"--cap {text!r}, must be a quantile or METRIC=QUANTILE, as 0.99") from None
    return found


def _shares(texts: list[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        try:
            found[name] = float(number)
        except ValueError:
            raise ReadoutError(f"--share {text!r}, must be ARM=NUMBER, as control=0.5") from None
    return found


def override_of(name: str | None, reason: str, arm: str | None = None) -> VerdictOverride | None:
    """Return a decision against the rules; None without a name.

    Raises:
        ReadoutError: the name is none of a verdict, or there is a reason or an arm without one.
    """
    if name is None:
        if reason or arm:
            raise ReadoutError(
                f"--{'reason' if reason else 'arm'} without --override, must go with one; name a verdict"
            )
        return None
    from recsys.evaluation.readout.verdict import VerdictName, VerdictOverride

    known = get_args(VerdictName)
    if name.upper() not in known:
        raise ReadoutError(f"--override {name!r}, must be one of {', '.join(known)}")
    return VerdictOverride(cast("VerdictName", name.upper()), reason, arm)
