"""`offers recommend`: one file with the offers of every account."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

from recsys.bundle.manifest import model_version
from recsys.bundle.save import save_bundle
from recsys.cli.recommend import parse_kinds, recommend_command
from recsys.contracts import columns as c
from recsys.contracts.events import EventQuery
from recsys.contracts.offers import OfferRequest
from recsys.errors import ConfigError, ModelNotFoundError, OfferEngineError
from recsys.events.reading import read_frame
from recsys.events.store import open_store
from recsys.offer_model.tables import owned_by
from recsys.ranking.batch import LOGGED_SCHEMA, SCHEMA, answers, write_offers
from recsys.ranking.engine import OfferEngine
from tests.support.synthetic_model import SyntheticModelConfig, synthetic_model

MODEL = synthetic_model(SyntheticModelConfig(n_accounts=30, n_products=80), np.random.default_rng(9))

Run = Callable[..., str]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    save_bundle(tmp_path / "bundle", MODEL)
    return tmp_path / "bundle"


@pytest.fixture
def run(bundle: Path) -> Run:
    """Runs the command on the bundle; errors come out as they are, as the door takes them."""
    application = typer.Typer()
    application.command()(recommend_command)

    def call(*arguments: str, model: str | None = None) -> str:
        result = CliRunner().invoke(application, ["--model", model or str(bundle), *arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output

    return call


def test_every_account_gets_its_offers_best_first(run: Run, tmp_path: Path) -> None:
    output = run("--out", str(tmp_path / "recs.parquet"), "--limit", "4")
    frame = pd.read_parquet(tmp_path / "recs.parquet")
    assert "120 offers for 30 accounts" in output
    assert frame.columns.tolist() == SCHEMA.names
    assert frame.groupby(c.ACCOUNT_ID)[c.RANK].agg(list).map(lambda ranks: ranks == [1, 2, 3, 4]).all()
    assert frame[c.ACCOUNT_ID].is_monotonic_increasing
    assert set(frame[c.KIND]) == {"cross_sell", "upsell"}
    assert frame[c.PROBABILITY].between(0, 1).all()
    assert frame[[c.PRICE, c.REASON, c.TIER, c.CURRENCY, c.HORIZON_DAYS]].notna().all(axis=None)


def test_the_rows_are_the_engine_s_own_answers(run: Run, tmp_path: Path) -> None:
    run("--out", str(tmp_path / "recs.parquet"), "--limit", "3", "--objective", "margin")
    frame = pd.read_parquet(tmp_path / "recs.parquet").set_index(c.ACCOUNT_ID)
    request = OfferRequest("A0000004", limit=3, objective="margin")
    for offer in OfferEngine(MODEL).recommend(request).offers:
        row = frame.loc["A0000004"].iloc[offer.rank - 1]
        assert (row[c.PRODUCT_ID], row[c.REASON], row[c.SCORE]) == (offer.product_id, offer.reason, offer.score)


def test_mix_variants_and_language_are_asked_for_as_in_a_request(run: Run, tmp_path: Path) -> None:
    run("--out", str(tmp_path / "recs.parquet"), "--mix", "none", "--variants", "keep", "--language", "de")
    frame = pd.read_parquet(tmp_path / "recs.parquet").set_index(c.ACCOUNT_ID)
    request = OfferRequest("A0000004", mix="none", variants="keep", language="de")
    expected = [(offer.product_id, offer.reason) for offer in OfferEngine(MODEL).recommend(request).offers]
    rows = frame.loc["A0000004"]
    assert list(zip(rows[c.PRODUCT_ID], rows[c.REASON], strict=True)) == expected
    assert rows[c.MOVED_BY].isna().all()


def test_no_cross_sell_is_owned_and_raw_is_the_ranker_s_order(run: Run, tmp_path: Path) -> None:
    run("--out", str(tmp_path / "raw.parquet"), "--raw", "--kinds", "cross_sell", "--limit", "5")
    frame = pd.read_parquet(tmp_path / "raw.parquet")
    assert set(frame[c.KIND]) == {"cross_sell"}
    for row, account in enumerate(MODEL.accounts.ids):
        mine = frame.loc[frame[c.ACCOUNT_ID] == account, c.PRODUCT_ID].tolist()
        owned = {MODEL.products.ids[product] for product in owned_by(MODEL, row, ever=True).tolist()}
        start = int(MODEL.accounts.candidates_start[row])
        stored = [MODEL.products.ids[product] for product in MODEL.candidates.product[start : start + 5].tolist()]
        assert not owned & set(mine)
        assert mine == stored


def test_csv_holds_the_same_rows(run: Run, tmp_path: Path) -> None:
    run("--out", str(tmp_path / "recs.parquet"))
    run("--out", str(tmp_path / "recs.csv"))
    parquet = pd.read_parquet(tmp_path / "recs.parquet")
    text = pd.read_csv(
        tmp_path / "recs.csv", keep_default_na=False, na_values={c.FROM_PRODUCT_ID: [""], c.MOVED_BY: [""]}
    )
    pd.testing.assert_frame_equal(text, parquet, check_dtype=False)


def test_the_same_bundle_gives_the_same_file(run: Run, tmp_path: Path) -> None:
    run("--out", str(tmp_path / "a.parquet"))
    run("--out", str(tmp_path / "b.parquet"))
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_log_records_a_decision_a_slate(run: Run, bundle: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'var' / 'offers.db'}"
    run("--out", str(tmp_path / "recs.parquet"), "--limit", "2", "--log", "--store", url)
    table = pq.read_table(tmp_path / "recs.parquet")
    assert table.schema.names == LOGGED_SCHEMA.names
    frame = table.to_pandas()
    store = open_store(url)
    try:
        decisions = read_frame(store, EventQuery("decisions")).set_index(c.DECISION_ID)
        offers = read_frame(store, EventQuery("decision_offers"))
    finally:
        store.close()
    assert frame.groupby(c.ACCOUNT_ID)[c.DECISION_ID].nunique().eq(1).all()
    assert decisions.loc[frame[c.DECISION_ID], c.ACCOUNT_ID].tolist() == frame[c.ACCOUNT_ID].tolist()
    assert set(decisions["surface"]) == {"bulk"}
    assert set(decisions["model_version"]) == {model_version(bundle)}
    key = [c.DECISION_ID, c.RANK]
    both = frame.merge(offers, on=key, suffixes=("", "_kept"), validate="one_to_one")
    assert len(both) == len(frame) == len(offers)
    assert (both[c.PRODUCT_ID] == both[f"{c.PRODUCT_ID}_kept"]).all()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--kinds", "downsell"], "must name cross_sell or upsell"),
        (["--kinds", ","], "must name cross_sell or upsell"),
        (["--limit", "0"], "must be 1 or more"),
        (["--objective", "fame"], "must be one of conversion, revenue, margin"),
        (["--mix", ""], "--mix == '', must be one of none, kinds, categories, all"),
        (["--variants", "some"], "must be one of leave_out, keep"),
        (["--language", "German, please"], "must be a tag such as 'de'"),
        (["--out", "recs.xlsx"], "must be .parquet or .csv"),
        (["--out", "/proc/none/recs.csv"], "can't be written"),
        (["--log", "--store", "mysql://x/y"], "must be sqlite:///FILE or postgresql://"),
    ],
)
def test_wrong_options_are_sentences(run: Run, tmp_path: Path, arguments: list[str], sentence: str) -> None:
    with pytest.raises(OfferEngineError, match=sentence):
        run("--out", str(tmp_path / "recs.parquet"), *arguments)
    assert not (tmp_path / "recs.parquet").exists()


def test_an_unknown_model_is_a_sentence(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="no such folder"):
        run("--out", str(tmp_path / "recs.parquet"), model=str(tmp_path / "nothing"))


def test_a_failure_half_way_leaves_the_old_file_and_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "recs.parquet"
    path.write_text("the old one")
    blocks = answers(OfferEngine(MODEL), OfferRequest(limit=2), size=10)

    def broken() -> object:
        yield next(blocks)
        raise ConfigError("stopped")

    with pytest.raises(ConfigError, match="stopped"):
        write_offers(path, broken())  # type: ignore[arg-type]
    assert path.read_text() == "the old one"
    assert [file.name for file in tmp_path.iterdir()] == ["recs.parquet"]


def test_kinds_are_read_in_one_order_without_doubles() -> None:
    assert parse_kinds("upsell, cross_sell,upsell") == ("cross_sell", "upsell")
    assert parse_kinds("upsell") == ("upsell",)
