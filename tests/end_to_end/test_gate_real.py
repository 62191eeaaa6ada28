"""The gate on real invoices: two training runs a month apart, the second against the first as champion."""

from __future__ import annotations

import json
import os
import platform
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from recsys.bundle.resolve import CHAMPION
from recsys.contracts.config import read_config
from recsys.data.dataset import ReadSpec
from training.champion import gate_checks
from training.cli.models import promote_command
from training.gate import GateCheck, GateEvidence, TrainConfig, judge_evidence
from training.registry import Registry
from training.run import TrainingRun, train_and_register

ROOT = Path(__file__).resolve().parents[2]
PROOF = ROOT / "docs" / "proof" / "gate.json"
PASSED = PROOF.with_name("gate_passed.json")
THOROUGH = ROOT / "training" / "configs" / "thorough.toml"
JUNE, JULY = (datetime(2011, month, 1, tzinfo=UTC) for month in (6, 7))


def machine() -> dict[str, object]:
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
    }


def write(path: Path, content: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def summary(evidence: GateEvidence, checks: tuple[GateCheck, ...], figures: dict[str, float]) -> dict[str, object]:
    """What one run measured and how the gate judged it, for people to read."""
    return {
        "cutoff": evidence.cutoff and evidence.cutoff.date().isoformat(),
        "accounts": evidence.n_accounts,
        "ndcg_at_10": evidence.ndcg_at_10,
        "times_best_baseline": figures["replay.ratio_to_best_baseline.raw_ranker"],
        "coverage": evidence.coverage,
        "data": evidence.data.model_dump(exclude={"fingerprint"}),
        "calibration": {
            one.kind: {
                "observed_over_expected": [round(each.observed / each.expected, 3) for each in one.bins],
                "standard_error_over_accounts": [each.error and round(each.error, 3) for each in one.bins],
                "purchases": [round(each.observed) for each in one.bins],
                "log_loss": one.log_loss,
                "log_loss_of_base_rate": one.log_loss_of_base_rate,
            }
            for one in evidence.calibration
        },
        "failed": [check.name for check in checks if not check.passed],
        "checks": {check.name: f"{'ok' if check.passed else 'FAILED'}: {check.found}" for check in checks},
    }


@pytest.mark.data
@pytest.mark.proof
@pytest.mark.timeout(3_600)
def test_two_months_of_real_invoices(online_retail_path: Path, tmp_path: Path) -> None:
    registry = Registry(f"sqlite:///{tmp_path}/mlflow.db")

    def trained(as_of: datetime) -> TrainingRun:
        spec = ReadSpec(orders=str(online_retail_path), preset="online-retail-ii", as_of=as_of)
        return train_and_register(spec, TrainConfig(), tracking_uri=registry.tracking_uri)

    wall, cpu = time.perf_counter(), time.process_time()
    first = trained(JUNE)
    seconds = {"seconds": round(time.perf_counter() - wall, 1), "cpu_seconds": round(time.process_time() - cpu, 1)}
    june = gate_checks(registry, registry.get("1"), None)
    registry.promote(registry.get("1"), now=JUNE, why="the first model")
    second = trained(JULY)
    july = gate_checks(registry, registry.get("2"), registry.get("1"))
    assert second.evidence.champion is not None
    assert second.evidence.champion.how == "its bundle"
    for run in (first, second):
        failed = {check.name for check in judge_evidence(run.evidence, None) if not check.passed}
        assert not {name for name in failed if name.startswith("NDCG") and "champion" not in name}
        assert "active catalogue offered to someone" not in failed
        assert not {name for name in failed if "log loss" in name}
    runs = {"2011-06-01": summary(first.evidence, june, first.figures)}
    runs["2011-07-01"] = summary(second.evidence, july, second.figures)
    write(PROOF, {"machine": machine() | {"one_training_run": seconds}, "runs": runs})


@pytest.mark.data
@pytest.mark.proof
@pytest.mark.timeout(3_600)
def test_the_thorough_configuration_is_promoted_as_of_july(online_retail_path: Path, tmp_path: Path) -> None:
    registry = Registry(f"sqlite:///{tmp_path}/mlflow.db")
    spec = ReadSpec(orders=str(online_retail_path), preset="online-retail-ii", as_of=JULY)
    run = train_and_register(spec, read_config(THOROUGH, TrainConfig), tracking_uri=registry.tracking_uri)
    checks = gate_checks(registry, registry.get("1"), None)
    write(PASSED, {"machine": machine(), "run": summary(run.evidence, checks, run.figures)})
    assert not [check.name for check in checks if not check.passed]
    promote_command(tracking_uri=registry.tracking_uri)
    assert registry.find(CHAMPION) is not None
