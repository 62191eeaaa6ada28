"""The backtest on a small history: what it learns from, what it scores, what it writes."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from recsys.arrays import RowArray
from recsys.backtesting.backtest import RAW, SERVED, BacktestConfig, score_cutoffs
from recsys.backtesting.baselines import BacktestModel, PopularBaseline, RecentlyPopularBaseline
from recsys.backtesting.results import slug
from recsys.backtesting.trainer import over_history
from recsys.backtesting.upgrade_scores import first_of_each
from recsys.contracts import columns as c
from recsys.data.history import History
from recsys.errors import ConfigError, EmptyDataError
from recsys.evaluation.offline.ground_truth import ground_truth
from recsys.evaluation.statistics.bootstrap import BootstrapConfig
from recsys.fitting.pipeline import with_horizon
from recsys.ladder.edges import EDGE_COLUMNS, Ladder
from recsys.models.candidates import Candidates
from recsys.reporting.backtest_plots import write_plots
from recsys.reporting.backtest_text import backtest_tables
from tests.support.training_runs import registry_in
from training.cli.backtest import backtest_command, parse_cutoffs
from training.gate import TrainConfig
from training.registry import EXPERIMENT, Registry

JUNE, JULY = datetime(2024, 6, 1, tzinfo=UTC), datetime(2024, 7, 1, tzinfo=UTC)
N_ACCOUNTS, N_PRODUCTS = 40, 20


def random_frame(seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    n = 900
    order = np.sort(rng.integers(0, 300, n))
    days = np.linspace(-200, 75, 300)[order]
    return pd.DataFrame(
        {
            c.ORDER_ID: [f"o{number:04d}" for number in order],
            c.ACCOUNT_ID: [f"a{number % N_ACCOUNTS:02d}" for number in order],
            c.PRODUCT_ID: [f"p{number:02d}" for number in (rng.beta(1, 2, n) * N_PRODUCTS).astype(int)],
            c.ORDERED_AT: [JUNE + timedelta(days=float(day)) for day in days],
            c.QUANTITY: 1.0,
            c.UNIT_PRICE: rng.integers(1, 9, n).astype(float),
        }
    )


HISTORY = History.from_frame(random_frame())
QUICK = BacktestConfig(cutoffs=(JUNE, JULY), bootstrap=BootstrapConfig(n_resamples=50), k=5)


def two_baselines() -> tuple[BacktestModel, ...]:
    return (PopularBaseline(), RecentlyPopularBaseline(30))


def candidates_of(lists: RowArray, accounts: RowArray, lower: int = -1) -> Candidates:
    row, place = np.nonzero(lists >= 0)
    n = len(row)
    return Candidates(
        account=accounts[row].astype(np.int32),
        product=lists[row, place].astype(np.int32),
        from_product=np.full(n, lower, dtype=np.int32),
        score=(-place).astype(np.float32),
        probability=np.full(n, 0.1, dtype=np.float32),
        expected_quantity=np.ones(n, dtype=np.float32),
    )


class Oracle:
    """A fake engine that knows the future: its raw lists are the truth; it serves them without the first place."""

    def __init__(self, cutoff: datetime) -> None:
        truth = ground_truth(HISTORY, cutoff, 30)
        lists = np.full((HISTORY.n_accounts, 8), -1, dtype=np.int32)
        for row, account in enumerate(truth.accounts):
            right = truth.relevant.indices[truth.relevant.indptr[row] : truth.relevant.indptr[row + 1]][:8]
            lists[account, : len(right)] = right
        everybody = np.arange(HISTORY.n_accounts, dtype=np.int32)
        self.raw = candidates_of(lists, everybody)
        self.upgrades = candidates_of(lists[:, :1], everybody, lower=0)

    def served(self, accounts: RowArray, k: int) -> RowArray:
        return first_of_each(self.raw, accounts, HISTORY.n_accounts, k + 1)[:, 1:]


def ladder_of(*edges: tuple[str, str]) -> Ladder:
    frame = pd.DataFrame(edges, columns=[c.FROM_PRODUCT_ID, c.TO_PRODUCT_ID])
    filled: dict[str, Any] = {c.ORIGIN: "curated", c.REASON: "", c.CLIMB_RATE: 0.2, c.N_STANDING: 10, c.N_CLIMBED: 2}
    return Ladder(frame.assign(**filled).reindex(columns=list(EDGE_COLUMNS)))


@pytest.fixture(scope="module")
def oracle_backtest():
    ladder = ladder_of(*(("p00", f"p{number:02d}") for number in range(1, N_PRODUCTS)))
    return score_cutoffs(HISTORY, QUICK, trainers={SERVED: Oracle}, ladder=ladder, baselines=two_baselines)


def test_the_truth_itself_scores_one_and_beats_every_baseline(oracle_backtest) -> None:
    for result in oracle_backtest.cutoffs:
        assert result.method(RAW).ndcg == pytest.approx(1.0)
        assert result.ratio(RAW) == pytest.approx(1.0 / result.best_baseline.ndcg)
        assert result.method(SERVED).ndcg < 1.0
        assert {(one.method, one.against) for one in result.differences} == {
            (ours, rival) for ours in (RAW, SERVED) for rival in ("popular", "recently popular, 30 d")
        }
    assert all(one.interval.low > 0 for one in oracle_backtest.pooled if one.method == RAW)


def test_a_baseline_scores_as_when_it_is_run_by_hand(oracle_backtest) -> None:
    from recsys.evaluation.offline.ranking_metrics import score_ranking

    truth = ground_truth(HISTORY, JULY, 30)
    lists = PopularBaseline().fit(HISTORY, JULY).recommend(truth.accounts, 5)
    by_hand = score_ranking(lists, truth.relevant, 5)
    result = oracle_backtest.cutoffs[1]
    assert result.accounts.tolist() == truth.accounts.tolist()
    assert result.method("popular").scores.ndcg == pytest.approx(by_hand.ndcg)
    assert result.n_novel == truth.relevant.nnz


def test_revenue_share_and_filled_share(oracle_backtest) -> None:
    raw = oracle_backtest.cutoffs[0].method(RAW)
    truth = ground_truth(HISTORY, JUNE, 30)
    assert truth.relevant.nnz > raw.filled_share * len(truth) * 5 - 1  # no list is longer than the truth
    assert 0.9 < raw.revenue_share <= 1.0


def test_upsell_is_apart_and_an_oracle_of_climbs_finds_them(oracle_backtest) -> None:
    upsell = oracle_backtest.cutoffs[0].upsell
    assert upsell.n_edges == N_PRODUCTS - 1
    assert upsell.n_climbs >= upsell.n_climbers > 0
    assert upsell.base_rate == pytest.approx(upsell.n_climbs / upsell.n_pairs)
    assert upsell.average_precision == pytest.approx(upsell.base_rate)  # all propensities are alike here


def test_nobody_sees_the_future() -> None:
    class Sees(PopularBaseline):
        name = "sees"

        def fit(self, history: History, cutoff: datetime) -> Sees:
            assert history.seconds.max() < cutoff.timestamp()
            return super().fit(history, cutoff)

    found = score_cutoffs(HISTORY, QUICK, baselines=lambda: (Sees(),))
    assert [result.best_baseline.name for result in found.cutoffs] == ["sees", "sees"]


def test_a_leaking_popularity_beats_the_honest_one() -> None:
    """The negative control: counting the horizon itself must show, or the split would hide a leak."""

    class Leaks(PopularBaseline):
        name = "leaks"

        def fit(self, history: History, cutoff: datetime) -> Leaks:
            super().fit(history, cutoff)
            new = HISTORY.first_purchases().between(cutoff, 30)
            self.counts_ = np.bincount(new.product, minlength=history.n_products).astype(np.float32)
            return self

    found = score_cutoffs(HISTORY, QUICK, baselines=lambda: (PopularBaseline(), Leaks()))
    assert all(result.best_baseline.name == "leaks" for result in found.cutoffs)


def test_without_a_trainer_the_baselines_run_alone() -> None:
    found = score_cutoffs(HISTORY, QUICK, baselines=two_baselines)
    assert [method.kind for method in found.cutoffs[0].methods] == ["baseline", "baseline"]
    assert found.cutoffs[0].calibration is None
    assert found.pooled == ()


def test_a_sample_of_accounts_is_a_part_of_all() -> None:
    few = QUICK.model_copy(update={"max_accounts": 7})
    found = score_cutoffs(HISTORY, few, baselines=two_baselines)
    everybody = score_cutoffs(HISTORY, QUICK, baselines=two_baselines)
    assert [len(result.accounts) for result in found.cutoffs] == [7, 7]
    assert set(found.cutoffs[0].accounts.tolist()) < set(everybody.cutoffs[0].accounts.tolist())


def test_coverage_is_of_the_catalogue_that_was_sold_lately() -> None:
    wide = score_cutoffs(HISTORY, QUICK.model_copy(update={"active_days": 400}), baselines=two_baselines)
    narrow = score_cutoffs(HISTORY, QUICK.model_copy(update={"active_days": 3}), baselines=two_baselines)
    assert wide.cutoffs[0].methods[0].coverage != narrow.cutoffs[0].methods[0].coverage


def test_another_seed_moves_the_intervals_and_not_the_figures() -> None:
    one, other = (
        score_cutoffs(HISTORY, QUICK.model_copy(update={"seed": seed}), baselines=two_baselines).cutoffs[0].methods[0]
        for seed in (1, 2)
    )
    assert one.ndcg == other.ndcg
    assert one.ndcg_interval != other.ndcg_interval


def test_the_same_seed_gives_the_same_json() -> None:
    one, other = (json.dumps(score_cutoffs(HISTORY, QUICK, baselines=two_baselines).to_dict()) for _ in range(2))
    assert one == other


def test_everything_found_goes_to_json_and_to_flat_metrics(oracle_backtest) -> None:
    plain = json.loads(json.dumps(oracle_backtest.to_dict(), allow_nan=False))
    first = plain["cutoffs"][0]
    assert first["methods"][2]["name"] == RAW
    assert first["methods"][2]["ndcg"] == pytest.approx(1.0)
    assert first["calibration"]["bins"][-1]["listed"] is False
    assert first["upsell"]["n_climbs"] > 0
    metrics = oracle_backtest.metrics()
    assert metrics["ndcg.raw_ranker.2024-06-01"] == pytest.approx(1.0)
    assert metrics["ratio_to_best_baseline.raw_ranker.2024-07-01"] > 1
    assert "log_loss.cross_sell.2024-06-01" in metrics
    assert all(np.isfinite(value) for value in metrics.values())


def test_names_are_made_fit_for_tracking() -> None:
    assert slug("user kNN 100, decay 90 d") == "user_knn_100_decay_90_d"


def test_tables_and_plots_show_every_method(oracle_backtest, tmp_path: Path) -> None:
    from rich.console import Console

    console = Console(width=80, record=True, file=io.StringIO())
    for table in backtest_tables(oracle_backtest):
        console.print(table)
    text = console.export_text()
    assert all(name in text for name in (RAW, SERVED, "popular *", "Rungs climbed", "not listed"))
    plots = write_plots(oracle_backtest, tmp_path)
    assert [path.name for path in plots] == [
        "ndcg.png",
        "coverage.png",
        "calibration_cross_sell.png",
        "calibration_upsell.png",
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in plots)


def test_no_figure_of_the_full_ladder_is_cut_off_at_80_columns() -> None:
    from rich.console import Console

    found = score_cutoffs(HISTORY, QUICK, trainers={SERVED: Oracle})
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(*backtest_tables(found))
    text = console.export_text()
    assert "account cosine 0.5, decay 90 d" in text
    assert "…" not in text


def test_candidates_become_lists_of_k() -> None:
    made = candidates_of(np.array([[3, 1, 2], [5, -1, -1]], dtype=np.int32), np.array([1, 4], dtype=np.int32))
    lists = first_of_each(made, np.array([0, 1, 4], dtype=np.int32), 5, 2)
    assert lists.tolist() == [[-1, -1], [3, 1], [5, -1]]


@pytest.mark.parametrize(
    ("cutoffs", "error", "message"),
    [
        ((datetime(2020, 1, 1, tzinfo=UTC),), ConfigError, "0 order lines before it"),
        ((datetime(2030, 1, 1, tzinfo=UTC),), ConfigError, "0 order lines in the 30 days after it"),
    ],
)
def test_a_cutoff_outside_the_history_is_refused(cutoffs, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        score_cutoffs(HISTORY, BacktestConfig(cutoffs=cutoffs), baselines=two_baselines)


def test_a_cutoff_after_which_nobody_buys_anything_new_is_refused() -> None:
    frame = random_frame().query("product_id == 'p00'")
    only = History.from_frame(pd.concat([frame, frame.assign(ordered_at=JULY)]).reset_index(drop=True))
    everybody_owns = BacktestConfig(cutoffs=(JULY - timedelta(days=1),), horizon_days=3)
    with pytest.raises(EmptyDataError, match="0 accounts with an earlier order bought anything new"):
        score_cutoffs(only.select(only.seconds <= JULY.timestamp()), everybody_owns, baselines=two_baselines)


def test_the_engine_learns_the_horizon_that_is_scored() -> None:
    config = with_horizon(TrainConfig(), 45)
    assert config.horizon_days == config.next_product.horizon_days == 45


def test_candidates_of_a_shorter_history_point_into_the_whole_one() -> None:
    earlier = History.from_frame(random_frame().query("product_id != 'p00' and account_id != 'a00'"))
    made = candidates_of(np.array([[0, 4], [2, -1]], dtype=np.int32), np.array([0, 7], dtype=np.int32), lower=1)
    moved = over_history(made, earlier, HISTORY)
    assert HISTORY.account_ids[moved.account].tolist() == earlier.account_ids[made.account].tolist()
    assert HISTORY.product_ids[moved.product].tolist() == earlier.product_ids[made.product].tolist()
    assert HISTORY.product_ids[moved.from_product].tolist() == earlier.product_ids[made.from_product].tolist()
    cross = over_history(
        candidates_of(np.array([[0]], dtype=np.int32), np.array([0], dtype=np.int32)), earlier, HISTORY
    )
    assert cross.from_product.tolist() == [-1]


def test_options_are_checked_at_the_door() -> None:
    assert parse_cutoffs("2024-06-01, 2024-07-01") == (JUNE, JULY)
    with pytest.raises(ConfigError, match="cutoff 'June', must be a date as 2011-06-01"):
        parse_cutoffs("June")
    with pytest.raises(ConfigError, match="ascending"):
        BacktestConfig(cutoffs=(JULY, JUNE))
    with pytest.raises(ConfigError, match="horizon_days == 0"):
        BacktestConfig(cutoffs=(JUNE,), horizon_days=0)


def test_the_command_reads_scores_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    orders = tmp_path / "orders.csv"
    frame = random_frame()
    frame.assign(ordered_at=frame[c.ORDERED_AT].dt.strftime("%Y-%m-%d %H:%M:%S")).to_csv(orders, index=False)
    tracking_uri = registry_in(tmp_path)
    options: dict[str, Any] = {"max_accounts": 20, "baselines_only": True, "tracking_uri": tracking_uri}
    backtest_command(orders=str(orders), cutoffs="2024-06-01", out=tmp_path / "out", **options)
    written = json.loads((tmp_path / "out" / "backtest.json").read_text())
    assert len(written["cutoffs"][0]["methods"]) == 17
    assert written["cutoffs"][0]["n_accounts"] <= 20
    assert (tmp_path / "out" / "ndcg.png").exists()
    assert "recently popular" in capsys.readouterr().out
    client = Registry(tracking_uri).client
    experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
    cutoff, run = client.search_runs([experiment], order_by=["start_time DESC"])
    assert cutoff.data.tags["mlflow.parentRunId"] == run.info.run_id
    assert cutoff.data.metrics["ndcg.popular"] == run.data.metrics["ndcg.popular.2024-06-01"]
    assert run.info.run_name == "backtest 2024-06-01 to 2024-06-01"
    assert run.data.metrics["ndcg.popular.2024-06-01"] == written["cutoffs"][0]["methods"][0]["ndcg"]
    assert {artifact.path for artifact in client.list_artifacts(run.info.run_id, "backtest")} == {
        "backtest/backtest.json",
        "backtest/ndcg.png",
        "backtest/coverage.png",
        "backtest/carts.png",
    }
