"""The look back: blind to what came after the cutoff, judged on it, and quiet where it can't look back."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from recsys.arrays import RowArray
from recsys.backtesting.backtest import RAW
from recsys.contracts.offers import OfferRequest
from recsys.contracts.plugins import load_plugin
from recsys.data.dataset import Dataset, ReadSpec, read_dataset
from recsys.data.history import History
from recsys.errors import PluginError
from recsys.evaluation.offline.calibration import judge_calibration
from recsys.evaluation.offline.ground_truth import cross_sell_pairs, known_accounts
from recsys.fitting.pipeline import FittedModels, fit
from recsys.ladder.edges import Ladder
from recsys.ladder.file import fixed_ladder, ladder_from_data
from recsys.ranking.engine import OfferEngine
from tests.support.foreign_distribution import install
from tests.training.conftest import few, replayed
from training.evidence import data_facts, gather_evidence, kind_calibration, offered_share
from training.gate import DataFacts, GateCheck, GateEvidence, TrainConfig, judge_evidence
from training.validation import PastValidation, guarded, replay_upgrades, take_window, validate_on_past


@pytest.fixture(scope="module")
def evidence(
    fitted: FittedModels, market_data: Dataset, replay: PastValidation, small_config: TrainConfig
) -> GateEvidence:
    return gather_evidence(fitted, market_data, small_config, replay, np.random.default_rng(0))


def _failed(checks: tuple[GateCheck, ...]) -> list[str]:
    return [check.name for check in checks if not check.passed]


def test_cutoffs_lie_where_the_labels_are_complete(
    replay: PastValidation, market_data: Dataset, small_config: TrainConfig
) -> None:
    assert replay.cross is not None
    assert replay.up is not None
    horizon, follow = (
        timedelta(days=days) for days in (small_config.horizon_days, small_config.upgrades.climbs.follow_days)
    )
    assert replay.cross.past.as_of == replay.cross.split.cutoff == market_data.as_of - horizon
    assert replay.up.past.as_of == market_data.as_of - horizon - follow
    for past in (replay.cross.past, replay.up.past):
        assert past.lines()["ordered_at"].max() < past.as_of


def test_what_came_after_the_cutoff_changes_no_list(
    replay: PastValidation, market_spec: ReadSpec, fitted: FittedModels, small_config: TrainConfig, tmp_path: Path
) -> None:
    """Everybody buys something else, and more, after the cutoff: the truth moves, what was said does not."""
    assert replay.cross is not None
    orders = pd.read_parquet(str(market_spec.orders))
    late = orders["ordered_at"] >= pd.Timestamp(replay.cross.split.cutoff)
    other = orders["product_id"].sample(frac=1, random_state=0).to_numpy()
    changed = orders.assign(product_id=np.where(late, other, orders["product_id"]), unit_price=orders["unit_price"])
    changed.to_parquet(tmp_path / "orders.parquet", index=False)
    spec = market_spec.model_copy(update={"orders": str(tmp_path / "orders.parquet")})
    data = read_dataset(spec)
    again = replayed(spec, data, fit(data, small_config), small_config).cross
    assert again is not None
    before, after = (
        {
            (each.split.history.account_ids[a], each.split.history.product_ids[p])
            for a, p in zip(found.account.tolist(), found.product.tolist(), strict=True)
        }
        for each, found in ((one, one.model.score(one.past.history(), one.past.as_of)) for one in (replay.cross, again))
    )
    assert before == after
    assert again.split.truth.relevant.nnz != replay.cross.split.truth.relevant.nnz
    assert again.ndcg.mean() != pytest.approx(replay.cross.ndcg.mean(), abs=1e-6)


def test_evidence_says_what_the_replay_found(evidence: GateEvidence, replay: PastValidation) -> None:
    assert replay.cross is not None
    raw = replay.cross.result.method(RAW)
    assert evidence.ndcg_at_10 == pytest.approx(raw.scores.means()["ndcg"])
    assert [one.rival for one in evidence.baselines] == ["popular", "recently popular, 30 d"]
    popular = replay.cross.result.method("popular")
    assert evidence.baselines[0].difference == pytest.approx((raw.scores.ndcg - popular.scores.ndcg).mean())
    assert evidence.baselines[0].low < evidence.baselines[0].difference < evidence.baselines[0].high
    assert {one.kind for one in evidence.calibration} == {"cross_sell", "upsell"} == set(evidence.kinds)
    assert evidence.n_accounts == len(replay.cross.split.truth) > 20
    assert GateEvidence.model_validate_json(evidence.model_dump_json()) == evidence


def test_a_market_of_three_hundred_accounts_is_judged_as_a_small_firm(
    evidence: GateEvidence, small_config: TrainConfig
) -> None:
    assert small_config.gate.profile_of(evidence) == "small"
    of_small, of_large = (
        judge_evidence(evidence, None, limits) for limits in (small_config.gate.small, small_config.gate.large)
    )
    assert set(_failed(of_small)) <= set(_failed(of_large))


def test_a_fault_in_the_replay_is_the_engines() -> None:
    def broken() -> PastValidation:
        raise IndexError("index 7 is out of bounds")

    found = guarded(broken)
    assert (found.cross, found.up) == (None, None)
    assert found.notes == (
        "the past was not replayed, because the engine failed in it: IndexError: index 7 is out of bounds",
    )
    assert found.fault is not None
    assert "in broken" in found.fault


def test_a_fault_of_an_installed_part_is_told_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before, it was told as a fault of the engine, to report with us."""
    parts = "[offer_engine.baselines]\nlatest = broken_rival:Latest\n[offer_engine.features]\nage = broken_rival:Age\n"
    install(tmp_path, parts)
    code = "class Latest:\n    name = 'latest'\n    def fit(self, history, cutoff): return {}['margin']\n"
    (tmp_path / "broken_rival.py").write_text(f"{code}    def recommend(self, accounts, k): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    rival = load_plugin("baselines", "latest")
    with pytest.raises(
        PluginError, match=r"baselines 'latest' \(broken_rival:Latest\): failed .*: KeyError: 'margin'; "
    ):
        guarded(lambda: rival.fit(None, None))


@pytest.mark.parametrize("error", [PluginError("baseline 'own'"), OSError("disk full"), MemoryError()])
def test_what_is_no_fault_of_the_engine_is_told_as_it_is(error: Exception) -> None:
    def failing() -> PastValidation:
        raise error

    with pytest.raises(type(error)):
        guarded(failing)


def test_coverage_is_counted_on_served_slates(
    fitted: FittedModels, market_data: Dataset, evidence: GateEvidence
) -> None:
    engine = OfferEngine(fitted.model)
    served = {
        offer.product_id
        for account_id in fitted.model.accounts.ids
        for offer in engine.recommend(OfferRequest(account_id=account_id)).offers
    }
    lines = market_data.lines()
    active = set(lines.loc[lines["ordered_at"] >= market_data.as_of - timedelta(days=90), "product_id"])
    assert evidence.coverage == pytest.approx(len(served & active) / len(active))
    assert 0.2 < evidence.coverage <= 1


def test_an_engine_that_offers_everybody_the_same_fails(
    fitted: FittedModels,
    market_data: Dataset,
    small_config: TrainConfig,
    evidence: GateEvidence,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recommend = OfferEngine.recommend
    monkeypatch.setattr(
        OfferEngine, "recommend", lambda engine, request: recommend(engine, replace(request, account_id=None))
    )
    narrow = offered_share(fitted, market_data.as_of, small_config, np.random.default_rng(0))
    assert 0 < narrow <= 10 / evidence.data.products
    assert "active catalogue offered to someone" in _failed(
        judge_evidence(evidence.model_copy(update={"coverage": narrow}), None)
    )


def test_of_many_accounts_as_many_are_looked_at_as_products_are_active(
    fitted: FittedModels, market_data: Dataset, small_config: TrainConfig, evidence: GateEvidence
) -> None:
    """Fewer could not show all of a catalogue that is larger than ten times their number."""
    few = small_config.evaluation.model_copy(update={"max_accounts": 1})
    config = small_config.model_copy(update={"evaluation": few})
    sampled = offered_share(fitted, market_data.as_of, config, np.random.default_rng(0))
    assert 10 / evidence.data.products < sampled <= evidence.coverage


def test_data_facts_by_hand(
    market_data: Dataset,
    fitted: FittedModels,
    replay: PastValidation,
    small_config: TrainConfig,
    evidence: GateEvidence,
) -> None:
    lines = market_data.lines()
    recent = lines[lines["ordered_at"] >= market_data.as_of - timedelta(days=90)]
    assert evidence.data.rows_a_day == pytest.approx(len(recent) / 90)
    assert evidence.data.active_accounts == recent["account_id"].nunique()
    assert evidence.data.products == recent["product_id"].nunique()
    assert evidence.data.fingerprint == market_data.fingerprint
    young = fitted.history.select(fitted.history.seconds >= market_data.as_of.timestamp() - 10 * 86_400)
    days = (market_data.as_of.timestamp() - young.seconds.min()) / 86_400
    assert 5 < days < 10
    month = small_config.model_copy(
        update={"evaluation": small_config.evaluation.model_copy(update={"active_days": 30})}
    )
    monthly = gather_evidence(fitted, market_data, month, replay, np.random.default_rng(0))
    last = lines[lines["ordered_at"] >= market_data.as_of - timedelta(days=30)]
    assert monthly.data.products == last["product_id"].nunique() < evidence.data.products
    assert data_facts(young, market_data, 90).rows_a_day == pytest.approx(len(young) / days)


def test_data_far_below_the_champions_fail(evidence: GateEvidence) -> None:
    more = DataFacts(
        fingerprint="b",
        rows_a_day=evidence.data.rows_a_day / 0.49,  # a small firm's may fall by half
        active_accounts=evidence.data.active_accounts,
        products=evidence.data.products,
    )
    assert "data: rows a day" in _failed(judge_evidence(evidence, more))
    assert "data: rows a day" not in _failed(judge_evidence(evidence, evidence.data))


def test_a_constant_model_fails(replay: PastValidation, small_config: TrainConfig, evidence: GateEvidence) -> None:
    """The rate of the month before for everybody: no worse in sum than any model, and worth nothing."""
    assert replay.cross is not None
    split = replay.cross.split
    history, cutoff, horizon = split.history, split.cutoff, small_config.horizon_days
    standing = np.flatnonzero(known_accounts(history, cutoff))
    account, product = (part.ravel().astype(np.int32) for part in np.meshgrid(standing, np.arange(history.n_products)))
    rate = cross_sell_pairs(history, cutoff, horizon, account[:0], product[:0], np.zeros(0)).tail_probability
    constant = cross_sell_pairs(history, cutoff, horizon, account, product, np.full(len(account), rate))
    assert constant.n_unlisted == 0
    measured = kind_calibration("cross_sell", judge_calibration(constant))
    failed = _failed(judge_evidence(evidence.model_copy(update={"calibration": (measured,)}), None))
    assert "cross_sell: log loss below the base rate's" in failed


class Oracle:
    """A rival that knows what will be bought: no honest model beats it."""

    name = "oracle"

    def __init__(self, relevant: dict[int, list[int]]) -> None:
        self._relevant = relevant

    def fit(self, history: History, cutoff: datetime) -> Oracle:
        assert history.seconds.max() < cutoff.timestamp()
        return self

    def recommend(self, accounts: RowArray, k: int) -> RowArray:
        lists = np.full((len(accounts), k), -1, dtype=np.int32)
        for row, account in enumerate(accounts.tolist()):
            found = self._relevant[account][:k]
            lists[row, : len(found)] = found
        return lists


def test_a_model_worse_than_a_baseline_fails(
    market_spec: ReadSpec, market_data: Dataset, fitted: FittedModels, small_config: TrainConfig
) -> None:
    window = take_window(fitted.history, market_data.as_of - timedelta(days=30), small_config)
    truth = window.split.truth
    oracle = Oracle({a: truth.relevant[[row]].indices.tolist() for row, a in enumerate(truth.accounts.tolist())})

    def read(cutoff: datetime) -> Dataset:
        return read_dataset(market_spec.model_copy(update={"as_of": cutoff}))

    found = validate_on_past(
        read,
        fitted.history,
        market_data.as_of,
        small_config,
        ladder_from_data(small_config.ladder),
        baselines=lambda: (oracle,),
    )
    judged = judge_evidence(gather_evidence(fitted, market_data, small_config, found, np.random.default_rng(0)), None)
    assert "NDCG@10 beats oracle" in _failed(judged)
    assert found.cross is not None
    assert found.cross.result.method("oracle").ndcg == 1.0


def test_a_sample_of_the_accounts(fitted: FittedModels, market_data: Dataset, small_config: TrainConfig) -> None:
    cutoff = market_data.as_of - timedelta(days=30)
    few_accounts = small_config.model_copy(
        update={"evaluation": small_config.evaluation.model_copy(update={"max_accounts": 60})}
    )
    window, whole = (take_window(fitted.history, cutoff, config) for config in (few_accounts, small_config))
    assert len(window.standing) == 60
    assert len(window.split.truth) == 30  # half of them later buyers
    buyers = np.isin(whole.standing, whole.split.truth.accounts).mean()
    assert np.average(
        np.isin(window.standing, window.split.truth.accounts), weights=window.weight[window.standing]
    ) == (pytest.approx(buyers))
    np.testing.assert_array_equal(np.flatnonzero(window.weight), window.standing)
    assert set(window.split.truth.accounts) == set(whole.split.truth.accounts) & set(window.standing)
    place = np.searchsorted(whole.split.truth.accounts, window.split.truth.accounts)
    differs: Any = window.split.truth.relevant != whole.split.truth.relevant[place]
    assert differs.nnz == 0


def test_short_history_is_not_replayed_and_says_so(
    market_spec: ReadSpec, market_data: Dataset, fitted: FittedModels, small_config: TrainConfig
) -> None:
    first = pd.Timestamp(fitted.history.seconds.min(), unit="s", tz="UTC").to_pydatetime()
    as_of = first + timedelta(days=20)
    found = validate_on_past(
        lambda cutoff: read_dataset(market_spec.model_copy(update={"as_of": cutoff})),
        fitted.history.before(as_of),
        as_of,
        small_config,
        ladder_from_data(small_config.ladder),
        baselines=few,
    )
    assert found.cross is None
    assert found.up is None
    assert [note.split(":")[0] for note in found.notes] == ["cross_sell was not replayed", "upsell was not replayed"]
    judged = judge_evidence(gather_evidence(fitted, market_data, small_config, found, np.random.default_rng(0)), None)
    assert _failed(judged) == [
        "NDCG@10 beats every baseline", "cross_sell: calibration holds", "upsell: calibration holds",
    ]  # fmt: skip


def test_a_given_ladder_keeps_the_edges_that_the_past_knew(
    replay: PastValidation, fitted: FittedModels, small_config: TrainConfig
) -> None:
    assert replay.up is not None
    past = replay.up.past
    early = past.history()
    kept = fixed_ladder(Ladder(fitted.ladder.edges.head(3)), small_config.ladder)(past, early)
    assert kept.from_ids.tolist() == fitted.ladder.from_ids[:3].tolist()
    assert (kept.edges["n_standing"] <= fitted.ladder.edges["n_standing"].head(3)).all()
    stranger = fitted.ladder.edges.head(1).assign(to_product_id="launched later")
    assert len(fixed_ladder(Ladder(stranger), small_config.ladder)(past, early)) == 0
    again = replay_upgrades(past, fitted.history, small_config, fixed_ladder(fitted.ladder, small_config.ladder))
    assert again.scores.n_edges == len(fitted.ladder)
