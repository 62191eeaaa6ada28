"""What a training leaves in MLflow: figures, sources, a model card, nested runs, a model that answers frames."""

from __future__ import annotations

import importlib.metadata
import json
from datetime import UTC, datetime
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow.data import get_source

from recsys.bundle.load import AccountOffers, load_bundle
from recsys.bundle.resolve import resolve_model
from recsys.contracts.offers import OfferRequest
from recsys.errors import EmptyDataError, MissingColumnError
from tests.support.training_runs import digests, registry_in, scored_by, spec_of
from training.champion import read_evidence
from training.gate import TrainConfig, gate_sentence, judge_evidence
from training.registry import Registry
from training.run import train_and_register
from training.tracking import engine_version


def test_what_mlflow_keeps(trained: Path, market: Path) -> None:
    registry = Registry(f"sqlite:///{trained}/mlflow.db")
    version = registry.get("challenger")
    run = registry.client.get_run(version.run_id)
    assert run.data.params["seed"] == "0"
    assert len(run.data.params) < 25  # those that runs are compared by; config.json has all
    assert run.data.params["next_product.ranker.kind"] == "logistic"
    assert run.data.metrics["accounts"] > 200
    assert 0 < run.data.metrics["replay.ndcg.raw_ranker"] < 1
    assert 0 < run.data.metrics["coverage"] <= 1
    assert run.data.metrics["data.products"] > 100
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    for name in ("gate.json", "config.json", "data_report.json", "rules/rules.parquet", "ladder/edges.parquet"):
        assert (folder / name).stat().st_size > 0
    assert {"when", "then"} < set(pd.read_csv(folder / "rules" / "strongest.csv").columns)
    assert pd.read_csv(folder / "ladder" / "edges.csv")["from_name"].notna().all()
    for name in ("ndcg", "coverage", "calibration_cross_sell", "calibration_upsell"):
        assert (folder / "replay" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((folder / "config.json").read_text())["seed"] == 0
    bundle = resolve_model("models:/offers/1", tracking_uri=registry.tracking_uri)
    assert digests(bundle) == digests(trained / "bundle")
    assert not list(bundle.rglob("*.skops"))
    assert len(scored_by(folder / "models", market)) == run.data.metrics["cross_sell_candidates"]
    manifest = json.loads((trained / "bundle" / "manifest.json").read_text())
    assert manifest["data_fingerprint"] == run.data.params["data"]
    assert manifest["config"]["seed"] == 0
    assert manifest["metrics"]["replay.ndcg.raw_ranker"] == run.data.metrics["replay.ndcg.raw_ranker"]


def test_who_trained_what_on_which_data_stands_in_the_run(trained: Path, market: Path) -> None:
    registry = Registry(f"sqlite:///{trained}/mlflow.db")
    version = registry.get("challenger")
    run = registry.client.get_run(version.run_id)
    assert (run.info.run_name, run.info.status) == ("train 2025-07-01", "FINISHED")
    assert run.data.tags["engine_version"] == engine_version()
    assert engine_version().startswith(f"{importlib.metadata.version('offer-engine')}+")
    assert {"command", "mlflow.source.name", "mlflow.user"} <= run.data.tags.keys()
    inputs = {each.dataset.name: each.dataset for each in run.inputs.dataset_inputs}
    assert list(inputs) == ["orders", "products", "accounts", "upgrades"]
    for name, one in inputs.items():
        assert get_source(one).load() == str(market / f"{name}.parquet")
        assert run.data.params["data"].startswith(one.digest)
    schema = {each["name"]: each["type"] for each in json.loads(inputs["orders"].schema)["mlflow_colspec"]}
    assert (schema["account_id"], schema["ordered_at"], schema["unit_price"]) == ("string", "datetime", "double")
    experiment = registry.client.get_experiment(run.info.experiment_id)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"


def test_the_description_is_a_model_card_on_run_and_version(trained: Path) -> None:
    registry = Registry(f"sqlite:///{trained}/mlflow.db")
    version = registry.get("challenger")
    run = registry.client.get_run(version.run_id)
    card = run.data.tags["mlflow.note.content"]
    assert registry.client.get_model_version("offers", str(version.version)).description == card
    evidence = read_evidence(registry, version)
    assert evidence is not None
    checks = judge_evidence(evidence, None)
    for part in (
        f"**Gate:** {gate_sentence(checks)}.",
        f"| this model | {evidence.ndcg_at_10:.4f} | ",
        f"{run.data.metrics['order_lines']:,.0f}, 20",
        f"| fingerprint | {run.data.params['data']} |",
        "| cross_sell | ",
        "| upsell | ",
        "Probabilities speak of the 30 days after 2025-07-01",
    ):
        assert part in card
    assert len(card) < 5_000  # whole: longer ones are cut
    assert card.splitlines()[-1].startswith("- ")


def test_each_part_and_each_replay_is_a_nested_run(trained: Path) -> None:
    registry = Registry(f"sqlite:///{trained}/mlflow.db")
    run = registry.client.get_run(registry.get("challenger").run_id)
    nested = registry.client.search_runs(
        [run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run.info.run_id}'", order_by=["start_time"]
    )
    parts = {part.info.run_name: part for part in nested}
    assert set(parts) == {
        "complements", "ladder", "cross-sell model", "upgrade model", "replay of cross-sell 2025-06-01",
        "replay of upgrades 2025-05-02",
    }  # fmt: skip
    for part in nested:
        assert part.info.status == "FINISHED"
        assert run.info.start_time <= part.info.start_time <= part.info.end_time <= run.info.end_time
    assert parts["cross-sell model"].data.params["next_product.ranker.kind"] == "logistic"
    for name, figure in (
        ("complements", "complement_rules"),
        ("replay of cross-sell 2025-06-01", "replay.ndcg.raw_ranker"),
        ("replay of upgrades 2025-05-02", "replay.average_precision.upsell"),
    ):
        assert parts[name].data.metrics[figure] == run.data.metrics[figure]


def test_mlflow_loads_a_model_that_answers_a_frame_as_the_engine_does(
    trained: Path, market: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{trained}/mlflow.db")
    model = mlflow.pyfunc.load_model("models:/offers@challenger")
    known = pd.read_parquet(market / "accounts.parquet")["account_id"].tolist()[:40]
    frame = pd.DataFrame({"account_id": [*known, "nobody", None], "segment": "a column that is not asked for"})
    found = model.predict(frame, params={"limit": 4})
    assert found.columns.tolist() == model.metadata.get_output_schema().input_names()
    engine = load_bundle(trained / "bundle").engine()
    offers = [
        (account, offer)
        for account in frame["account_id"].astype(object).where(frame["account_id"].notna(), None)
        for offer in engine.recommend(OfferRequest(account_id=account, limit=4)).offers
    ]
    assert len(found) == len(offers) > 100
    for name in ("rank", "product_id", "kind", "probability", "expected_value", "score", "reason"):
        assert found[name].tolist() == [getattr(offer, name) for _, offer in offers]
    assert found["account_id"].fillna("").tolist() == [account or "" for account, _ in offers]
    assert len(model.predict(frame.head(1))) == 10
    with pytest.raises(mlflow.exceptions.MlflowException, match=r"missing inputs \['account_id'\]"):
        model.predict(frame.rename(columns={"account_id": "customer"}))
    with pytest.raises(MissingColumnError, match=r"\['customer'\], must have 'account_id'"):
        AccountOffers(engine).predict(pd.DataFrame({"customer": known}))


def test_a_run_that_fails_says_at_which_step_and_why(market: Path, tmp_path: Path) -> None:
    uri = registry_in(tmp_path)
    spec = spec_of(market).model_copy(update={"as_of": datetime(1999, 1, 1, tzinfo=UTC)})
    with pytest.raises(EmptyDataError) as raised:
        train_and_register(spec, TrainConfig(), tracking_uri=uri)
    client = Registry(uri).client
    (run,) = client.search_runs([client.get_experiment_by_name("offers").experiment_id])
    assert run.info.status == "FAILED"
    assert run.data.tags["failed_step"] == "reading and checking"
    assert run.data.tags["error"] == str(raised.value)
    assert run.data.tags["mlflow.note.content"] == f"**Failed.** {raised.value}"
