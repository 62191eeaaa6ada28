"""`offers promote`, `offers rollback`, `offers compare`: who is champion, and why."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from recsys.errors import GateError, ModelNotFoundError
from training.gate import Check, DataFacts, GateEvidence, judge
from training.registry import CHALLENGER, CHAMPION, DEFAULT_TRACKING_URI, MODEL, ModelVersion, Registry

EVIDENCE = "gate.json"
"""The artifact of a training run that the gate judges."""

TrackingUri = Annotated[str, typer.Option("--tracking-uri", help="Where MLflow keeps runs and models.")]
Model = Annotated[str, typer.Option("--model", help="The version to promote: a number, or an alias.")]
Override = Annotated[
    str | None, typer.Option("--override", metavar="REASON", help="Promote without the gate, and write down why.")
]
Reason = Annotated[str, typer.Option("--reason", help="Why; it is kept with the model version.")]


def promote(
    model: Model = CHALLENGER, override: Override = None, tracking_uri: TrackingUri = DEFAULT_TRACKING_URI
) -> None:
    """Move the alias `champion` to a model that passes the gate, or with a written override."""
    registry = Registry(tracking_uri)
    version = registry.get(model)
    champion = registry.find(CHAMPION)
    console = Console()
    if override is None:
        checks = gate_checks(registry, version, champion)
        console.print(_checks_table(version, checks))
        _refuse_unless_passed(version, checks)
    elif not override.strip():
        raise GateError("--override is empty, must say why the gate does not count; write a reason")
    registry.promote(version, now=datetime.now(UTC), why=override or "passed the gate")
    was = f"version {champion.version}" if champion else "no model"
    console.print(f"{CHAMPION}: {MODEL} version {version.version} (was {was})")
    console.print(f"Serve it: offers serve --model models:/{MODEL}@{CHAMPION}")


def rollback(reason: Reason, tracking_uri: TrackingUri = DEFAULT_TRACKING_URI) -> None:
    """Move the alias `champion` back to the model that had it before."""
    back, left = Registry(tracking_uri).rollback(now=datetime.now(UTC), why=reason)
    Console().print(f"{CHAMPION}: {MODEL} version {back.version} (left version {left.version}: {reason})")


def compare(
    first: Annotated[str, typer.Argument(help="A model version: a number, or an alias.")],
    second: Annotated[str, typer.Argument(help="Another one.")],
    tracking_uri: TrackingUri = DEFAULT_TRACKING_URI,
) -> None:
    """Show two models side by side: what differs in their configuration, and every metric."""
    registry = Registry(tracking_uri)
    versions = registry.get(first), registry.get(second)
    left, right = (registry.client.get_run(version.run_id).data for version in versions)
    console = Console()
    names = [f"version {version.version}" for version in versions]
    differing = {
        key: (left.params.get(key, "-"), right.params.get(key, "-"))
        for key in sorted(left.params.keys() | right.params.keys())
        if left.params.get(key) != right.params.get(key)
    }
    console.print(_side_by_side("Configuration that differs", names, differing))
    metrics = {
        key: (_number(left.metrics.get(key)), _number(right.metrics.get(key)))
        for key in sorted(left.metrics.keys() | right.metrics.keys())
    }
    console.print(_side_by_side("Metrics", names, metrics))


def gate_checks(registry: Registry, version: ModelVersion, champion: ModelVersion | None) -> tuple[Check, ...]:
    """Return the gate's checks of a version against the present champion.

    Raises:
        GateError: the run of the version wrote no evidence, or the champion has changed since.
    """
    evidence = read_evidence(registry, version)
    if evidence is None:
        raise GateError(
            f"{MODEL} version {version.version} has no {EVIDENCE}: it was trained without a backtest; "
            'train with a backtest, or give --override "reason"'
        )
    rival = champion if champion is not None and champion.version != version.version else None
    return judge(evidence, _data_of(registry, rival))


def read_evidence(registry: Registry, version: ModelVersion) -> GateEvidence | None:
    """Return what a version's training run measured for the gate, or None where it measured nothing."""
    import mlflow

    listed = {item.path for item in registry.client.list_artifacts(version.run_id)}
    if EVIDENCE not in listed:
        return None
    uri = f"{registry.client.get_run(version.run_id).info.artifact_uri}/{EVIDENCE}"
    return GateEvidence.model_validate(json.loads(mlflow.artifacts.load_text(uri)))


def _data_of(registry: Registry, champion: ModelVersion | None) -> DataFacts | None:
    if champion is None:
        return None
    evidence = read_evidence(registry, champion)
    if evidence is None:
        raise ModelNotFoundError(
            f"the champion, {MODEL} version {champion.version}, has no {EVIDENCE} to compare with; "
            'promote with --override "reason"'
        )
    return evidence.data


def _refuse_unless_passed(version: ModelVersion, checks: tuple[Check, ...]) -> None:
    failed = [check.name for check in checks if not check.passed]
    if failed:
        raise GateError(
            f"{MODEL} version {version.version} stays {CHALLENGER}: {len(failed)} of {len(checks)} checks failed "
            f'({"; ".join(failed)}); improve the model, or give --override "reason"'
        )


def _checks_table(version: ModelVersion, checks: tuple[Check, ...]) -> Table:
    table = Table(title=f"Gate: {MODEL} version {version.version}", title_justify="left")
    for column in ("", "check", "found", "required"):
        table.add_column(column)
    for check in checks:
        table.add_row("ok" if check.passed else "FAILED", check.name, check.found, check.required)
    return table


def _side_by_side(title: str, names: list[str], rows: dict[str, tuple[str, str]]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in names:
        table.add_column(name, justify="right")
    for key, (left, right) in rows.items():
        table.add_row(key, left, right)
    return table


def _number(value: Any) -> str:  # noqa: ANN401 - MLflow types its metrics loosely
    return "-" if value is None else f"{value:.6g}"
