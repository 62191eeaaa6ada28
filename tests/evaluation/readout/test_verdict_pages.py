"""One page of each verdict: what was decided, why with units, how sure, what it is worth, what was not checked."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from recsys.contracts.events import ExperimentDecision
from recsys.evaluation.readout.design import ReadoutConfig
from recsys.evaluation.readout.from_table import TableSpec, table_readout
from recsys.evaluation.readout.results import Readout
from recsys.evaluation.statistics.metric import Margin, Ratio
from recsys.reporting.readout_page import html_page
from recsys.reporting.readout_summary import summary_of
from recsys.reporting.readout_text import markdown_page, readout_tables

DOCS = Path(__file__).resolve().parents[3] / "docs"
NOW = datetime(2026, 3, 2, tzinfo=UTC)
SHOP = TableSpec(
    unit="account_id",
    arm="arm",
    control="control",
    metrics={"revenue_per_account": Ratio("revenue"), "buyer_rate": Ratio("buyers"), "returns": Ratio("returns")},
    before={"revenue_per_account": Ratio("revenue_before")},
    guardrails={"returns": Margin(0.03, direction="lower_is_better")},
    currency="EUR",
)


def _shop(lift: float = 0.0, returns: float = 0.0, n: int = 20_000, seed: int = 1) -> pd.DataFrame:
    """Two equal arms; the engine's accounts spend `lift` more and send `returns` more orders back."""
    rng = np.random.default_rng(seed)
    arm = np.array(["control", "engine"])[np.arange(n) % 2]
    past = rng.gamma(2.0, 20.0, n)
    buys = rng.random(n) < 0.4
    is_engine = arm == "engine"
    revenue = np.where(buys, rng.lognormal(3.2, 0.6, n) + 0.3 * past, 0.0) * (1 + lift * is_engine)
    frame = pd.DataFrame({"account_id": [f"A{i:05}" for i in range(n)], "arm": arm, "buyers": buys.astype(int)})
    sent_back = rng.poisson(0.1 + returns * is_engine)
    return frame.assign(revenue=revenue.round(2), revenue_before=past.round(2), returns=sent_back)


def _retention(n: int = 90_000) -> pd.DataFrame:
    """A game moves its first gate: 19.0 % of the players are there after seven days, and 18.2 % with the later gate."""
    at = np.arange(n // 2)
    control = (at < round(0.190 * len(at))).astype(int)
    moved = (at < round(0.182 * len(at))).astype(int)
    return pd.DataFrame(
        {
            "player": np.arange(n),
            "arm": np.repeat(["gate_30", "gate_40"], n // 2),
            "kept": np.concatenate([control, moved]),
        }
    )


def _judged(frame: pd.DataFrame, form: TableSpec = SHOP, margin: float = 0.02) -> Readout:
    found = table_readout(frame, form, ReadoutConfig(practical_margin=margin), now=NOW)
    return replace(found, experiment="offers in the cart")


@cache
def retention() -> Readout:
    form = TableSpec(unit="player", arm="arm", control="gate_30", metrics={"7-day retention": Ratio("kept")})
    return replace(table_readout(_retention(), form, ReadoutConfig(), now=NOW), experiment="first gate at level 40")


BUILDERS: dict[str, Callable[[], Readout]] = {
    "ship": cache(lambda: _judged(_shop(lift=0.08, returns=0.002))),
    "roll_back": retention,
    "flat": cache(lambda: _judged(_shop(seed=4), margin=0.06)),
    "keep_running": cache(lambda: _judged(_shop(lift=0.02), replace(SHOP, interim=True))),
    "discuss": cache(lambda: _judged(_shop(lift=0.08, returns=0.028))),
    "invalid": cache(lambda: _judged(_shop().query("arm == 'control' or index % 20 > 2"))),
}


def _first_screen(page: str) -> str:
    shown = page[page.index("<main>") : page.index("<h2>Statistics</h2>")]
    return re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", shown))


def _terminal(readout: Readout) -> str:
    console = Console(record=True, width=160, file=io.StringIO())
    for part in readout_tables(readout):
        console.print(part)
    return console.export_text()


@pytest.mark.parametrize("name", BUILDERS)
def test_the_first_screen_says_what_a_manager_asks(name: str) -> None:
    readout = BUILDERS[name]()
    verdict = name.replace("_", " ").upper()
    assert readout.verdict.verdict == verdict
    first = _first_screen(html_page(readout))
    assert verdict in first
    assert "Not checked: plan hash" in first
    if verdict != "INVALID":
        assert "How sure:" in first
        assert "Worth:" in first
    assert "e+0" not in first
    assert "nan" not in first.lower()


def test_retention_is_told_in_points() -> None:
    readout = retention()
    assert readout.verdict.reason.startswith("7-day retention fell by 0.8 points, from 19.0 to 18.2 %")
    (arm,) = summary_of(readout).arms
    assert arm.why == "7-day retention fell by 0.8 points, from 19.0 to 18.2 % (-4.2 %); no guardrail was declared."
    assert arm.sure.startswith("the change lies between -1.3 and -0.3 points (95 % fixed-horizon interval)")
    assert arm.worth == "not in money: 7-day retention is no amount of money."
    assert readout.money == ()
    assert "7-day retention fell by 0.8 points, from 19.0 to 18.2 %" in _terminal(readout)


def test_money_has_its_currency_and_only_money_is_worth_any() -> None:
    ship = BUILDERS["ship"]()
    (impact,) = ship.money
    (arm,) = summary_of(ship).arms
    assert impact.currency == "EUR"
    assert arm.why.startswith("Revenue per account rose by EUR ")
    worth = r"EUR \+[\d,]+ over the 10,000 units of the arm so far, between EUR \+\S+ and EUR \+\S+\."
    assert re.fullmatch(worth, arm.worth)
    unstated = replace(SHOP, metrics={"spend": Ratio("revenue")}, before={}, guardrails={})
    assert _judged(_shop(lift=0.08), unstated).money == ()
    assert _judged(_shop(lift=0.08), replace(unstated, money=("spend",))).money[0].currency == "EUR"


def test_a_guardrail_that_is_worse_within_its_margin_is_marked() -> None:
    (arm,) = summary_of(BUILDERS["ship"]()).arms
    assert "returns rose by 0.0" in arm.why
    assert arm.why.endswith("worse, but within its margin of 0.030.")


def test_before_the_end_the_anytime_valid_figures_stand_first() -> None:
    early, late = BUILDERS["keep_running"](), BUILDERS["ship"]()
    text = _terminal(early)
    assert text.index("anytime-valid ") < text.index("fixed-horizon ")
    assert "adj. p" not in text  # a fixed-horizon figure that would be read at every look
    page = html_page(early)
    assert page.index("<th>anytime-valid</th>") < page.index("<th>fixed-horizon</th>")
    assert "anytime-valid | fixed-horizon" in markdown_page(early)
    assert "anytime-valid interval" in _first_screen(page)
    assert "Next: Wait for the planned end, the minimum run, complete windows; about " in _first_screen(page)
    assert "fixed-horizon interval" not in _first_screen(page)
    page = html_page(late)
    assert page.index("<th>fixed-horizon</th>") < page.index("<th>anytime-valid</th>")


def test_money_has_the_interval_that_decides_at_an_early_look_too() -> None:
    readout = BUILDERS["keep_running"]()
    (impact,), primary = readout.money, readout.effect("revenue_per_account", "engine")
    assert (primary.decided_by, impact.decided_by) == ("anytime", "anytime")
    assert impact.low == pytest.approx(primary.anytime_low * impact.n_units)
    assert impact.high == pytest.approx(primary.anytime_high * impact.n_units)
    assert "95 % anytime-valid interval" in html_page(readout).split("<h3>Money</h3>")[1]


def test_a_decision_that_is_stored_stands_first() -> None:
    moment = datetime(2026, 2, 1, tzinfo=UTC)
    decision = ExperimentDecision(
        experiment_id="q1",
        version=1,
        verdict="SHIP",
        rule="the primary is better",
        reason="revenue rose",
        arm="engine",
        as_of=moment,
        decided_at=moment,
        signed_by="Ada",
        n_units=20_000,
        planned_size=10_000,
        plan_hash="0" * 64,
    )
    later = replace(BUILDERS["keep_running"](), decision=decision)
    for page in (_first_screen(html_page(later)), markdown_page(later), _terminal(later)):
        assert "Decided: SHIP, engine, as of 2026-02-01, signed by Ada" in page
        assert page.index("signed by Ada") < page.index("KEEP RUNNING:" if "KEEP RUNNING:" in page else "Not checked")
        assert "a look after the decision" in page
    before = replace(later, timing=replace(later.timing, as_of=datetime(2026, 1, 20, tzinfo=UTC)))
    said = "a look as of 2026-01-20 00:00 UTC, before the decision, which it does not change"
    assert summary_of(before).stage.startswith(said)


def test_a_discussion_says_what_is_to_be_weighed() -> None:
    (arm,) = summary_of(BUILDERS["discuss"]()).arms
    assert "returns rose by 0.02" in arm.why
    assert arm.then.startswith("Weigh what the primary gained against the guardrails")


def test_a_statistician_finds_the_rest_below() -> None:
    readout = BUILDERS["ship"]()
    page = html_page(readout)
    below = page[page.index("<h2>Statistics</h2>") :]
    for words in ("n 10,000", "fixed-horizon", "anytime-valid", "adjusted p", "margin", "80 % power", "no locked plan"):
        assert words in below
    effect = readout.effect("revenue_per_account", "engine")
    # alpha .05, power .8: (1.960 + .842) standard errors are found
    found = 2.8016 * effect.standard_error
    assert f"a change of EUR {found:.2f}" in below


@pytest.mark.proof
def test_the_pages_as_pictures(tmp_path: Path) -> None:
    """An early look is kept as a picture, as wide as a desk and as a telephone."""
    browser = shutil.which("chromium")
    assert browser is not None, "needs Debian's chromium"
    for name, build in BUILDERS.items():
        path = tmp_path / f"{name}.html"
        path.write_text(html_page(build()), encoding="utf-8")
        for width, height in ((1200, 2600), (390, 900)):
            picture = tmp_path / f"{name}_{width}.png"
            command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
            command += [f"--window-size={width},{height}", f"--screenshot={picture}", path.as_uri()]
            subprocess.run(command, check=True, capture_output=True, timeout=120)
            assert picture.stat().st_size > 20_000
    shutil.copy(tmp_path / "keep_running_1200.png", DOCS / "pictures" / "interim_readout.png")
