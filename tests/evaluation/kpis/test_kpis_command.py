"""`offers kpis`: files in, a table, JSON or a page out; and the definitions by themselves."""

from __future__ import annotations

import html
import json
import re
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from recsys.cli.main import main
from recsys.contracts.events import EventQuery
from recsys.evaluation.kpis.definition import standard_attributes
from recsys.evaluation.kpis.registry import REGISTRY
from recsys.events.store import open_store

pytestmark = pytest.mark.slow

KNOWN = {"kpis": EntryPoint("kpis", "recsys.cli.kpis:kpis_command", "offer_engine.commands")}


@pytest.fixture(autouse=True)
def _no_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that run tests side by side have a width of their own in the environment."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, hand_tables: dict[str, object]) -> Path:
    folder = tmp_path_factory.mktemp("kpis")
    for name, frame in hand_tables.items():
        frame.to_csv(folder / f"{name}.csv", index=False)  # type: ignore[attr-defined]
    return folder


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(["kpis", *arguments], KNOWN)
    return int(end.value.code or 0)


def files(folder: Path) -> list[str]:
    return [
        f"--orders={folder / 'orders.csv'}", f"--products={folder / 'products.csv'}",
        f"--accounts={folder / 'accounts.csv'}", f"--upgrades={folder / 'upgrades.csv'}", "--as-of=2024-10-01",
    ]  # fmt: skip


def test_json_holds_every_figure(
    folder: Path, hand_store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "kpis.json"
    arguments = ["--period=quarter", "--by=channel,segment", f"--events={hand_store}", "--format=json", f"--out={out}"]
    assert run(*files(folder), *arguments, "--target=upsell_ratio=20%,attrition=0.3") == 0
    assert f"Wrote {out}" in capsys.readouterr().out
    document = json.loads(out.read_text("utf-8"))
    assert document["schema_version"] == 1
    found = {
        (item["kpi"], item["basis"]): item
        for item in document["values"]
        if item["dimension"] is None and item["period"] is None
    }
    without_a_model = {(name, basis) for name, item in REGISTRY.items() for basis in item.bases if basis != "forecast"}
    assert set(found) == without_a_model
    assert found["upsell_cross_sell_rate", "organic"]["numerator"] == 7
    assert found["offer_conversion_rate", "log"]["value"] == pytest.approx(6 / 11)
    targets = {item["name"]: item["target"] for item in document["definitions"]}
    assert (targets["upsell_ratio"], targets["attrition"], targets["aov"]) == (0.2, 0.3, None)
    assert [item["kpi"] for item in document["not_computable"]] == ["customer_lifetime_value"], "it needs a model"


def test_a_share_above_one_is_no_target(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*files(folder), "--target=upsell_ratio=25") != 0
    assert "is 25 meant as 25%?" in " ".join(capsys.readouterr().err.split())


def test_the_table_shows_value_change_target_and_what_to_ask(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*files(folder), "--period=quarter", "--by=channel", "--target=upsell_ratio=0.2") == 0
    text = capsys.readouterr().out
    assert "17 orders of 6 customers from 2024-01-05 until 2024-10-01" in text
    assert re.search(
        r"Upsell ratio +organic +50\.0 % +-16\.7 pp \(-100\.0 to \+100\.0\) within noise +75\.0 % +20\.0 % met", text
    )
    assert "By channel, whole range" in text
    assert "Not computable: " in text
    assert "there is no event log; name one as events" in text


def test_the_page_is_self_contained_and_prints_each_formula(folder: Path, hand_store: str, tmp_path: Path) -> None:
    out = tmp_path / "kpis.html"
    arguments = ["--format=html", f"--out={out}", "--by=channel,surface", "--period=quarter", f"--events={hand_store}"]
    assert run(*files(folder), *arguments) == 0
    page = out.read_text("utf-8")
    assert not re.search(r"""(?:src|href|url)\s*[=(]\s*["']?(?:https?:)?//""", page)
    assert "<script" not in page
    with_figures = [definition for definition in REGISTRY.values() if definition.bases != ("forecast",)]
    for definition in with_figures:
        assert definition.formula in page
    assert page.count("<svg") >= len(with_figures) - 1
    assert '<td class="reading ">within noise</td>' in page


def test_text_from_data_is_escaped_in_the_page(folder: Path, tmp_path: Path) -> None:
    orders = (folder / "orders.csv").read_text("utf-8").replace("phone", "<b>phone</b>")
    bad = tmp_path / "orders.csv"
    bad.write_text(orders, "utf-8")
    out = tmp_path / "kpis.html"
    assert run(f"--orders={bad}", "--as-of=2024-10-01", "--by=channel", "--format=html", f"--out={out}") == 0
    page = out.read_text("utf-8")
    assert "<b>phone" not in page
    assert "&lt;b&gt;phone" in page


@pytest.mark.parametrize("form", ["table", "html", "json"])
def test_explain_shows_every_attribute_without_data(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--explain", f"--format={form}") == 0
    text = " ".join(html.unescape(capsys.readouterr().out).split())
    for definition in REGISTRY.values():
        assert definition.name in text
        for name, said in standard_attributes(definition).items():
            assert said in text
            assert (name if form == "json" else name.replace("_", " ").capitalize()) in text
    for words in ("last exposure", "first order", "volume"):
        assert words in " ".join(text.split())


def test_the_shipped_benchmarks_are_edited_and_judged_by(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--explain", "--format=toml") == 0
    text = capsys.readouterr().out
    shipped = tomllib.loads(text)["kpi"]
    assert set(shipped) == set(REGISTRY)
    figures = {name: said for name, said in shipped.items() if said}
    assert 0 < len(figures) < len(REGISTRY)
    assert all(said["source"] and said["read_on"] for said in figures.values())
    edited = tmp_path / "targets.toml"
    place = "[kpi.attrition]  # Attrition, a share: 0.2 is 20 %\n# target =\n"
    assert place in text
    own = place.replace("# target =", 'target = 0.25\nsource = "our plan of 2024"')
    edited.write_text(text.replace(place, own), "utf-8")
    arguments = ["--period=quarter", f"--targets={edited}", "--target=upsell_ratio=60%"]
    assert run(*files(folder), *arguments) == 0
    rows = {line.split("  ")[0]: " ".join(line.split()) for line in capsys.readouterr().out.splitlines()}
    assert "25.0 % met" in rows["Attrition"]
    assert "60.0 % missed" in rows["Upsell ratio"]
    out = tmp_path / "kpis.html"
    assert run(*files(folder), *arguments, "--format=html", f"--out={out}") == 0
    page = out.read_text("utf-8")
    assert "25.0 %. our plan of 2024" in page
    assert figures["key_account_ratio"]["source"] in page
    assert figures["upsell_ratio"]["source"] not in page  # the command's own target has another origin


def test_a_ladder_can_be_inferred_from_names_and_prices(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"--orders={folder / 'orders.csv'}", "--as-of=2024-10-01", "--infer-ladder") == 0
    assert "no upgrade edges" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "--orders is missing"),
        (["--orders=nowhere.csv"], "nowhere.csv: no such file"),
        (["--explain", "--format=pdf"], "--format == 'pdf', must be one of table, json, html, toml"),
        (["--explain", "--target=upsell_ratio"], "--target 'upsell_ratio': must be NAME=VALUE"),
        (["--orders=x.csv", "--by=colour"], "by.0 == 'colour'"),
        (["--orders=x.csv", "--period=year"], "period == 'year'"),
        (["--orders=x.csv", "--target=profit=1"], "no KPI is called 'profit'"),
        (["--orders=x.csv", "--targets=nowhere.toml"], "nowhere.toml"),
        (["--orders=x.csv", "--format=toml"], "--format == 'toml', must be one of table, json, html"),
        (["--orders=x.csv", "--events=sqlite:///nowhere.db"], "no such file nowhere.db"),
        (["--orders=x.csv", "--key-accounts=best"], "as top:5%"),
    ],
)
def test_wrong_use_is_one_sentence(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 1
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error


def test_a_store_is_left_as_it_was(folder: Path, hand_store: str) -> None:
    def rows() -> int:
        store = open_store(hand_store)
        try:
            return int(store.read(EventQuery("decisions")).num_rows)
        finally:
            store.close()

    before = rows()
    assert run(*files(folder), f"--events={hand_store}") == 0
    assert rows() == before == 11
