"""Every row of the page worked out by hand, in every column, on a log of 24 lines over two quarters.

Sixteen orders and one return, six accounts and an order of nobody. The ladder is c1 -> c2 -> c3 (coffee), with t1 tea,
m1 mug and f1 filter beside it. What each line is to its account, organically (O) and as attributed to an offer (A):

    order account day    money                          O                      A
    o01   A       01-05  c1 10 x 2 = 20                 first order
    o02   B       01-10  t1 5 x 4 = 20                  first order
                         m1 2 x 5 = 10                  first order
    o03   C       01-15  c3 4 x 6 = 24                  first order
    o04   A       02-01  t1 5 x 4 = 20                  cross-sell: tea        cross-sell to d1
                         c1 5 x 2 = 10                  volume
    o05   D       02-10  m1 4 x 5 = 20                  first order
    o06   B       02-20  c1 10 x 2 - 2 discount = 18    cross-sell: coffee     cross-sell to d2
    o07   -       03-01  c1 10 x 2 = 20                 nobody's
    o08   C       03-10  c1 10 x 2 = 20                 down-sell: neither
    ------------------------------------------------------------------------- 2024 Q1: 8 orders, 182
    o09   A       04-02  c3 5 x 6 = 30                  upsell over two rungs  upsell to d5
    o10   B       04-15  c2 5 x 3 = 15                  upsell                 (d10 was held back)
                         m1 1 x 5 = 5                   volume
    o11   E       05-01  c1 5 x 2 = 10                  first order
                         m1 1 x 5 = 5                   first order
    o12   C       05-05  f1 10 x 1 = 10                 cross-sell: filter     cross-sell to d7
                         c3 2 x 6 = 12                  volume
    o13   F       05-20  t1 5 x 4 = 20                  first order
    o14   A       06-01  m1 2 x 5 = 10                  cross-sell: mug        cross-sell to d11
                         c1 1 x 2 = 2                   volume
    o15   E       06-10  c2 4 x 3 = 12, 1 back: 9       upsell                 upsell to d6
                         t1 1 x 4 = 4                   cross-sell: tea        (d12 was 31 days earlier)
    o16   B       06-20  f1 3 x 1 = 3                   cross-sell: filter     cross-sell to d8
    r17   E       06-25  c2 -1 x 3                      takes one unit of o15 back
    ------------------------------------------------------------------------- 2024 Q2: 8 orders, 135
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy import stats

from recsys.contracts import columns as c
from recsys.contracts.events import Event, OutcomeKind
from recsys.evaluation.kpis.config import KpiConfig
from recsys.evaluation.kpis.definition import Basis
from recsys.evaluation.kpis.report import kpis_from_tables
from recsys.evaluation.kpis.results import KpiReport
from recsys.evaluation.kpis.tables import read_events
from recsys.events.memory import MemoryStore
from recsys.events.store import open_store
from recsys.reporting.formatting import BASIS_WORDS
from recsys.reporting.kpi_page import report_page
from recsys.reporting.kpi_text import report_table
from tests.evaluation.kpis.hand_made import decision, order_lines, outcome

pytestmark = pytest.mark.slow

AS_OF = datetime(2024, 7, 1, tzinfo=UTC)

ORDERS = """
o01 A 2024-01-05 web   c1x10@2
o02 B 2024-01-10 web   t1x5@4 m1x2@5
o03 C 2024-01-15 phone c3x4@6
o04 A 2024-02-01 phone t1x5@4 c1x5@2
o05 D 2024-02-10 web   m1x4@5
o06 B 2024-02-20 web   c1x10@2-2
o07 - 2024-03-01 web   c1x10@2
o08 C 2024-03-10 phone c1x10@2
o09 A 2024-04-02 web   c3x5@6
o10 B 2024-04-15 web   c2x5@3 m1x1@5
o11 E 2024-05-01 phone c1x5@2 m1x1@5
o12 C 2024-05-05 web   f1x10@1 c3x2@6
o13 F 2024-05-20 phone t1x5@4
o14 A 2024-06-01 web   m1x2@5 c1x1@2
o15 E 2024-06-10 phone c2x4@3 t1x1@4
o16 B 2024-06-20 web   f1x3@1
r17 E 2024-06-25 phone c2x-1@3
"""

# Presented: Q1 d1 (two), d2, d3, d4; Q2 d5, d6, d7, d8, d9, d11, d12. Every window of 30 days is over on 1 July.
DECISIONS = [
    decision("d1", "A", "2024-01-28", "cart", "t1:x", "c2:u"),  # t1 bought in o04
    decision("d2", "B", "2024-02-15", "cart", "c1:x"),  # bought in o06
    decision("d3", "C", "2024-03-01", "cart", "f1:x"),  # bought in o12: too late
    decision("d4", "D", "2024-03-05", "sales", "t1:x"),  # declined
    decision("d5", "A", "2024-04-01", "sales", "c3:u"),  # bought in o09
    decision("d6", "E", "2024-05-20", "cart", "c2:u"),  # bought in o15, three of four units kept
    decision("d7", "C", "2024-04-20", "cart", "f1:x"),  # bought in o12
    decision("d8", "B", "2024-05-28", "cart", "f1:x"),  # bought in o16
    decision("d9", "F", "2024-05-25", "cart", "c1:x"),  # accepted, never bought
    decision("d10", "B", "2024-04-10", "cart", "c2:u", shown=False),  # held back: o10 is nobody's merit
    decision("d11", "A", "2024-05-27", "cart", "m1:x"),  # bought in o14
    decision("d12", "E", "2024-05-10", "cart", "t1:x"),  # bought in o15, on the 31st day
]
REPORTED: list[tuple[str, str | None, OutcomeKind, str, str | None]] = [
    ("d1", None, "shown", "2024-01-28", None),
    ("d2", None, "shown", "2024-02-15", None),
    ("d3", None, "shown", "2024-03-01", None),
    ("d4", "t1", "pitched", "2024-03-05", "ann"),
    ("d4", "t1", "declined", "2024-03-05", "ann"),
    ("d5", "c3", "pitched", "2024-04-01", "ann"),
    ("d6", None, "shown", "2024-05-20", None),
    ("d7", None, "shown", "2024-04-20", None),
    ("d8", None, "shown", "2024-05-28", None),
    ("d9", None, "shown", "2024-05-25", None),
    ("d9", "c1", "accepted", "2024-05-26", None),
    ("d11", None, "shown", "2024-05-27", None),
    ("d12", None, "shown", "2024-05-10", None),
]


class Row(NamedTuple):
    """One row of the page.

    Attributes:
        kpi: its name.
        basis: what it is read off.
        before: above and below the line in Q1, of A B C D E F and of the order of nobody; a dot: nothing.
        now: the same in Q2.
        last: what the page shows for Q2.
        change: from Q1 to Q2.
        overall: of both quarters.
        sums: above and below the line there.
        target: and whether Q2 meets it.
    """

    kpi: str
    basis: Basis
    before: str
    now: str
    last: str
    change: str
    overall: str
    sums: str
    target: str = ""


# fmt: off
ROWS = [
    Row("upsell_cross_sell_rate", "organic",
        "1/2 1/2 0/2 0/1 . . 0/1", "2/2 2/2 1/1 . 1/2 0/1 .", "75.0 %", "+50.0 pp", "50.0 %", "8 / 16"),
    Row("upsell_cross_sell_rate", "attributed",
        "1/2 1/2 0/2 0/1 . . 0/1", "2/2 1/2 1/1 . 1/2 0/1 .", "62.5 %", "+37.5 pp", "43.8 %", "7 / 16"),
    Row("upsell_rate", "organic",
        "0/2 0/2 0/2 0/1 . . 0/1", "1/2 1/2 0/1 . 1/2 0/1 .", "37.5 %", "+37.5 pp", "18.8 %", "3 / 16"),
    Row("upsell_rate", "attributed",
        "0/2 0/2 0/2 0/1 . . 0/1", "1/2 0/2 0/1 . 1/2 0/1 .", "25.0 %", "+25.0 pp", "12.5 %", "2 / 16"),
    Row("cross_sell_rate", "organic",  # o15 is an upsell and a cross-sell
        "1/2 1/2 0/2 0/1 . . 0/1", "1/2 1/2 1/1 . 1/2 0/1 .", "50.0 %", "+25.0 pp", "37.5 %", "6 / 16"),
    Row("cross_sell_rate", "attributed",
        "1/2 1/2 0/2 0/1 . . 0/1", "1/2 1/2 1/1 . 0/2 0/1 .", "37.5 %", "+12.5 pp", "31.2 %", "5 / 16"),
    Row("aov", "history",  # 182 / 8 = 22.75, 135 / 8 = 16.875
        "50/2 48/2 44/2 20/1 . . 20/1", "42/2 23/2 22/1 . 28/2 20/1 .",
        "EUR 16.88", "-EUR 5.88", "EUR 19.81", "317 / 16", "EUR 20.00 missed"),
    Row("aov_increase", "organic",  # with minus without: 48/2 - 134/6 = 1.67; 100/6 - 35/2 = -0.83
        "30/1-20/1 18/1-30/1 .-44/2 .-20/1 . . .-20/1", "42/2-. 23/2-. 22/1-. . 13/1-15/1 .-20/1 .",
        "-EUR 0.83", "-EUR 2.50", "-EUR 2.62", "18.50 - 21.12"),
    Row("aov_increase", "attributed",  # 48/2 - 134/6 = 1.67; 80/5 - 55/3 = -2.33
        "30/1-20/1 18/1-30/1 .-44/2 .-20/1 . . .-20/1", "42/2-. 3/1-20/1 22/1-. . 13/1-15/1 .-20/1 .",
        "-EUR 2.33", "-EUR 4.00", "-EUR 2.71", "18.29 - 21"),
    Row("revenue_contribution", "organic",  # 38/182 = 20.9 %, 81/135
        "20/50 18/48 0/44 0/20 . . 0/20", "40/42 18/23 10/22 . 13/28 0/20 .",
        "60.0 %", "+39.1 pp", "37.5 %", "119 / 317"),
    Row("revenue_contribution", "attributed",  # 38/182, 62/135
        "20/50 18/48 0/44 0/20 . . 0/20", "40/42 3/23 10/22 . 9/28 0/20 .",
        "45.9 %", "+25.0 pp", "31.5 %", "100 / 317"),
    Row("upsell_revenue_contribution", "organic",  # 30 + 15 + 9, what came back taken off
        "0/50 0/48 0/44 0/20 . . 0/20", "30/42 15/23 0/22 . 9/28 0/20 .", "40.0 %", "+40.0 pp", "17.0 %", "54 / 317"),
    Row("upsell_revenue_contribution", "attributed",
        "0/50 0/48 0/44 0/20 . . 0/20", "30/42 0/23 0/22 . 9/28 0/20 .", "28.9 %", "+28.9 pp", "12.3 %", "39 / 317"),
    Row("cross_sell_revenue_contribution", "organic",
        "20/50 18/48 0/44 0/20 . . 0/20", "10/42 3/23 10/22 . 4/28 0/20 .", "20.0 %", "-0.9 pp", "20.5 %", "65 / 317"),
    Row("cross_sell_revenue_contribution", "attributed",
        "20/50 18/48 0/44 0/20 . . 0/20", "10/42 3/23 10/22 . 0/28 0/20 .", "17.0 %", "-3.8 pp", "19.2 %", "61 / 317"),
    Row("volume_share", "history",
        "10/50 0/48 0/44 0/20 . . 0/20", "2/42 5/23 12/22 . 0/28 0/20 .", "14.1 %", "+8.6 pp", "9.1 %", "29 / 317"),
    Row("offer_conversion_rate", "log",
        "1/2 1/1 0/1 0/1 . . .", "2/2 1/1 1/1 . 1/2 1/1 .", "85.7 %", "+45.7 pp", "66.7 %", "8 / 12"),
    Row("offer_purchase_rate", "log",
        "1/2 1/1 0/1 0/1 . . .", "2/2 1/1 1/1 . 1/2 0/1 .", "71.4 %", "+31.4 pp", "58.3 %", "7 / 12"),
    Row("upsell_ratio", "organic",  # existing: A, B, C; then A, B, C, E
        "0/1 0/1 0/1 . . . .", "1/1 1/1 0/1 . 1/1 . .", "75.0 %", "+75.0 pp", "75.0 %", "3 / 4", "20.0 % met"),
    Row("upsell_ratio", "attributed",
        "0/1 0/1 0/1 . . . .", "1/1 0/1 0/1 . 1/1 . .", "50.0 %", "+50.0 pp", "50.0 %", "2 / 4", "20.0 % met"),
    Row("customer_cross_sell_rate", "organic",
        "1/1 1/1 0/1 . . . .", "1/1 1/1 1/1 . 1/1 . .", "100.0 %", "+33.3 pp", "100.0 %", "4 / 4"),
    Row("customer_cross_sell_rate", "attributed",
        "1/1 1/1 0/1 . . . .", "1/1 1/1 1/1 . 0/1 . .", "75.0 %", "+8.3 pp", "75.0 %", "3 / 4"),
    Row("key_account_ratio", "organic",  # A and B; one sale is a product in an order
        "1/3 1/3 . . . . .", "2/3 2/3 . . . . .", "66.7 %", "+33.3 pp", "50.0 %", "6 / 12"),
    Row("key_account_ratio", "attributed",
        "1/3 1/3 . . . . .", "2/3 1/3 . . . . .", "50.0 %", "+16.7 pp", "41.7 %", "5 / 12"),
    Row("attrition", "history",  # nobody can be lost in the first quarter; D did not come back
        "", "0/1 0/1 0/1 1/1 . . .", "25.0 %", "first value", "25.0 %", "1 / 4", "20.0 % missed"),
    Row("revenue_per_customer", "history",
        "50/1 48/1 44/1 20/1 . . .", "42/1 23/1 22/1 . 28/1 20/1 .", "EUR 27.00", "-EUR 13.50", "EUR 49.50", "297 / 6"),
    Row("units_per_customer", "history",
        "20/1 17/1 14/1 4/1 . . .", "8/1 9/1 12/1 . 10/1 5/1 .", "8.80", "-4.95", "16.50", "99 / 6"),
    Row("sales_breadth", "history",
        "2/1 3/1 2/1 1/1 . . .", "3/1 3/1 2/1 . 4/1 1/1 .", "2.60", "+0.60", "3.00", "18 / 6"),
    Row("aggregate_cross_selling_ratio", "history",  # up to the end of the quarter: D still holds its mug
        "2/1 3/1 2/1 1/1 . . .", "4/1 5/1 3/1 1/1 4/1 1/1 .", "3.00", "+1.00", "3.00", "18 / 6"),
]
# fmt: on


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> KpiReport:
    """The figures, from an event store on disk."""
    events: list[Event] = [*DECISIONS, *(outcome(number, *item) for number, item in enumerate(REPORTED))]
    store = open_store(f"sqlite:///{tmp_path_factory.mktemp('store') / 'offers.db'}")
    store.append(events)
    families = {"c1": "coffee", "c2": "coffee", "c3": "coffee", "t1": "tea", "m1": "mug", "f1": "filter"}
    found = kpis_from_tables(
        order_lines(ORDERS),
        as_of=AS_OF,
        products=pd.DataFrame({c.PRODUCT_ID: list(families), c.FAMILY: list(families.values())}),
        accounts=pd.DataFrame({c.ACCOUNT_ID: list("ABCDEF"), c.IS_KEY_ACCOUNT: [True, True, *[False] * 4]}),
        upgrades=pd.DataFrame({c.FROM_PRODUCT_ID: ["c1", "c2"], c.TO_PRODUCT_ID: ["c2", "c3"]}),
        events=read_events(store),
        currency="EUR",
        config=KpiConfig(period="quarter", targets={"upsell_ratio": 0.2, "attrition": 0.2, "aov": 20.0}),
    )
    store.close()
    return found


def cells_of(page: str) -> list[tuple[str, ...]]:
    """The rows of the page's table: title, read off, last, change, reading, whole range, target."""
    table = page.split('<table class="figures">')[1].split("</table>", maxsplit=1)[0]
    rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)[1:]
    return [tuple(re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL)) for row in rows]


def test_the_log_is_what_it_says() -> None:
    lines = order_lines(ORDERS)
    assert len(lines) == 24
    assert lines[c.ORDER_ID].nunique() == 16 + 1
    assert lines[c.ACCOUNT_ID].nunique() == 6
    assert lines[c.ACCOUNT_ID].isna().sum() == 1
    assert (lines[c.QUANTITY] < 0).sum() == 1
    assert lines[c.DISCOUNT].sum() == 2


def parts(text: str) -> np.ndarray:
    """Above and below the line of seven clusters, of one ratio or two: an array of ratio, cluster, above or below."""
    cells = [cell.split("-") for cell in text.split()]
    n_ratios = max(len(cell) for cell in cells)
    filled = [[*cell, *["."] * (n_ratios - len(cell))] for cell in cells]
    numbers = [[[0.0, 0.0] if one == "." else [float(x) for x in one.split("/")] for one in cell] for cell in filled]
    return np.array(numbers).transpose(1, 0, 2)


def interval(row: Row, *, is_share: bool) -> tuple[float, float]:
    """The 95 % interval of the change, as `recsys.evaluation.kpis.changes` says it in words, in plain arithmetic."""
    signs = (1, -1)
    errors, alone, values, counts = {}, 0.0, {}, {}
    for name, text in (("before", row.before), ("now", row.now)):
        found, value, error = parts(text), 0.0, np.zeros(7)
        counts[name] = int(min((ratio[:, 1] > 0).sum() for ratio in found))
        for ratio, sign in zip(found, signs, strict=False):
            x, y = ratio[:, 0], ratio[:, 1]
            one = y.sum() / (y > 0).sum() if is_share else 0.0  # an account above the line and one below it
            above, below = x.sum() + one, y.sum() + 2 * one
            share = above / below
            value, error = value + sign * share, error + sign * (x - share * y) / below
            alone += (((1 - share) ** 2 + share**2) * one**2) / below**2
        errors[name], values[name] = error, value
    fewest = min(counts.values())
    squares = {name: (error**2).sum() for name, error in errors.items()}
    spread = sum(counts[name] ** 2 * squares[name] for name in counts) / sum(counts.values())
    excess = max(0.0, sum(spread / counts[name] - squares[name] for name in counts))
    variance = (((errors["now"] - errors["before"]) ** 2).sum() + alone + excess) * fewest / (fewest - 1)
    reach = stats.t.ppf(0.975, fewest - 1) * np.sqrt(variance)
    low, high = values["now"] - values["before"] - reach, values["now"] - values["before"] + reach
    return (max(low, -1.0), min(high, 1.0)) if is_share else (low, high)


def test_one_interval_wholly_by_hand() -> None:
    """Revenue per customer: 162/4 = 40.5 and 135/5 = 27; errors of A 9.5/4, 15/5; B 7.5/4, -4/5; C 3.5/4, -5/5;
    D -20.5/4, none; E none, 1/5; F none, -7/5. Their differences squared are .390625, 7.155625, 3.515625, 26.265625,
    .04, 1.96: 39.3275. Spread: (16 x 36.1875 + 25 x 12.64) / 9 = 99.4444; / 4 + / 5 - 36.1875 - 12.64 < 0: no excess.
    The variance is 39.3275 x 4/3 = 52.4367, its root 7.24132, and Student's quantile with three degrees 3.182446.
    """
    row = next(row for row in ROWS if row.kpi == "revenue_per_customer")
    reach = 7.24132 * 3.182446
    assert interval(row, is_share=False) == pytest.approx((-13.5 - reach, -13.5 + reach), abs=1e-3)


def expected_rows(report: KpiReport) -> Iterator[tuple[str, ...]]:
    units = {definition.name: definition.unit for definition in report.definitions}
    titles = {definition.name: definition.title for definition in report.definitions}
    for row in ROWS:
        limits, reading = "", ""
        if row.before:
            low, high = interval(row, is_share=units[row.kpi] == "share")
            limits = f" ({100 * low:+.1f} to {100 * high:+.1f})" if units[row.kpi] == "share" else (
                f" ({low:+,.2f} to {high:+,.2f})"
            )  # fmt: skip
            reading = "within noise"  # six accounts tell nothing
            assert low <= 0 <= high
        yield (
            titles[row.kpi], BASIS_WORDS[row.basis], row.last, row.change + limits, reading, row.overall, row.target,
        )  # fmt: skip


def test_every_column_of_the_page(report: KpiReport) -> None:
    page = cells_of(report_page(report))
    assert page == list(expected_rows(report))


def test_every_figure_by_its_sums(report: KpiReport) -> None:
    for row in ROWS:
        for period, text in (("2024 Q1", row.before), ("2024 Q2", row.now)):
            figure = report.get(row.kpi, row.basis, period=period).figure
            if not text:
                assert figure.value is None
                continue
            ratios = [ratio.sum(axis=0) for ratio in parts(text)]
            value = ratios[0][0] / ratios[0][1] - (ratios[1][0] / ratios[1][1] if len(ratios) > 1 else 0.0)
            assert figure.value == pytest.approx(value, abs=1e-12), (row.kpi, row.basis, period)
        above, sign, below = row.sums.split()
        figure = report.get(row.kpi, row.basis).figure
        if sign == "/":
            assert (figure.numerator, figure.denominator) == pytest.approx((float(above), float(below)))


def test_cards_show_the_last_period_large_and_the_whole_range_below(report: KpiReport) -> None:
    page = report_page(report)
    for row in ROWS:
        assert f"<strong>{row.last}</strong>" in page
        assert f"whole range {row.overall}: {row.sums}" in page


def test_the_terminal_says_the_same(report: KpiReport) -> None:
    console = Console(width=300)
    with console.capture() as captured:
        console.print(report_table(report))
    lines = [" ".join(line.split()) for line in captured.get().splitlines()]
    for title, basis, *cells in expected_rows(report):
        assert any(line.startswith(" ".join(part for part in (title, basis, *cells) if part)) for line in lines), title


def test_second_readings_of_the_page(report: KpiReport) -> None:
    page = report_page(report)
    assert report.n_orders == 16
    assert report.n_customers == 6
    for words in (
        "88.9 % of the orders after an account&#39;s first",  # organic: 8 of 16 - 1 - 6
        "77.8 % of the orders after an account&#39;s first",  # attributed: 7 of 9
        "50.0 % of all customers",  # upsell ratio, organic: A, B, E of six
        "26.1 % of all sales to everybody",  # key accounts, organic: 6 of 23 sales
        "0.0 % of them with a window that is still open",
    ):
        assert words in page


def test_the_json_has_the_same_last_period_and_limits(report: KpiReport) -> None:
    document = report.to_dict()
    assert document["last_period"] == "2024 Q2"
    changes = {(item["kpi"], item["basis"]): item for item in document["changes"]}
    units = {definition.name: definition.unit for definition in report.definitions}
    for row in ROWS:
        if not row.before:
            assert (row.kpi, row.basis) not in changes
            continue
        limits = interval(row, is_share=units[row.kpi] == "share")
        found = changes[row.kpi, row.basis]
        assert (found["low"], found["high"]) == pytest.approx(limits, abs=1e-9)


def test_offers_to_an_account_that_never_ordered_are_one_observation() -> None:
    """Sixty decisions for X and one for A in each quarter are two accounts."""
    days = {"a": "2024-02-01", "b": "2024-05-01"}
    shown = [decision(f"{name}{n}", "X", day, "cart", "t1:x") for name, day in days.items() for n in range(60)]
    shown += [decision(name, "A", day, "cart", "c2:u") for name, day in days.items()]
    told = [outcome(at, item.decision_id, None, "shown", f"{item.decided_at:%Y-%m-%d}", None)
            for at, item in enumerate(shown)]  # fmt: skip
    store = MemoryStore()
    store.append([*shown, *told])
    config = KpiConfig(period="quarter")
    found = kpis_from_tables(order_lines(ORDERS), as_of=AS_OF, events=read_events(store), config=config)
    change = found.change("offer_conversion_rate", "log")
    assert change is not None
    assert found.get("offer_conversion_rate", "log").figure.denominator == 122
    assert change.n_accounts == 2
