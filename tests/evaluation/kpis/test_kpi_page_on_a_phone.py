"""The page on a phone, 390 pixels wide: every figure of the table is on the screen, the last period the largest."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

from recsys.evaluation.kpis.results import KpiReport
from recsys.reporting.kpi_page import report_page

pytestmark = pytest.mark.slow

WIDTH = 390


@pytest.fixture
def phone(by_hand: KpiReport, tmp_path: Path) -> Iterator[Page]:
    """The page, opened by Chromium."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium is installed: the page is not opened")
    file = tmp_path / "kpis.html"
    file.write_text(report_page(by_hand), encoding="utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 844})
        page.goto(file.as_uri())
        yield page
        browser.close()


def test_every_figure_of_the_table_is_on_the_screen(phone: Page) -> None:
    """The columns behind the last period lay outside, and had to be scrolled to."""
    assert phone.evaluate("document.documentElement.scrollWidth") <= WIDTH
    cells = phone.locator("h2 + p + table td, h2 + .scroll td").evaluate_all(
        "cells => cells.filter(c => c.innerText.trim()).map(c => [c.innerText, c.getBoundingClientRect().left,"
        " c.getBoundingClientRect().right])"
    )
    assert len(cells) > 29 * 5
    assert [text for text, left, right in cells if left < 0 or right > WIDTH] == []


def test_the_last_period_is_the_largest_figure_of_a_row_and_of_a_card(phone: Page) -> None:
    size = "e => parseFloat(getComputedStyle(e).fontSize)"
    row, card = phone.locator("table.figures tbody tr").first, phone.locator(".card .value").first
    others = row.locator("td:not(.last)").evaluate_all(f"cells => cells.map({size})")
    assert row.locator("td.last").evaluate(size) > max(others)
    assert card.locator("strong").inner_text() == row.locator("td.last").inner_text()
    assert card.locator("strong").evaluate(size) > 1.5 * card.locator("span").first.evaluate(size)
