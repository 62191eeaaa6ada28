"""The door from end to end: fifteen lines from data to a readout, on files and on frames, and each answer of theirs."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from recsys import (
    Dataset,
    FitConfig,
    KpiConfig,
    Ladder,
    ReadoutConfig,
    Recommender,
    RuleConfig,
    backtest,
    default_retrievers,
    mine_rules,
)
from recsys.backtesting.baselines import PopularBaseline
from recsys.backtesting.models import EngineModel
from recsys.contracts.offers import ANSWERED, CartLine, OfferRequest
from recsys.errors import BundleError, ConfigError, ModelNotFoundError, PluginError
from recsys.fitting.pipeline import FitStep
from recsys.ranking.engine import OfferEngine
from recsys.simulation.market import Market, simulate_market
from tests.support.foreign_parts import NormalBayes, Rising, SameBrand

pytestmark = pytest.mark.slow

SMALL = FitConfig.model_validate(
    {
        "next_product": {
            "sampling": {"train_accounts": 100, "calibration_accounts": 200},
            "ranker": {"kind": "logistic"},
        },
        "upgrades": {"n_cutoffs": 2},
    }
)
READ_FILES = """
products, accounts = "market/products.parquet", "market/accounts.parquet"
data = Dataset.read("market/orders.parquet", products=products, accounts=accounts, as_of="2025-10-01")
"""
READ_FRAMES = """
data = Dataset.read(market.orders, products=market.products, accounts=market.accounts, as_of="2025-10-01")
"""
LINES = """
data.report
rules = mine_rules(data).to_frame()
model = Recommender(small, random_state=0).fit(data)
slate = model.recommend("A0000017", cart=["P000042"], k=4)
offers = slate.to_frame()[["rank", "name", "kind", "probability", "reason"]]
why = model.explain("A0000017", slate.offers[0].product_id, cart=["P000042"])
scores = backtest(data, {"engine": model}, cutoffs=["2025-08-01"], k=10, baselines=[PopularBaseline()])
table = scores.to_frame()
spend = {"metrics": {"spend": "spend"}, "covariates": {"spend": "history"}}
result = readout(visitors, arm="segment", control="No E-Mail", **spend)
verdict, effects = result.verdict, result.to_frame()
figures = kpis(data, by=["segment"]).to_frame()
again = Recommender.load(model.save("bundle")).recommend("A0000017", cart=["P000042"], k=4)
"""


@pytest.fixture(scope="module")
def market() -> Market:
    return simulate_market(n_accounts=250, n_products=150, seed=3)


def run(lines: str, where: Path, **given: object) -> SimpleNamespace:
    """Run lines in a folder, as a notebook does that begins with `from recsys import *`."""
    names: dict[str, Any] = {"small": SMALL, "PopularBaseline": PopularBaseline} | given
    exec("from recsys import *", names)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(where)
        exec(lines, names)
    return SimpleNamespace(**names)


@pytest.fixture(scope="module")
def on_files(market: Market, hillstrom_path: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("door")
    market.write(folder / "market")
    return run(READ_FILES + LINES, folder, visitors=str(hillstrom_path), folder=folder)


def test_the_lines_go_from_files_to_a_readout(on_files: SimpleNamespace) -> None:
    told = on_files
    assert told.data.report.orders.rows_kept == len(told.data.lines())
    assert {"antecedent_id", "consequent_id", "confidence", "lift", "q_value", "relation"} <= set(told.rules)
    assert told.offers["rank"].tolist() == [1, 2, 3, 4]
    assert told.offers["reason"].str.len().min() > 10
    assert (told.why.code, told.why.offer.rank) == ("offered", 1)
    assert told.why.values
    assert told.why.sentence == told.slate.offers[0].reason
    assert told.table["method"].tolist() == ["popular", "engine: raw ranker", "engine"]
    assert told.table["ndcg"].between(0, 1).all()
    assert told.table["log_loss"].notna().tolist() == [False, True, False]
    assert json.loads(told.scores.to_json())["cutoffs"][0]["methods"][2]["ndcg"] == told.table["ndcg"][2]
    assert told.verdict.verdict == "SHIP"
    assert sorted(told.effects["arm"]) == ["Mens E-Mail", "Womens E-Mail"]
    assert set(told.figures["dimension"].dropna()) == {"segment"}
    assert told.again == told.slate


def test_the_same_lines_on_frames_give_the_same(on_files: SimpleNamespace, market: Market, tmp_path: Path) -> None:
    visitors = pd.read_parquet(on_files.visitors)
    told = run(READ_FRAMES + LINES, tmp_path, market=market, visitors=visitors)
    pd.testing.assert_frame_equal(told.rules, on_files.rules)
    pd.testing.assert_frame_equal(told.table, on_files.table)
    pd.testing.assert_frame_equal(told.figures, on_files.figures)
    assert told.slate == on_files.slate == told.again
    assert told.result.effects == on_files.result.effects
    for file in ("manifest.json", "tables/candidates.arrow"):
        assert (tmp_path / "bundle" / file).read_bytes() == (on_files.folder / "bundle" / file).read_bytes()


def test_a_slate_as_a_frame_has_the_fields_of_an_answer(on_files: SimpleNamespace) -> None:
    frame = on_files.slate.to_frame()
    assert tuple(frame) == ANSWERED
    assert frame["product_id"].tolist() == [offer.product_id for offer in on_files.slate.offers]
    assert tuple(on_files.model.recommend(k=1, kinds=["upsell"]).to_frame()) == ANSWERED  # empty, too


def test_answers_are_those_of_the_engine(on_files: SimpleNamespace) -> None:
    model: Recommender = on_files.model
    asked = OfferRequest(
        "A0000017", (CartLine("P000042", 3.0),), limit=5, exclude=frozenset({"P000001"}), new_only=True
    )
    found = model.recommend("A0000017", cart=[CartLine("P000042", 3.0)], k=5, exclude=["P000001"], new_only=True)
    assert found == model.engine_.recommend(asked) == OfferEngine(model.model_, SMALL.ranking).recommend(asked)
    other = model.recommend("A0000017", k=5, mix="none", variants="keep")
    assert other == model.engine_.recommend(OfferRequest("A0000017", limit=5, mix="none", variants="keep"))
    german = model.recommend_all(["A0000017"], k=5, mix="none", variants="keep", language="de", new_only=True)
    asked = OfferRequest("A0000017", limit=5, mix="none", variants="keep", language="de", new_only=True)
    assert german["reason"].tolist() == [offer.reason for offer in model.engine_.recommend(asked).offers]
    everybody = model.recommend_all(k=3)
    some = model.recommend_all(["A0000017", "nobody"], k=3, kinds=["cross_sell"])
    assert everybody["account_id"].nunique() == len(on_files.data.accounts)
    assert some["account_id"].unique().tolist() == ["A0000017", "nobody"]
    assert set(some["kind"]) == {"cross_sell"}
    assert len(model.recommend_all([], k=3)) == 0


def test_a_product_that_is_not_offered_is_explained(on_files: SimpleNamespace) -> None:
    first = on_files.model.recommend("A0000017", k=1).offers[0].product_id
    why = on_files.model.explain("A0000017", first, cart=[first])
    assert (why.code, why.offer) == ("in_cart", None)
    assert on_files.model.explain(None, "P9").sentence == "the model does not know the product"
    last = on_files.model.recommend("A0000017", k=12).offers[-1].product_id
    assert on_files.model.explain("A0000017", last, k=12).code == "offered"
    assert on_files.model.explain("A0000017", last, k=1).code != "offered"


def test_whom_to_call_and_what_is_left_to_sell(on_files: SimpleNamespace) -> None:
    product = on_files.slate.offers[0].product_id
    calls = on_files.model.call_list(product, 3)
    assert [call.rank for call in calls] == [1, 2, 3]
    assert calls[0].probability >= calls[2].probability
    board = on_files.model.white_space("A0000017", products_per_category=2)
    assert {cell.standing for shelf in board.shelves for cell in shelf.cells} >= {"owned", "gap"}


def test_what_is_loaded_is_saved_again_to_the_same_bytes(on_files: SimpleNamespace, tmp_path: Path) -> None:
    loaded = Recommender.load(on_files.folder / "bundle")
    assert loaded.save(str(tmp_path / "again")) == tmp_path / "again"
    for file in sorted((on_files.folder / "bundle").rglob("*.*")):
        assert (tmp_path / "again" / file.relative_to(on_files.folder / "bundle")).read_bytes() == file.read_bytes()
    assert loaded.fit_config == on_files.model.fit_config
    pd.testing.assert_frame_equal(loaded.rules_.to_frame(), on_files.model.rules_.to_frame())
    pd.testing.assert_frame_equal(loaded.ladder_.to_frame(), on_files.model.ladder_.to_frame())


def test_it_keeps_the_conventions_of_scikit_learn(on_files: SimpleNamespace) -> None:
    assert isinstance(on_files.model, EngineModel)
    fresh = clone(on_files.model)
    empty = dict.fromkeys(("features", "ladder", "ranker", "retrievers"))
    assert fresh.get_params() == empty | {"config": SMALL, "random_state": 0}
    assert fresh.set_params(random_state=7).fit_config.seed == 7
    assert Recommender().fit_config == FitConfig()
    for ask in (fresh.recommend, fresh.recommend_all, fresh.learned, lambda: fresh.save("bundle")):
        with pytest.raises(NotFittedError):
            ask()
    with pytest.raises(NotFittedError):
        Recommender.load(on_files.folder / "bundle").learned()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k == 0, must be a whole number of 1 or more"),
        ({"cart": "P000042"}, r"cart == 'P000042', must be several; give \['P000042'\]"),
        ({"exclude": "P000042"}, "exclude == 'P000042', must be several"),
        ({"kinds": ["downsell"]}, "kinds has 'downsell', must name cross_sell or upsell"),
        ({"kinds": []}, "kinds is empty"),
        ({"mix": ""}, "mix == '', must be one of none, kinds, categories, all"),
        ({"language": ""}, "language == '', must be a tag"),
        ({"objective": "fame"}, "objective == 'fame', must be one of conversion, revenue, margin"),
    ],
)
def test_a_wrong_question_is_told(on_files: SimpleNamespace, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        on_files.model.recommend("A0000017", **arguments)


def test_other_wrong_input_is_told(on_files: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "stranger").mkdir()
    (tmp_path / "stranger" / "file.txt").touch()
    with pytest.raises(BundleError, match="exists and is no bundle"):
        on_files.model.save(tmp_path / "stranger")
    with pytest.raises(ModelNotFoundError, match=r"is a file, must be the folder of a bundle.*; pickles are not read"):
        Recommender.load(tmp_path / "stranger" / "file.txt")
    with pytest.raises(ModelNotFoundError, match="nowhere: no such folder"):
        Recommender.load(tmp_path / "nowhere")
    with pytest.raises(ModelNotFoundError, match="no registry at sqlite:///"):
        Recommender.load("models:/offers@champion", tracking_uri=f"sqlite:///{tmp_path}/none.db")
    with pytest.raises(ConfigError, match="seed == -1: must be greater than or equal to 0"):
        Recommender(random_state=-1).fit(on_files.data)
    with pytest.raises(ConfigError, match="product_id == 'P9', the model does not know it"):
        on_files.model.call_list("P9", 3)
    with pytest.raises(ConfigError, match="capacity == 0, must be a whole number"):
        on_files.model.call_list("P000042", 0)


def test_parts_of_others_are_tried_beside_baselines_and_learned(on_files: SimpleNamespace) -> None:
    assert not Path("market").exists()  # its files were named by their place in another working folder
    own = Recommender(SMALL, retrievers=[*default_retrievers(), SameBrand()], ranker=NormalBayes(), random_state=0)
    models: dict[str, Any] = {"own": own, "rising": Rising()}
    found = backtest(on_files.data, models, cutoffs="2025-08-01", k=3, baselines=[PopularBaseline()])
    frame = found.to_frame().set_index("method")
    kinds = {"popular": "baseline", "own: raw ranker": "raw", "own": "served", "rising": "served"}
    assert frame["kind"].to_dict() == kinds
    assert frame["ndcg"].between(0, 1).all()
    assert {one.method for one in found.pooled} == kinds.keys() - {"popular"}
    assert not hasattr(own, "model_")  # a clone was fitted
    with pytest.raises(PluginError, match="lacks fit, recommend"):
        backtest(on_files.data, {"odd": SimpleNamespace(name="odd")}, cutoffs="2025-08-01")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cutoffs": ["2025-13-01"]}, "'2025-13-01' is not a moment"),
        ({"cutoffs": ["2025-08-01"], "horizon": 3}, "horizon == 3: Extra inputs are not permitted"),
        ({"cutoffs": ["2025-08-01"], "horizon_days": 7}, "horizon_days == 7, but model 'popular' learns 30 days"),
        ({"cutoffs": ["2025-08-01"]}, "model 'popular' is called as a baseline is"),
        ({"cutoffs": 3}, r"cutoffs == 3, must be several moments; give \['2025-06-01'\]"),
        ({"cutoffs": date(2025, 8, 1), "horizon_days": 7}, "horizon_days == 7, but model 'popular' learns"),
        ({"cutoffs": []}, "cutoffs == .*: must have at least 1 item"),
    ],
)
def test_a_wrong_backtest_is_told(on_files: SimpleNamespace, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        backtest(on_files.data, {"popular": on_files.model}, **options)


class Silent(Rising):
    """As many write `fit`: without what it returns."""

    name = "silent"

    def fit(self, history, cutoff):
        super().fit(history, cutoff)


class SilentBrand(SameBrand):
    def fit(self, snapshot):
        super().fit(snapshot)


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda data: backtest(data, [Rising()], cutoffs="2025-08-01"), ConfigError, "models is a list, must be a map"),  # type: ignore[arg-type]
        (
            lambda data: backtest(data, {"own": Recommender}, cutoffs="2025-08-01"),  # type: ignore[dict-item]
            PluginError,
            r"models\['own'\] == .*, must be an object and not a class; call it: Recommender\(\)",
        ),
        (
            lambda data: backtest(data, {"own": Rising()}, cutoffs="2025-08-01", baselines=PopularBaseline()),
            PluginError,
            r"baselines == PopularBaseline\(\), must be several in order; give a list",
        ),
        (
            lambda data: backtest(data, {"own": Rising()}, cutoffs="2025-08-01", baselines=["popular"]),  # type: ignore[list-item]
            PluginError,
            r"baselines\[0\] == str, lacks name, fit, recommend",
        ),
        (
            lambda data: backtest(data, {"own": Silent()}, cutoffs="2025-08-01", baselines=[]),
            PluginError,
            "baseline 'silent': fit returned None, must return what was fitted; end it with `return self`",
        ),
        (lambda data: Recommender(SMALL, ladder="up").fit(data), ConfigError, "ladder is a str, must be a Ladder"),  # type: ignore[arg-type]
        (
            lambda data: Recommender(SMALL, retrievers=object()).fit(data),  # type: ignore[arg-type]
            PluginError,
            "retrievers == <object .* several",
        ),
        (lambda data: Recommender(SMALL, features="price").fit(data), PluginError, "features == 'price', must be sev"),  # type: ignore[arg-type]
        (
            lambda data: Recommender(SMALL, retrievers=[SilentBrand()]).fit(data),
            PluginError,
            "SilentBrand: fit returned",
        ),
    ],
)
def test_wrong_parts_are_told(
    on_files: SimpleNamespace, ask: Callable[[Dataset], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ask(on_files.data)


def test_a_fit_logs_its_steps(market: Market, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="recsys"), pytest.raises(PluginError):
        Recommender(SMALL, retrievers=[SilentBrand()]).fit(market.orders)
    steps = [record.getMessage() for record in caplog.records if record.name == "recsys.fitting.steps"]
    assert steps == [f"step: {step}" for step in list(FitStep)[:5]]


def test_rules_and_ladder_of_order_lines_are_those_of_their_dataset(market: Market) -> None:
    data = Dataset.read(market.orders)
    of_lines, config = mine_rules(market.orders, RuleConfig(keep="all")), RuleConfig(keep="all")
    pd.testing.assert_frame_equal(of_lines.to_frame(), mine_rules(data, config).to_frame())
    assert len(of_lines) == len(of_lines.to_frame()) > len(mine_rules(data))
    pd.testing.assert_frame_equal(Ladder.build(market.orders).to_frame(), Ladder.build(data).to_frame())
    changed = of_lines.to_frame()
    changed["lift"] = 0.0
    assert (of_lines.to_frame()["lift"] > 0).all()


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda model: model.recommend("A0000017", k="3"), "k == '3', must be a whole number"),
        (lambda model: model.recommend(float("nan")), "account_id has no value"),
        (lambda model: model.recommend(cart=None), "cart == None, must be several"),
        (lambda model: model.recommend_all("A0000017"), "account_ids == 'A0000017', must be several"),
        (lambda model: model.white_space("A0000017", products_per_category=-1), "products_per_category == -1"),
        (lambda _: Recommender({"seed": 1}).fit_config, "config is a dict, must be a FitConfig"),  # type: ignore[arg-type]
        (lambda _: FitConfig(bad=1), "^bad == 1: Extra inputs are not permitted; must be one of seed, rules, cart, "),  # type: ignore[call-arg]
        (lambda _: FitConfig(rules={"bad": 1}), "^rules.bad == 1: .* must be one of min_product_orders, min_both, "),
        (lambda _: FitConfig(ladder={"min_price_ratio": 6.0}), "^ladder: min_price_ratio == 6.0, must be below"),
        (lambda _: RuleConfig(min_both=-1, keep=2), "^min_both == -1: must .*; keep == 2: must be"),
        (lambda _: ReadoutConfig(alpha=2), "^alpha == 2: must be less than 0.5"),
        (lambda _: KpiConfig(period="era"), "^period == 'era': must be 'day', 'week'"),
    ],
)
def test_a_wrong_argument_is_told(
    on_files: SimpleNamespace, ask: Callable[[Recommender], object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        ask(on_files.model)


def test_ids_of_numbers_are_those_of_the_cleaning(market: Market) -> None:
    """A column of whole numbers with a gap is one of floats in pandas; its ids are read without the `.0`."""
    numbers = market.orders["account_id"].str[1:].astype(float).mask(market.orders.index < 3)
    model = Recommender(SMALL, random_state=0).fit(market.orders.assign(account_id=numbers))
    same: tuple[Any, ...] = (17.0, 17, "17")
    slates = [model.recommend(account, k=2) for account in same]
    assert slates[0].tier == "account"
    assert slates[0] == slates[1] == slates[2]
