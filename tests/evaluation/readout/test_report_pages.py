"""The pages: self-contained, complete, safe, the same for the same readout; logged beside a model."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import mlflow
import pytest
from rich.console import Console

from recsys.errors import ReadoutError
from recsys.evaluation.readout.from_event_store import ExperimentLog, readout_from_log
from recsys.evaluation.readout.results import Readout
from recsys.evaluation.readout.verdict import VerdictOverride
from recsys.experiments.plan import ExperimentPlan
from recsys.reporting.readout_page import html_page, log_report
from recsys.reporting.readout_text import markdown_page, readout_tables

pytestmark = pytest.mark.slow

NOW = datetime(2026, 3, 4, tzinfo=UTC)


@pytest.fixture
def readout(plan: ExperimentPlan, make_log: Callable[..., ExperimentLog]) -> Readout:
    return readout_from_log(make_log(plan, 2_000, lift=1.6), NOW)


def test_nothing_is_fetched_from_elsewhere(readout: Readout) -> None:
    page = html_page(readout)
    assert not re.search(r"""(?:src|href|url|@import|action)\s*[=(]\s*["']?\s*(?:https?:)?//""", page)
    assert "<script" not in page
    assert "<link" not in page


def test_every_picture_is_well_formed_and_has_a_name(readout: Readout) -> None:
    pictures = re.findall(r"<svg.*?</svg>", html_page(readout), flags=re.DOTALL)
    assert len(pictures) >= 5
    for picture in pictures:
        drawn = ET.fromstring(picture)
        assert drawn.get("aria-label")
        assert "nan" not in picture


def test_the_values_at_the_axis_of_a_waterfall_stand_apart(readout: Readout) -> None:
    drawn = re.findall(r"<svg[^>]*Where the effect.*?</svg>", html_page(readout), flags=re.DOTALL)
    assert drawn
    for picture in drawn:
        values = [words for words in ET.fromstring(picture).iter("text") if words.get("text-anchor") == "middle"]
        places = sorted(float(words.attrib["x"]) for words in values)
        assert all(right - left > 38 for left, right in pairwise(places))  # "+100 %" in its size


def test_page_one_has_verdict_hash_health_and_every_metric(readout: Readout) -> None:
    page = html_page(readout)
    assert readout.plan is not None
    first = page[: page.index('class="second"')]
    for words in (readout.verdict.verdict, readout.plan.plan_hash[:16], "Health", "Decision table", "Money", "AOV"):
        assert words in first
    assert all(effect.metric in first for effect in readout.effects)
    assert all(check.name.replace("_", " ") in first for check in readout.health)


def test_names_from_data_can_not_break_out(readout: Readout) -> None:
    wicked = replace(readout, experiment='<script>alert("x")</script>')
    assert "<script" not in html_page(wicked)
    assert "&lt;script" in html_page(wicked)


def test_an_override_stands_on_every_page(readout: Readout) -> None:
    told = replace(
        readout, verdict=replace(readout.verdict, override=VerdictOverride("DISCUSS", "a stock-out in week two"))
    )
    console = Console(record=True, width=100, file=io.StringIO())
    for part in readout_tables(told):
        console.print(part)
    for page in (html_page(told), markdown_page(told), console.export_text()):
        assert "a stock-out in week two" in page


def test_equal_readouts_give_equal_pages(readout: Readout) -> None:
    assert html_page(readout) == html_page(replace(readout))
    assert markdown_page(readout) == markdown_page(replace(readout))


def test_markdown_tables_have_as_many_cells_in_each_row(readout: Readout) -> None:
    blocks = re.findall(r"(?:^\|.*\n)+", markdown_page(readout), flags=re.MULTILINE)
    assert len(blocks) >= 3
    for block in blocks:
        assert len({line.count("|") for line in block.splitlines()}) == 1


def test_it_is_logged_beside_a_model(readout: Readout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    try:
        run = mlflow.tracking.MlflowClient().create_run("0")
        log_report(readout, run.info.run_id)
        logged = mlflow.tracking.MlflowClient().get_run(run.info.run_id)
        assert logged.data.tags["verdict"] == readout.verdict.verdict
        effect = readout.effect("revenue_per_account", "engine")
        assert logged.data.metrics["effect/engine/revenue_per_account"] == effect.effect
        with pytest.raises(ReadoutError, match="MLflow run 'none'"):
            log_report(readout, "none")
    finally:
        mlflow.set_tracking_uri(None)
