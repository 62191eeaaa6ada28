"""Training from files to a registered bundle: reproducible, blind to the future, and going on after a kill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from recsys.backtesting.baselines import default_baselines
from recsys.bundle.load import load_bundle
from recsys.cli import main
from recsys.contracts.config import read_config
from recsys.contracts.offers import OfferRequest
from recsys.data.dataset import Dataset
from recsys.errors import GateError
from recsys.fitting.pipeline import FitConfig
from recsys.recommender import Recommender
from tests.support.training_runs import AS_OF, digests, registry_in, scored_by, spec_of
from training.champion import read_evidence
from training.cli.models import promote_command
from training.gate import TrainConfig
from training.registry import Registry
from training.run import TrainingRun, train_and_register


def test_python_learns_the_same_bundle_as_the_command(
    trained: Path, market: Path, small_config: Path, tmp_path: Path
) -> None:
    config = read_config(small_config, TrainConfig)
    tables: dict[str, Any] = {
        name: pd.read_parquet(market / f"{name}.parquet") for name in ("products", "accounts", "upgrades")
    }
    data = Dataset.read(market / "orders.parquet", **tables, as_of=AS_OF)
    own = FitConfig.model_validate({name: getattr(config, name) for name in FitConfig.model_fields})
    saved = Recommender(own, random_state=0).fit(data).save(tmp_path / "bundle")
    assert digests(saved) == digests(trained / "bundle")
    for reference in (str(trained / "bundle"), "models:/offers@challenger"):
        loaded = Recommender.load(reference, tracking_uri=f"sqlite:///{trained}/mlflow.db")
        assert loaded.recommend("A0000017", k=4) == Recommender.load(saved).recommend("A0000017", k=4)


def test_another_process_with_other_threads_and_hash_seed_gives_the_same_bundle(
    trained: Path, market: Path, unjudged_config: Path, tmp_path: Path
) -> None:
    other_threads = "2" if os.environ.get("OMP_NUM_THREADS") == "1" else "1"  # OpenBLAS obeys it too
    script = "import sys; from recsys.cli import main; main(sys.argv[1:])"
    arguments = ["train", "--orders", str(market / "orders.parquet"), "--as-of", AS_OF.date().isoformat()]
    for name in ("products", "accounts", "upgrades"):
        arguments += [f"--{name}", str(market / f"{name}.parquet")]
    arguments += ["--config", str(unjudged_config), "--out", str(tmp_path / "again")]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments, "--tracking-uri", registry_in(tmp_path)],
        env=os.environ | {"PYTHONHASHSEED": "4711", "OMP_NUM_THREADS": other_threads},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Registered as offers version 1, alias challenger" in done.stdout
    assert digests(tmp_path / "again") == digests(trained / "bundle")
    ours, theirs = (scored_by(folder, market) for folder in (trained / "bundle-models", tmp_path / "again-models"))
    for name, column in vars(ours).items():
        assert np.array_equal(column, getattr(theirs, name)), name


@pytest.fixture(scope="module")
def unjudged(market: Path, unjudged_config: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainingRun]:
    """A folder as `trained`, and the run that made it: without a replay, on orders that differ from `as_of` on."""
    folder = tmp_path_factory.mktemp("unjudged")
    orders = pd.read_parquet(market / "orders.parquet")
    late = orders["ordered_at"] >= pd.Timestamp(AS_OF)
    assert late.sum() > 1_000
    shuffled = orders.assign(product_id=orders["product_id"].sample(frac=1, random_state=0).to_numpy())
    changed = pd.concat([orders[~late], shuffled[late].assign(unit_price=999.0)], ignore_index=True)
    changed.to_parquet(folder / "orders.parquet", index=False)
    done = train_and_register(
        spec_of(market, folder / "orders.parquet"),
        read_config(unjudged_config, TrainConfig),
        tracking_uri=registry_in(folder),
        out=folder / "bundle",
    )
    return folder, done


def test_nothing_at_or_after_as_of_is_used(trained: Path, unjudged: tuple[Path, TrainingRun]) -> None:
    folder, _ = unjudged
    assert digests(folder / "bundle") == digests(trained / "bundle")


def test_what_waits_for_its_first_sale_is_offered_by_its_name(trained: Path, market: Path) -> None:
    orders = pd.read_parquet(market / "orders.parquet")
    sold = set(orders.loc[orders["ordered_at"] < pd.Timestamp(AS_OF), "product_id"])
    engine = load_bundle(trained / "bundle").engine()
    asked = [OfferRequest(account_id=account, kinds=("cross_sell",), limit=60) for account in engine.model.accounts.ids]
    waiting = [offer for one in asked for offer in engine.recommend(one).offers if offer.product_id not in sold]
    assert waiting
    assert all(0 < offer.probability < 0.1 for offer in waiting)
    spoken = {offer.reason_code for offer in waiting if offer.tier == "account"}
    assert spoken <= {"close_to", "same_category", "few_yet"}


# One process imports everything, once, and forks a training for each kill and a last one: it trains nothing itself.
TRAININGS = textwrap.dedent("""
    import json, os, signal, sys
    from contextlib import contextmanager
    from pathlib import Path

    from recsys.contracts.config import read_config
    from recsys.data.dataset import ReadSpec
    from training.gate import TrainConfig
    from training.run import train_and_register

    spec, config, folder, kills = ReadSpec(**json.loads(sys.argv[1])), *map(Path, sys.argv[2:4]), sys.argv[4:]

    def train(kill):
        @contextmanager
        def step(name):
            if name == kill:
                os.kill(os.getpid(), signal.SIGKILL)
            yield

        options = {"tracking_uri": f"sqlite:///{folder}/mlflow.db", "out": folder / "bundle", "step": step}
        return train_and_register(spec, read_config(config, TrainConfig), **options)

    for kill in [*kills, None]:
        child = os.fork()
        if child == 0:
            done = train(kill)
            (folder / "resumed.json").write_text(json.dumps(done.resumed))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert (os.WTERMSIG(status) == signal.SIGKILL) if kill else status == 0, (kill, status)
""")
STEPS = [
    "reading and checking", "history", "complements", "cart weights", "ladder", "propensity to buy something new",
    "propensity to upgrade", "candidates of each account", "offers and their reasons", "replay of cross-sell",
    "replay of the baselines", "replay of upgrades", "what the gate judges", "importances of the features",
    "tracking and registry",
]  # fmt: skip


@pytest.mark.parametrize(
    "kills", [["reading and checking", "what the gate judges"], pytest.param(STEPS, marks=pytest.mark.proof)]
)
def test_a_killed_training_goes_on_to_equal_digests(
    kills: list[str], trained: Path, market: Path, small_config: Path, tmp_path: Path
) -> None:
    uri = registry_in(tmp_path)
    arguments = [spec_of(market).model_dump_json(), str(small_config), str(tmp_path), *kills]
    done = subprocess.run([sys.executable, "-c", TRAININGS, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    killed, whole = (load_bundle(folder / "bundle").manifest for folder in (tmp_path, trained))
    assert (killed.files, killed.metrics) == (whole.files, whole.metrics)
    ours, theirs = (scored_by(folder / "bundle-models", market) for folder in (tmp_path, trained))
    assert all(np.array_equal(column, getattr(theirs, name)) for name, column in vars(ours).items())
    resumed = set(json.loads((tmp_path / "resumed.json").read_text()))
    assert {"complements", "cart weights", "propensity to upgrade", "replayed baselines"} < resumed
    assert not (tmp_path / "bundle-steps").exists()  # done: nothing is left to go on with
    client = Registry(uri).client
    found = client.search_runs([client.get_experiment_by_name("offers").experiment_id], order_by=["start_time"])
    runs = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    last, ended = runs[-1], [run for run in runs if run.info.status == "KILLED"]
    assert len(ended) == len(kills)
    assert ended[-1].data.tags["resumed_by"] == last.info.run_id
    assert (last.info.status, set(last.data.tags["resumed_steps"].split(", "))) == ("FINISHED", resumed)


def test_the_table_against_the_baselines_and_the_importances(trained: Path) -> None:
    registry = Registry(f"sqlite:///{trained}/mlflow.db")
    run = registry.client.get_run(registry.get("challenger").run_id)
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    methods = pd.read_csv(folder / "replay" / "baselines.csv")
    assert len(methods) == len(default_baselines()) + 1
    assert methods["ndcg"].is_monotonic_decreasing
    raw = methods.set_index("method").loc["raw ranker"]
    accounts = pd.read_parquet(folder / "replay" / "accounts.parquet")
    assert accounts["ndcg"].mean() == pytest.approx(raw["ndcg"], rel=1e-4)
    others = methods[methods["method"] != "raw ranker"]
    assert np.allclose(raw["ndcg"] - others["ndcg"], others["gain"], atol=1e-5)
    importances = pd.read_csv(folder / "importances" / "importances.csv")
    assert importances.columns.tolist() == ["model", "feature", "importance"]
    assert "next_product" in set(importances["model"])
    assert not importances.duplicated(["model", "feature"]).any()


def test_without_a_replay_the_gate_has_nothing_to_judge(
    unjudged: tuple[Path, TrainingRun], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, done = unjudged
    assert done.evidence.notes == ("evaluation.replay == false: the past was not replayed",)
    assert done.evidence.coverage > 0.2
    with pytest.raises(GateError, match=r"NDCG@10 beats every baseline; cross_sell: calibration holds; upsell"):
        promote_command(tracking_uri=registry_in(folder))
    assert "evaluation.replay == false: the past was not replayed" in " ".join(capsys.readouterr().out.split())


def test_of_a_large_history_some_accounts_are_replayed_and_the_run_says_so(
    trained: Path, market: Path, small_config: Path, tmp_path: Path
) -> None:
    options = read_config(small_config, TrainConfig)
    lines = len(pd.read_parquet(market / "orders.parquet"))
    evaluation = options.evaluation.model_copy(update={"most_lines": lines // 3})
    done = train_and_register(
        spec_of(market),
        options.model_copy(update={"evaluation": evaluation}),
        tracking_uri=registry_in(tmp_path),
        out=tmp_path / "bundle",
    )
    (note,) = [each for each in done.evidence.notes if "evaluation.most_lines" in each]
    assert f"evaluation.most_lines == {lines // 3:,}: the past of " in note
    registry = Registry(f"sqlite:///{trained}/mlflow.db")
    whole = read_evidence(registry, registry.get("challenger"))
    assert whole is not None
    assert 0 < done.evidence.n_accounts < 0.7 * whole.n_accounts
    assert done.evidence.data == whole.data  # the sample is looked back at, everything is learned from
    assert digests(tmp_path / "bundle") == digests(trained / "bundle")


def test_recommend_for_everybody(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "recs.parquet"
    with pytest.raises(SystemExit) as stop:
        main(["recommend", "--model", str(trained / "bundle"), "--out", str(out), "--limit", "5"])
    assert not stop.value.code
    offers = pd.read_parquet(out)
    assert offers.columns.tolist() == [
        "account_id", "rank", "product_id", "kind", "probability", "horizon_days", "expected_value", "score", "price",
        "currency", "tier", "reason", "from_product_id", "rank_probability", "boost", "moved_by",
    ]  # fmt: skip
    ranks = offers.groupby("account_id")["rank"]
    assert (ranks.min() == 1).all()
    assert (ranks.max() == ranks.size()).all()
    assert ranks.size().max() == 5
