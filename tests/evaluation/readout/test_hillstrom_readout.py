"""A real randomised e-mail experiment, from its file to the verdict and the page."""

from __future__ import annotations

import json
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from recsys.evaluation.readout.design import ReadoutConfig
from recsys.evaluation.readout.from_table import TableSpec, table_readout
from recsys.evaluation.readout.results import Readout
from recsys.evaluation.statistics.metric import Ratio
from recsys.reporting.readout_page import write_report

DOCS = Path(__file__).resolve().parents[3] / "docs"
FORM = TableSpec(
    unit=None,
    arm="segment",
    control="No E-Mail",
    metrics={
        "spend per customer": Ratio("spend"),
        "visit": Ratio("visit"),
        "conversion": Ratio("conversion"),
        "spend per buyer": Ratio("spend", "conversion"),
    },
    before={"spend per customer": Ratio("history")},
    chain=("visit", "conversion", "spend"),
    segments=("newbie", "channel"),
    money=("spend per customer", "spend per buyer"),
    currency="USD",
)


@pytest.fixture(scope="module")
def readout(hillstrom_path: Path) -> Readout:
    return table_readout(
        str(hillstrom_path), FORM, ReadoutConfig(cap_percentile=0.99), now=datetime(2026, 1, 1, tzinfo=UTC)
    )


def test_both_e_mails_earn_more_and_the_data_are_sound(readout: Readout) -> None:
    assert [check.name for check in readout.health if check.status == "failed"] == []
    assert {verdict.arm: verdict.verdict for verdict in readout.verdict.arms} == {
        "Mens E-Mail": "SHIP",
        "Womens E-Mail": "SHIP",
    }
    assert readout.verdict.arm == "Mens E-Mail"
    assert readout.counts == {"Mens E-Mail": 21_307, "No E-Mail": 21_306, "Womens E-Mail": 21_387}


def test_more_buy_but_a_buyer_spends_no_more(readout: Readout) -> None:
    """Three naive readings, three decisions: the effect is all in visits and conversions."""
    for arm in ("Mens E-Mail", "Womens E-Mail"):
        assert readout.effect("conversion", arm).p_adjusted < 0.001
        assert readout.effect("spend per buyer", arm).p_adjusted > 0.5
    visit, conversion, spend = readout.decompositions[0].factors
    assert visit.log_low > 0
    assert conversion.log_low > 0
    assert spend.log_low < 0 < spend.log_high


def test_the_grid_tells_that_the_smaller_effect_hangs_on_large_orders(readout: Readout) -> None:
    mens = [cell for cell in readout.sensitivity if cell.arm == "Mens E-Mail"]
    assert len(mens) == 4
    assert not any(cell.flips for cell in mens)


@pytest.mark.proof
def test_the_page_as_a_picture(readout: Readout, tmp_path: Path) -> None:
    browser = shutil.which("chromium")
    assert browser is not None, "needs Debian's chromium"
    paths = write_report(readout, tmp_path)
    written = json.loads(paths[0].read_text(encoding="utf-8"))
    effects = [{key: value for key, value in effect.items() if key != "role"} for effect in written["effects"]]
    (DOCS / "proof" / "hillstrom_readout.json").write_text(
        json.dumps({"verdict": written["verdict"], "effects": effects}, indent=1) + "\n", encoding="utf-8"
    )
    picture = DOCS / "pictures" / "hillstrom_readout.png"
    command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += ["--window-size=1200,3600", f"--screenshot={picture}", paths[1].as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    assert picture.stat().st_size > 50_000
