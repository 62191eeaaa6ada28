"""Lines that look right one by one and can't be right together."""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recsys.data.dataset import Dataset
from recsys.data.sources import connect, open_source
from recsys.data.suspicions import Repeats, find_repeats
from recsys.errors import DataError, EmptyDataError

pytestmark = pytest.mark.slow

START = pd.Timestamp("2024-01-01")


def shop(n_orders: int = 400, lines: int = 3) -> pd.DataFrame:
    """A shop with two orders a day, whose products cost 1.25, 2.25 and so on."""
    rng = np.random.default_rng(7)
    order = np.repeat(np.arange(n_orders), lines)
    product = (order * 5 + np.tile(np.arange(lines), n_orders)) % 40
    return pd.DataFrame(
        {
            "order_id": [f"o{number}" for number in order],
            "account_id": [f"a{number % 60}" for number in order],
            "product_id": [f"p{number}" for number in product],
            "ordered_at": START + pd.to_timedelta(order // 2, unit="D"),
            "quantity": rng.integers(1, 6, len(order)),
            "unit_price": product + 1.25,
        }
    )


def reasons(data: Dataset) -> dict[str, int]:
    return {item.reason.name: item.rows for item in data.report.orders.dropped}


AS_OF = datetime(2024, 7, 19, tzinfo=UTC)


def test_a_clean_shop_has_nothing_to_warn_of() -> None:
    data = Dataset.read(shop())
    assert (data.as_of, reasons(data), data.report.orders.warnings) == (AS_OF, {}, ())


@pytest.mark.parametrize(("day", "reason"), [("2087-05-01", "after_today"), ("2026-05-01", "far_after_the_rest")])
def test_a_few_rows_far_after_the_rest_do_not_move_as_of(day: str, reason: str) -> None:
    frame = shop()
    frame.loc[100:107, "ordered_at"] = pd.Timestamp(day)
    data = Dataset.read(frame)
    assert data.as_of == AS_OF
    assert reasons(data) == {reason: 8}
    example = data.report.orders.dropped[0].examples[0]
    assert str(example) == f"row 101: ordered_at={day} 00:00:00"


def test_a_history_with_gaps_of_its_own_ends_where_it_ends() -> None:
    frame = shop()
    frame["ordered_at"] = START + pd.to_timedelta((frame["ordered_at"] - START).dt.days // 100 * 300, unit="D")
    assert Dataset.read(frame).as_of == datetime(2024, 10, 28, tzinfo=UTC)
    frame.loc[frame.index[-300:], "ordered_at"] = START + timedelta(days=800)  # a quarter of the lines is not a slip
    assert reasons(Dataset.read(frame)) == {}


def test_rows_after_today_can_be_asked_for() -> None:
    frame = shop()
    frame["ordered_at"] += timedelta(days=20_000)
    with pytest.raises(EmptyDataError, match="none of its 1,200 rows can be used; 1,200 x ordered after today"):
        Dataset.read(frame)
    assert len(Dataset.read(frame, as_of="2090-01-01").lines()) == len(frame)


@pytest.mark.parametrize("line", ["unit_price", "cost"])
def test_totals_of_lines_are_not_taken_for_values_a_unit(line: str) -> None:
    frame = shop().assign(cost=lambda frame: frame["unit_price"] / 2)
    right = Dataset.read(frame)
    frame[line] *= frame["quantity"]
    instead = {"unit_price": "line_total", "cost": "line_cost"}[line]
    sentence = rf"{line} grows with the quantity in ([\d,]+) of \1 lines .*row \d.*map it as {instead}={line}"
    with pytest.raises(DataError, match=sentence):
        Dataset.read(frame)
    read = Dataset.read(frame, columns={instead: line})
    assert read.fingerprint == right.fingerprint


def test_prices_a_unit_are_not_taken_for_totals() -> None:
    with pytest.raises(DataError, match=r"unit_price does not grow with the quantity.*map it as unit_price=unit_price"):
        Dataset.read(shop(), columns={"line_total": "unit_price"})


def test_a_price_that_falls_with_the_quantity_is_a_price() -> None:
    frame = shop()
    frame["unit_price"] *= 1 - frame["quantity"] / 20
    assert len(Dataset.read(frame).lines()) == len(frame)


def test_money_of_a_line_taken_back_may_have_no_sign() -> None:
    frame = shop().rename(columns={"unit_price": "line_total"})
    frame["line_total"] *= frame["quantity"]
    back = frame.iloc[[0]].assign(order_id="r1", quantity=-frame["quantity"].iloc[0])
    data = Dataset.read(pd.concat([frame, back]))
    assert reasons(data) == {"reversed": 1, "reversal": 1}


def test_an_order_that_was_exported_twice_counts_once() -> None:
    frame = shop()
    twice = Dataset.read(pd.concat([frame, frame[frame["ordered_at"] >= "2024-06-01"]]))
    assert reasons(twice) == {"repeated_order": (frame["ordered_at"] >= "2024-06-01").sum()}
    assert twice.report.orders.dropped[0].reason.outcome == "rejected"
    assert twice.fingerprint == Dataset.read(frame).fingerprint


def test_a_product_that_an_order_names_twice_stays_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    frame = shop()
    with caplog.at_level(logging.WARNING):
        data = Dataset.read(pd.concat([frame, frame.iloc[[4]]]))
    sentence = "1 lines repeat another of their order in product, quantity and price (row 1,201): they are kept"
    assert len(data.lines()) == len(frame) + 1
    assert data.report.orders.warnings[0].startswith(sentence)
    assert data.report.to_dict()["tables"]["orders"]["warnings"] == list(data.report.orders.warnings)
    assert [record.getMessage() for record in caplog.records] == list(data.report.orders.warnings)


def test_of_many_lines_an_eighth_says_whether_all_are_looked_at() -> None:
    def found(frame: pd.DataFrame) -> list[Repeats]:
        source = open_source(connect(), frame, name="orders")
        return [find_repeats(source.table, source, n_lines) for n_lines in (len(frame), 2_000_000)]

    frame = shop()
    few, many = found(pd.concat([frame, frame[frame["ordered_at"] >= "2024-06-01"]]))
    assert few.rows is not None
    assert many.rows is not None
    assert few.rows.order_by("source_row").to_pandas().equals(many.rows.order_by("source_row").to_pandas())
    few, many = found(pd.concat([frame, frame.groupby("order_id").head(1)]))
    assert few.rows is many.rows is None
    assert few.warnings[0].startswith("400 lines repeat another of their order in")
    told = re.match(r"(\d+) lines of an eighth of the orders repeat another of their order in", many.warnings[0])
    assert told
    assert 400 / 16 < int(told[1]) < 400 / 4


def test_a_quantity_of_a_billion_is_rejected() -> None:
    frame = shop().astype({"quantity": "float64"})
    frame.loc[[3, 9], "quantity"] = 1e9
    data = Dataset.read(frame)
    assert reasons(data) == {"absurd_quantity": 2}
    grams = shop().assign(quantity=lambda frame: frame["quantity"] * 4e5)
    assert reasons(Dataset.read(grams)) == {}


def test_prices_that_are_all_zero_are_refused() -> None:
    sentence = r"unit_price is 0 in all 1,200 lines \(row 1, row 2, row 3\).*say unit_price=1"
    with pytest.raises(DataError, match=sentence):
        Dataset.read(shop().assign(unit_price=0.0))
    assert set(Dataset.read(shop().drop(columns="unit_price"), columns={"unit_price": 1}).lines()["unit_price"]) == {
        1.0
    }


def test_prices_that_are_mostly_zero_are_told() -> None:
    frame = shop()
    frame.loc[frame.index[:900], "unit_price"] = 0.0
    warning = Dataset.read(frame).report.orders.warnings[0]
    assert warning.startswith("unit_price is 0 in 900 of 1,200 lines (row 1, row 2, row 3)")


def test_the_file_is_named(tmp_path: Path) -> None:
    shop().assign(unit_price=0.0).to_csv(tmp_path / "orders.csv", index=False)
    with pytest.raises(DataError, match=r"orders\.csv: unit_price is 0 in all"):
        Dataset.read(tmp_path / "orders.csv")


def test_one_date_with_the_month_first_is_a_slip_and_many_are_refused() -> None:
    frame = shop()
    days = frame["ordered_at"].dt
    days_first, months_first = days.strftime("%d/%m/%Y"), days.strftime("%m/%d/%Y")
    frame["ordered_at"] = days_first.where(frame.index != 1_100, "01/31/2024")
    assert reasons(Dataset.read(frame)) == {"unreadable_time": 1}
    frame["ordered_at"] = days_first.where(frame.index % 3 != 0, months_first)
    with pytest.raises(DataError, match=r"ordered_at is written as %d/%m/%Y in .*as %m/%d/%Y in \d+ \(row 73"):
        Dataset.read(frame)
    assert reasons(Dataset.read(frame, time_format="%d/%m/%Y")).keys() == {"unreadable_time"}


def test_ids_that_lost_their_zeros_in_another_table_are_told() -> None:
    frame = shop()
    frame["product_id"] = "00" + frame["product_id"].str[1:]
    assert Dataset.read(frame).report.orders.warnings == ()
    products = pd.DataFrame({"product_id": range(1, 41)})
    (warning,) = Dataset.read(frame, products=products).report.orders.warnings
    assert warning.startswith("23 ids of product_id differ from others in leading zeros only, as 001 from 1 (row ")
