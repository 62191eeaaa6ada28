"""From two training runs to a champion and back, as a person does it: train, promote, compare, roll back, edit."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from recsys.bundle.load import load_bundle
from recsys.bundle.resolve import resolve_model
from recsys.cli import main
from recsys.contracts.config import read_config
from recsys.data.dataset import ReadSpec
from tests.support.training_runs import registry_in
from training.champion import ACCOUNTS_FILE, EVIDENCE_FILE, gate_checks, read_evidence, read_ndcg
from training.gate import BinEvidence, Comparison, GateEvidence, TrainConfig
from training.registry import Registry
from training.run import train_and_register
from training.tracking import open_run

AS_OF = "2025-07-01"
CALIBRATED = BinEvidence(observed=210, expected=200)


@pytest.fixture(scope="module")
def uri(market: Path, small_config: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A registry with one version, trained on the small market."""
    found = registry_in(tmp_path_factory.mktemp("gate"))
    strict = read_config(small_config, TrainConfig, ["gate.profile=large"])  # so few accounts prove little
    train_and_register(_spec(market), strict, tracking_uri=found)
    return found


def _spec(market: Path) -> ReadSpec:
    names = ("orders", "products", "accounts", "upgrades")
    return ReadSpec.model_validate({name: str(market / f"{name}.parquet") for name in names} | {"as_of": AS_OF})


def _run(uri: str, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Return the exit code and all that a command said, its line breaks taken out."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--tracking-uri", uri])
    out, err = capsys.readouterr()
    return int(stop.value.code or 0), " ".join((out + err).split())


def _found(uri: str) -> dict[str, str]:
    """What the gate finds of the challenger, by check."""
    registry = Registry(uri)
    checks = gate_checks(registry, registry.get("challenger"), registry.find("champion"))
    return {check.name: check.found for check in checks}


def _deserving(uri: str, **changes: object) -> int:
    """Register the first version's bundle again with evidence that passes, but for some changes; return its number."""
    registry = Registry(uri)
    first = registry.get("1")
    evidence, ndcg = read_evidence(registry, first), read_ndcg(registry, first)
    assert evidence is not None
    assert ndcg is not None
    gain = ndcg.assign(ndcg=ndcg["ndcg"] + 0.05)
    good = [
        kind.model_copy(update={"log_loss": 0.01, "log_loss_of_base_rate": 0.02, "bins": (CALIBRATED,)})
        for kind in evidence.calibration
    ]
    won = (Comparison(rival="popular", difference=0.1, low=0.05, high=0.2),)
    better = evidence.model_copy(update={"baselines": won, "calibration": tuple(good), **changes})
    with open_run(registry, "deserving") as run:
        run.log_params(TrainConfig().model_dump(mode="json") | {"seed": 1})
        run.log_metrics({"coverage": better.coverage, "accounts": 240})
        run.log_json(better.model_dump(mode="json"), EVIDENCE_FILE)
        run.log_frame(gain, ACCOUNTS_FILE)
        run.log_bundle(resolve_model("models:/offers/1", tracking_uri=uri))
    return registry.register(run.run_id).version


def test_a_run_that_does_not_deserve_it_is_refused_by_name(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    evidence = read_evidence(Registry(uri), Registry(uri).get("1"))
    assert isinstance(evidence, GateEvidence)
    lost = [one.rival for one in evidence.baselines if one.low <= 0]
    assert lost  # forty scored accounts of a small market prove little
    code, said = _run(uri, capsys, "promote", "--model", "1")
    assert code == 1
    assert "Limits of a large firm: gate.profile says so." in said
    assert "offers version 1 stays challenger" in said
    for rival in lost:
        assert f"NDCG@10 beats {rival}" in said
    assert Registry(uri).find("champion") is None


def test_promote_compare_and_roll_back(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = _run(uri, capsys, "promote", "--model", "1", "--override", " ")
    assert (code, "--override is empty" in said) == (1, True)
    code, said = _run(uri, capsys, "promote", "--model", "1", "--override", "first model")
    assert (code, "champion: offers version 1 (was no model)" in said) == (0, True)
    code, said = _run(uri, capsys, "rollback", "--reason", "none before")
    assert (code, "is the first champion" in said) == (1, True)

    better = _deserving(uri)
    # The champion came after this run was trained: both replayed the same days, so that they can be paired.
    assert _found(uri)["NDCG@10 beats champion (version 1)"] == "+0.0500 [+0.0500, +0.0500], by its own replay"
    code, said = _run(uri, capsys, "promote")
    assert code == 0, said
    assert "Limits of a small firm:" in said
    assert f"champion: offers version {better} (was version 1)" in said
    assert Registry(uri).get("champion").tags["promoted_because"] == "passed the gate"

    code, said = _run(uri, capsys, "compare", "1", "champion")
    assert code == 0, said
    for part in ("seed 0 1", "next_product.ranker.kind logistic boosting", "active products", "+0.0500 [+0.0500"):
        assert part in said
    assert said.startswith(f"version {better} ranks better than version 1: NDCG@10 on novel products, same accounts")
    parts = ["Quality", "fingerprint", "Configuration that differs", "Metrics that differ"]
    assert sorted(parts, key=said.index) == parts
    run_id = Registry(uri).get("1").run_id
    code, by_run = _run(uri, capsys, "compare", run_id, "champion")
    assert (code, by_run) == (0, said)
    code, by_run = _run(uri, capsys, "compare", "0" * 32, "champion")
    assert (code, f"no run {'0' * 32}" in by_run) == (1, True)

    code, said = _run(uri, capsys, "rollback", "--reason", " ")
    assert (code, "--reason is empty" in said) == (1, True)
    code, said = _run(uri, capsys, "rollback", "--reason", "complaints")
    assert (code, f"champion: offers version 1 (left version {better}: complaints)" in said) == (0, True)
    assert Registry(uri).get(str(better)).tags["rolled_back_because"] == "complaints"


def test_each_failed_condition_is_named(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    registry = Registry(uri)
    registry.promote(registry.get("1"), now=pd.Timestamp("2026-01-01", tz="UTC").to_pydatetime(), why="a champion")
    data = read_evidence(registry, registry.get("1")).data  # type: ignore[union-attr]
    thin = data.model_copy(update={"rows_a_day": 0.49 * data.rows_a_day})
    _deserving(uri, coverage=0.19, data=thin)
    code, said = _run(uri, capsys, "promote")
    assert code == 1
    assert "2 of 12 checks failed" in said
    assert "(active catalogue offered to someone; data: rows a day)" in said
    other_days = read_evidence(registry, registry.get("1")).cutoff.replace(year=2024)  # type: ignore[union-attr]
    _deserving(uri, cutoff=other_days)
    assert _found(uri)["NDCG@10 beats the champion"] == "not measured"
    code, said = _run(uri, capsys, "promote")
    assert code == 1
    assert "1 of 12 checks failed (NDCG@10 beats the champion)" in said


def test_a_version_that_measured_nothing_needs_an_override(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    registry = Registry(registry_in(tmp_path))
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "manifest.json").write_text("{}")
    for _ in range(2):
        with open_run(registry, "older") as run:
            run.log_bundle(tmp_path / "bundle")
        registry.register(run.run_id)
    code, said = _run(registry.tracking_uri, capsys, "promote")
    assert (code, "offers version 2 has no gate.json" in said) == (1, True)
    code, said = _run(registry.tracking_uri, capsys, "promote", "--override", "an older model")
    assert (code, "champion: offers version 2 (was no model)" in said) == (0, True)
    code, said = _run(registry.tracking_uri, capsys, "compare", "1", "2")
    assert code == 0, said
    assert "NDCG@10 can't be paired: the two did not replay the same days." in said


def test_a_ladder_is_exported_edited_and_read_back(
    uri: str, market: Path, unjudged_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "ladder.csv"
    code, said = _run(uri, capsys, "ladder", "--model", "models:/offers/1", "--out", str(file))
    assert code == 0, said
    written = pd.read_csv(file, dtype=str)
    assert f"{len(written)} edges in" in said
    assert written["from_name"].notna().all()
    first, *_, last = written.to_dict("records")
    edited = pd.DataFrame([first, {"from_product_id": last["to_product_id"], "to_product_id": first["to_product_id"]}])
    edited.to_csv(file, index=False)

    tables = [part for name in ("orders", "products", "accounts") for part in (f"--{name}", f"{market}/{name}.parquet")]
    bundle = tmp_path / "bundle"
    arguments = ["train", *tables, "--as-of", AS_OF, "--config", str(unjudged_config), "--ladder", str(file)]
    code, said = _run(uri, capsys, *arguments, "--out", str(bundle))
    assert code == 0, said
    kept = pd.read_parquet(bundle / "frames" / "ladder.parquet")
    wanted = edited.sort_values(["from_product_id", "to_product_id"])
    assert kept["from_product_id"].tolist() == wanted["from_product_id"].tolist()
    assert kept["to_product_id"].tolist() == wanted["to_product_id"].tolist()
    assert set(kept["origin"]) == {first["origin"], "curated"}
    assert len(load_bundle(bundle).model.ladder.to_product) == 2

    edited.assign(to_product_id=edited["from_product_id"]).to_csv(file, index=False)
    code, said = _run(uri, capsys, *arguments)
    assert code == 1
    assert "lead from a product to itself" in said
    assert "row 2" in said


def test_a_training_without_an_upgrade_says_why(
    market: Path, unjudged_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", "--orders", f"{market}/orders.parquet", "--as-of", AS_OF, "--config", str(unjudged_config)]
    code, said = _run(registry_in(tmp_path), capsys, *arguments)
    assert code == 0, said
    assert "No upgrade edge was found, so there is no upsell: 0 curated links are given" in said
    assert "0 have a name and a price, and no family" in said
