"""The commands about models: `offers promote`, `offers rollback`, `offers compare` and `offers ladder`."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from recsys.bundle.load import load_bundle
from recsys.bundle.resolve import CHAMPION, DEFAULT_TRACKING_URI, resolve_model
from recsys.cli.terminal import output_console
from recsys.contracts import columns as c
from recsys.contracts.config import flatten
from recsys.errors import GateError, ModelNotFoundError, ReplayError
from recsys.ladder.edges import Ladder
from recsys.ladder.file import write_ladder
from training.champion import (
    OPTIONS_FILE,
    artifact_file,
    compare_kept,
    gate_checks,
    gate_evidence,
    gate_profiles,
    read_evidence,
    read_ndcg,
    replay_fault,
    same_window,
)
from training.gate import NDCG_CHECK, DataFacts, GateCheck, limits_sentence
from training.progress import SECONDS
from training.registry import CHALLENGER, MODEL_NAME, ModelVersion, Registry

TrackingUri = Annotated[str, typer.Option("--tracking-uri", help="Where MLflow keeps runs and models.")]
Model = Annotated[str, typer.Option("--model", help="The version to promote: a number, or an alias.")]
Override = Annotated[
    str | None, typer.Option("--override", metavar="REASON", help="Promote without the gate, and write down why.")
]
OverrideReason = Annotated[str, typer.Option("--reason", help="Why; it is kept with the model version.")]


def promote_command(
    model: Model = CHALLENGER, override: Override = None, tracking_uri: TrackingUri = DEFAULT_TRACKING_URI
) -> None:
    """Move the alias `champion` to a model that passes the gate, or with a written override."""
    registry = Registry.existing(tracking_uri)
    version = registry.get(model)
    champion = registry.find(CHAMPION)
    shown = output_console()
    if override is None:
        checks = gate_checks(registry, version, champion)
        shown.print(checks_table(version.version, checks))
        evidence = gate_evidence(registry, version)
        typer.echo(limits_sentence(evidence, gate_profiles(registry, version)))
        for note in evidence.notes:
            typer.echo(note)
        if (fault := replay_fault(registry, version)) is not None:
            raise ReplayError(f"{MODEL_NAME} version {version.version} stays {CHALLENGER}: {fault}")
        _refuse_unless_passed(version, checks)
    elif not override.strip():
        raise GateError("--override is empty, must say why the gate does not count; write a reason")
    registry.promote(version, now=datetime.now(UTC), why=override or "passed the gate")
    was = f"version {champion.version}" if champion else "no model"
    typer.echo(f"{CHAMPION}: {MODEL_NAME} version {version.version} (was {was})")
    typer.echo(f"Serve it: offers serve --model models:/{MODEL_NAME}@{CHAMPION}")


def rollback_command(reason: OverrideReason, tracking_uri: TrackingUri = DEFAULT_TRACKING_URI) -> None:
    """Move the alias `champion` back to the model that had it before."""
    if not reason.strip():
        raise GateError("--reason is empty, must say why the champion goes back; write a reason")
    back, left = Registry.existing(tracking_uri).rollback(now=datetime.now(UTC), why=reason)
    typer.echo(f"{CHAMPION}: {MODEL_NAME} version {back.version} (left version {left.version}: {reason})")


def _refuse_unless_passed(version: ModelVersion, checks: tuple[GateCheck, ...]) -> None:
    failed = [check.name for check in checks if not check.passed]
    if failed:
        raise GateError(
            f"{MODEL_NAME} version {version.version} stays {CHALLENGER}: {len(failed)} of {len(checks)} checks failed "
            f'({"; ".join(failed)}); improve the model, or give --override "reason"'
        )


def checks_table(version: int, checks: tuple[GateCheck, ...]) -> Table:
    """Return one row a check: what was found against what is required."""
    title = f"Gate: {MODEL_NAME} version {version}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("", no_wrap=True)
    table.add_column("check")
    table.add_column("found", min_width=26)
    table.add_column("required")
    for check in checks:
        # Text, because square brackets of an interval would read as markup.
        name = check.name.removeprefix(f"{NDCG_CHECK} ")  # the caption says of what; a baseline's name needs the room
        table.add_row("ok" if check.passed else "FAILED", *map(Text, (name, check.found, check.required)))
    table.caption = f"beats: {NDCG_CHECK} on novel products, this model's less the other's, 95 % interval over accounts"
    return table


_RUN_ID = re.compile(r"[0-9a-f]{32}")
Sides = dict[str, tuple[str, str]]


def compare_command(
    first: Annotated[str, typer.Argument(help="A model version or an alias; or the id of an MLflow run.")],
    second: Annotated[str, typer.Argument(help="Another one.")],
    tracking_uri: TrackingUri = DEFAULT_TRACKING_URI,
) -> None:
    """Show two models side by side: which ranks better, quality, data, configuration and metrics that differ."""
    registry = Registry.existing(tracking_uri)
    versions = find_run(registry, first), find_run(registry, second)
    left, right = (registry.client.get_run(version.run_id).data for version in versions)
    names = [f"version {version.version}" if version.version else version.run_id[:8] for version in versions]
    shown = output_console()
    typer.echo(_verdict(registry, versions, names))
    shown.print(_side_by_side("Quality", names, _quality(registry, versions)))
    shown.print(_side_by_side("Data", names, _data(registry, versions)))
    options = [_options(registry, version) for version in versions]
    shown.print(_side_by_side("Configuration that differs", names, _differing(*options)))
    shown.print(_metrics(names, left.metrics, right.metrics))


def _options(registry: Registry, version: ModelVersion) -> dict[str, str]:
    """Every option of a run by its dotted name: the parameters are a few of them, or in older runs all."""
    params = dict(registry.client.get_run(version.run_id).data.params)
    file = artifact_file(registry, version, OPTIONS_FILE)
    options = {} if file is None else flatten(json.loads(file.read_text("utf-8")))
    return params | {name: str(value) for name, value in options.items()}


def find_run(registry: Registry, reference: str) -> ModelVersion:
    """Return the version that an alias, a number or a run id names; a run that registered none has version 0.

    Raises:
        ModelNotFoundError: there is none.
    """
    if not _RUN_ID.fullmatch(reference):
        return registry.get(reference)
    from mlflow.exceptions import MlflowException

    try:
        registry.client.get_run(reference)
    except MlflowException:
        raise ModelNotFoundError(f"no run {reference} in {registry.tracking_uri}; `mlflow ui` lists them") from None
    return registry.of_run(reference) or ModelVersion(0, reference, {})


def _differing(left: dict[str, str], right: dict[str, str]) -> Sides:
    return {
        key: (left.get(key, "-"), right.get(key, "-"))
        for key in sorted(left.keys() | right.keys())
        if left.get(key) != right.get(key)
    }


def _data(registry: Registry, versions: tuple[ModelVersion, ModelVersion]) -> Sides:
    facts = [None if found is None else found.data for found in (read_evidence(registry, one) for one in versions)]
    left, right = ({} if one is None else _facts(one) for one in facts)
    return {name: (left.get(name, "-"), right.get(name, "-")) for name in dict.fromkeys([*left, *right])}


def _facts(data: DataFacts) -> dict[str, str]:
    return {
        "fingerprint": data.fingerprint[:12],
        "rows a day": f"{data.rows_a_day:,.1f}",
        "active accounts": f"{data.active_accounts:,}",
        "active products": f"{data.products:,}",
    }


def _quality(registry: Registry, versions: tuple[ModelVersion, ModelVersion]) -> Sides:
    champion = registry.find(CHAMPION)
    left, right = (_qualities(registry, version, champion) for version in versions)
    return {name: (left.get(name, "-"), right.get(name, "-")) for name in dict.fromkeys([*left, *right])}


def _qualities(registry: Registry, version: ModelVersion, champion: ModelVersion | None) -> dict[str, str]:
    evidence = read_evidence(registry, version)
    if evidence is None:
        return {}
    found = {}
    if evidence.ndcg_at_10 is not None and evidence.cutoff is not None:
        found[f"{NDCG_CHECK} on novel products"] = f"{evidence.ndcg_at_10:.4f}"
        found["replayed from"] = f"{evidence.cutoff:%Y-%m-%d}"
    if evidence.baselines:
        closest = min(evidence.baselines, key=lambda one: one.difference)
        found["less the closest baseline"] = f"{closest.difference:+.4f} [{closest.low:+.4f}, {closest.high:+.4f}]"
    for one in evidence.calibration:
        observed, expected = (sum(getattr(each, side) for each in one.bins) for side in ("observed", "expected"))
        ratio = f"{observed / expected:.2f}" if expected > 0 else "-"
        found[f"{one.kind}: observed / expected"] = ratio
        found[f"{one.kind}: log loss less base rate's"] = f"{one.log_loss - one.log_loss_of_base_rate:+.6f}"
    found["active catalogue offered"] = f"{evidence.coverage:.1%}"
    try:
        checks = gate_checks(registry, version, champion)
        found["gate"] = f"{sum(one.passed for one in checks)} of {len(checks)} pass"
    except GateError:
        found["gate"] = "-"
    return found


def _verdict(registry: Registry, versions: tuple[ModelVersion, ModelVersion], names: list[str]) -> str:
    """One sentence on which ranks better on the same accounts, or on why that can't be told."""
    first, second = (read_evidence(registry, version) for version in versions)
    if first is None or second is None or not same_window(first, second):
        return "NDCG@10 can't be paired: the two did not replay the same days."
    ours, theirs = read_ndcg(registry, versions[1]), read_ndcg(registry, versions[0])
    if ours is None or theirs is None:
        return "NDCG@10 can't be paired: a run kept no accounts."
    found = compare_kept(names[0], ours, theirs, np.random.default_rng(0))
    if found is None:
        return "NDCG@10 can't be paired: no account was scored by both."
    if found.low <= 0 <= found.high:
        said = f"{names[1]} and {names[0]} can't be told apart"
    else:
        said = f"{names[1]} ranks {'better' if found.low > 0 else 'worse'} than {names[0]}"
    interval = f"{found.difference:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"
    return f"{said}: NDCG@10 on novel products, same accounts, {names[1]} less {names[0]} {interval}."


_OF_THE_MACHINE = (SECONDS, "cpu_seconds.", "peak_gb.")
"""How metrics begin that say nothing of a model: they come last."""


def _metrics(names: list[str], left: dict[str, float], right: dict[str, float]) -> Table:
    table = _table("Metrics that differ", [*names, "difference"])
    keys = sorted(left.keys() | right.keys(), key=lambda key: (key.startswith(_OF_THE_MACHINE), key))
    differing = [key for key in keys if left.get(key) != right.get(key)]
    for key in differing:
        one, other = left.get(key), right.get(key)
        gap = "-" if one is None or other is None else f"{other - one:+.4g}"
        table.add_row(key, _number(one), _number(other), gap)
    table.caption = f"{len(keys) - len(differing)} metrics are equal"
    return table


def _side_by_side(title: str, names: list[str], rows: Sides) -> Table:
    table = _table(title, names)
    for key, sides in rows.items():
        table.add_row(*map(Text, (key, *sides)))
    if not rows:
        table.add_row("nothing")
    return table


def _table(title: str, names: list[str]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("", overflow="fold")
    for name in names:
        table.add_column(name, justify="right")
    return table


def _number(value: Any) -> str:  # noqa: ANN401 - MLflow types its metrics loosely
    return "-" if value is None else f"{value:.6g}"


def ladder_command(
    out: Annotated[Path, typer.Option(help="The CSV file to write.")],
    model: Annotated[
        str, typer.Option(help="models:/offers@challenger, models:/offers/3, or the folder of a bundle.")
    ] = "models:/offers@challenger",
    tracking_uri: Annotated[str, typer.Option(help="Where MLflow keeps its registry.")] = DEFAULT_TRACKING_URI,
) -> None:
    """Write the upgrade ladder of a model as CSV, to be edited.

    `offers train --ladder` reads it back.
    """
    bundle = load_bundle(resolve_model(model, tracking_uri=tracking_uri))
    edges = bundle.frame("ladder")
    products = bundle.model.products
    names = pd.DataFrame({c.PRODUCT_ID: list(products.ids), c.NAME: list(products.names)})
    write_ladder(Ladder(edges), names, out)
    typer.echo(f"{len(edges):,} edges in {out}. Delete rows, or add some (two ids are enough); then:")
    typer.echo(f"offers train ... --ladder {out}")
