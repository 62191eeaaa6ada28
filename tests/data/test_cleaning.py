"""Each rule of the cleaning on the smallest data that shows it, and the laws that hold for all data."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys.contracts import columns as c
from recsys.contracts.tables import ORDERS
from recsys.data.dataset import Dataset, ReadSpec, read_dataset
from recsys.data.report import TableReport
from recsys.errors import CurrencyError, DataError, EmptyDataError

pytestmark = pytest.mark.slow

HEADER = ("order_id", "account_id", "product_id", "ordered_at", "quantity", "unit_price")
GOOD = ("o1", "a1", "p1", "2024-01-01", "2", "10")


def counts(report: TableReport) -> dict[str, int]:
    return {item.reason.name: item.rows for item in report.dropped}


BAD_VALUES = [
    ("order_id", " ", "no_order_id"),
    ("product_id", "", "no_product_id"),
    ("ordered_at", "", "no_time"),
    ("ordered_at", "yesterday", "unreadable_time"),
    ("ordered_at", "2024-02-30", "unreadable_time"),
    ("quantity", "", "no_quantity"),
    ("quantity", "two", "quantity_not_a_number"),
    ("quantity", "nan", "quantity_not_a_number"),
    ("quantity", "inf", "quantity_not_a_number"),
    ("quantity", "0", "zero_quantity"),
    ("unit_price", "", "no_price"),
    ("unit_price", "1;234", "price_not_a_number"),
    ("unit_price", "-0.01", "negative_price"),
    ("discount", "half", "bad_discount"),
    ("discount", "-1", "bad_discount"),
    ("status", "pending", "unknown_status"),
    ("status", "CANCELED", "not_completed"),
    ("status", "refunded", "not_completed"),
]
FINE_VALUES = [("status", "Shipped"), ("status", ""), ("discount", ""), ("unit_price", "0"), ("quantity", " 2.5 ")]


@pytest.fixture(scope="module")
def bad_and_fine(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, pd.DataFrame]:
    """One row for each value, and the rejects that were written."""
    folder = tmp_path_factory.mktemp("values")
    names = (*HEADER, "discount", "status")
    good = dict(zip(names, (*GOOD, "0", "completed"), strict=True))
    rows = [good | {name: value} for name, value, *_ in (*BAD_VALUES, *FINE_VALUES)]
    pd.DataFrame(rows).to_csv(folder / "orders.csv", index=False)
    data = read_dataset(ReadSpec(orders=str(folder / "orders.csv"), rejects=folder / "rejects.csv"))
    return data, pd.read_csv(folder / "rejects.csv", dtype=str, keep_default_na=False)


def test_each_bad_value_rejects_its_row_for_its_reason(bad_and_fine) -> None:
    data, _ = bad_and_fine
    expected = {reason: sum(other == reason for *_, other in BAD_VALUES) for *_, reason in BAD_VALUES}
    assert counts(data.report.orders) == expected
    assert data.report.orders.rows_kept == len(FINE_VALUES)
    assert data.lines()[c.STATUS].tolist() == ["completed"] * len(FINE_VALUES)
    assert data.lines()[c.DISCOUNT].tolist() == [0.0] * len(FINE_VALUES)


def test_examples_name_the_row_and_show_the_value(bad_and_fine) -> None:
    data, _ = bad_and_fine
    shown = {item.reason.name: item.examples for item in data.report.orders.dropped}
    assert [(example.row, dict(example.values)) for example in shown["quantity_not_a_number"]] == [
        (7, {"quantity": "two"}),
        (8, {"quantity": "nan"}),
        (9, {"quantity": "inf"}),
    ]
    assert [(example.row, dict(example.values)) for example in shown["no_time"]] == [(3, {"ordered_at": None})]


def test_the_rejects_file_has_the_rejected_rows_as_they_were_found(bad_and_fine) -> None:
    _, rejects = bad_and_fine
    rejected = [(row, *item) for row, item in enumerate(BAD_VALUES, start=1) if item[2] != "not_completed"]
    assert rejects["source_row"].astype(int).tolist() == [row for row, *_ in rejected]
    assert rejects["drop_reason"].tolist() == [reason for *_, reason in rejected]
    assert set(rejects["source_table"]) == {"orders"}
    values = [rejects.iloc[place][name] for place, (_, name, *_) in enumerate(rejected)]
    assert [value.strip() for value in values] == [value.strip() for _, _, value, _ in rejected]


def test_a_row_without_an_account_stays_for_the_rules(write_orders) -> None:
    data = read_dataset(ReadSpec(orders=write_orders([GOOD, ("o2", "", "p1", "2024-01-02", "1", "9")])))
    assert data.lines()[c.ACCOUNT_ID].isna().tolist() == [False, True]
    assert data.accounts[c.ACCOUNT_ID].tolist() == ["a1"]
    assert "1 of the kept lines have no account" in data.report.orders.notes[0]


def test_line_ids_default_to_the_position_in_the_order(write_orders) -> None:
    rows = [GOOD, ("o2", "a1", "p2", "2024-01-02", "1", "1"), ("o1", "a1", "p3", "2024-01-01", "1", "1")]
    lines = read_dataset(ReadSpec(orders=write_orders(rows))).lines()
    assert lines[[c.ORDER_ID, c.LINE_ID]].to_numpy().tolist() == [["o1", "1"], ["o1", "2"], ["o2", "1"]]


def test_of_lines_with_one_id_the_first_stays(write_orders) -> None:
    rows = [(*GOOD[:5], "free", "1"), (*GOOD, "1"), (*GOOD[:4], "7", "10", "1"), (*GOOD, "2"), ("o2", *GOOD[1:], "1")]
    rows += [("o1", "a1", "p1", "2024-01-02", "-1", "10", "1")]  # a sale and its reversal may share an id
    data = read_dataset(ReadSpec(orders=write_orders(rows, (*HEADER, "line_id"))))
    assert counts(data.report.orders) == {"duplicate_line": 1, "price_not_a_number": 1, "reversal": 1}
    duplicate = next(item for item in data.report.orders.dropped if item.reason.name == "duplicate_line")
    assert [example.row for example in duplicate.examples] == [3]
    assert data.lines()[c.QUANTITY].tolist() == [2.0, 2.0, 2.0 - 1.0]


def test_a_row_that_withdraws_its_own_line_takes_the_sale_with_it(write_orders) -> None:
    rows = [(*GOOD, "1", "completed"), (*GOOD, "2", "completed"), (*GOOD, "1", "returned")]
    data = read_dataset(ReadSpec(orders=write_orders(rows, (*HEADER, "line_id", "status"))))
    assert counts(data.report.orders) == {"line_withdrawn": 1, "not_completed": 1}
    assert data.lines()[c.LINE_ID].tolist() == ["2"]


def test_a_position_is_not_taken_for_a_line_id(write_orders) -> None:
    rows = [(*GOOD, "2"), (*GOOD, "")]
    assert read_dataset(ReadSpec(orders=write_orders(rows, (*HEADER, "line_id")))).lines()[c.LINE_ID].tolist() == [
        "2",
        "@2",
    ]


def test_a_reversal_takes_its_share_of_the_discount(write_orders) -> None:
    rows = [(*GOOD[:4], "4", "10", "8"), (*GOOD[:3], "2024-01-05", "-1", "10", "0")]
    lines = read_dataset(ReadSpec(orders=write_orders(rows, (*HEADER, "discount")))).lines()
    assert (lines[c.QUANTITY].tolist(), lines[c.DISCOUNT].tolist()) == ([3.0], [8.0 * 3 / 4])


def test_a_returned_line_with_a_negative_quantity_is_a_reversal(write_orders) -> None:
    rows = [(*GOOD, "completed"), ("o2", "a1", "p1", "2024-01-03", "-2", "10", "returned")]
    rows += [("o3", "a1", "p2", "2024-01-03", "1", "10", "completed")]
    data = read_dataset(ReadSpec(orders=write_orders(rows, (*HEADER, "status"))))
    assert counts(data.report.orders) == {"reversal": 1, "reversed": 1}


def test_times_with_a_zone_become_utc(write_orders) -> None:
    rows = [
        ("o1", "a1", "p1", "2024-01-01T01:00:00+02:00", "1", "1"),
        ("o2", "a1", "p1", "2024-01-01T01:00:00Z", "1", "1"),
    ]
    lines = read_dataset(ReadSpec(orders=write_orders(rows))).lines()
    expected = [datetime(2023, 12, 31, 23, tzinfo=UTC), datetime(2024, 1, 1, 1, tzinfo=UTC)]
    assert lines[c.ORDERED_AT].tolist() == expected


class TestAsOf:
    ROWS = (
        GOOD,
        ("o2", "a1", "p1", "2024-01-05 23:59:59", "1", "11"),
        ("o3", "a1", "p1", "2024-01-06", "-9", "12"),
        ("o4", "a1", "p2", "2024-01-03", "1", "5"),
    )

    def test_it_defaults_to_the_day_after_the_last_order(self, write_orders) -> None:
        assert read_dataset(ReadSpec(orders=write_orders(self.ROWS))).as_of == datetime(2024, 1, 7, tzinfo=UTC)

    def test_rows_at_it_are_left_out_and_counted(self, write_orders) -> None:
        data = read_dataset(ReadSpec(orders=write_orders(self.ROWS), as_of=datetime(2024, 1, 6, tzinfo=UTC)))
        assert counts(data.report.orders) == {"at_or_after_as_of": 1}
        assert data.lines()[c.QUANTITY].tolist() == [2.0, 1.0, 1.0]
        assert len(data.products) == 2

    def test_the_same_moment_in_another_zone_is_the_same(self, write_orders) -> None:
        path = write_orders(self.ROWS)
        here = read_dataset(ReadSpec(orders=path, as_of="2024-01-06T01:00:00+01:00"))
        assert here.as_of == datetime(2024, 1, 6, tzinfo=UTC)
        assert here.fingerprint == read_dataset(ReadSpec(orders=path, as_of=datetime(2024, 1, 6))).fingerprint  # noqa: DTZ001

    def test_another_currency_after_it_is_not_seen(self, write_orders) -> None:
        rows = [(*GOOD, "EUR"), ("o2", "a1", "p1", "2024-02-01", "1", "1", "USD")]
        data = read_dataset(
            ReadSpec(orders=write_orders(rows, (*HEADER, "currency")), as_of=datetime(2024, 2, 1, tzinfo=UTC))
        )
        assert data.currency == "EUR"

    def test_nothing_before_it_is_a_sentence(self, write_orders) -> None:
        with pytest.raises(
            EmptyDataError, match=r"none of its 4 rows can be used; 4 x ordered at or after as_of \(row 1"
        ):
            read_dataset(ReadSpec(orders=write_orders(self.ROWS), as_of=datetime(2020, 1, 1, tzinfo=UTC)))


class TestCurrency:
    ROWS = (
        (*GOOD, "eur"),
        ("o2", "a1", "p1", "2024-01-02", "1", "1", "USD"),
        ("o3", "a1", "p1", "2024-01-02", "1", "1", ""),
    )

    def test_several_are_refused(self, write_orders) -> None:
        with pytest.raises(CurrencyError, match=r"currencies EUR \(1 lines\), USD \(1 lines\), must be one"):
            read_dataset(ReadSpec(orders=write_orders(self.ROWS, (*HEADER, "currency"))))

    def test_the_one_chosen_stays(self, write_orders) -> None:
        data = read_dataset(ReadSpec(orders=write_orders(self.ROWS, (*HEADER, "currency")), currency="EUR"))
        assert counts(data.report.orders) == {"other_currency": 1, "no_currency": 1}
        assert (data.currency, data.lines()[c.CURRENCY].tolist()) == ("EUR", ["EUR"])

    def test_one_that_no_line_has_is_refused(self, write_orders) -> None:
        with pytest.raises(CurrencyError, match="currency == 'GBP', must be one of EUR, USD"):
            read_dataset(ReadSpec(orders=write_orders(self.ROWS, (*HEADER, "currency")), currency="GBP"))

    def test_a_line_that_says_none_is_in_the_only_one(self, write_orders) -> None:
        data = read_dataset(ReadSpec(orders=write_orders([self.ROWS[0], self.ROWS[2]], (*HEADER, "currency"))))
        assert data.lines()[c.CURRENCY].tolist() == ["EUR", "EUR"]

    def test_without_the_column_it_is_what_was_chosen_or_not_known(self, write_orders) -> None:
        path = write_orders([GOOD])
        assert read_dataset(ReadSpec(orders=path)).currency is None
        assert read_dataset(ReadSpec(orders=path, currency="gbp")).lines()[c.CURRENCY].tolist() == ["GBP"]


def test_text_in_all_numbers_is_a_sentence(write_orders) -> None:
    with pytest.raises(
        EmptyDataError, match=r"none of its 1 rows can be used; 1 x the quantity is not a finite number"
    ):
        read_dataset(ReadSpec(orders=write_orders([(*GOOD[:4], "two", "1")])))


def test_no_readable_time_is_a_sentence(write_orders) -> None:
    with pytest.raises(EmptyDataError, match="no row has a time that can be read"):
        read_dataset(ReadSpec(orders=write_orders([(*GOOD[:3], "soon", "1", "1")])))


def test_a_parquet_file_that_breaks_off_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "orders.parquet"
    names = [f"o{number}" for number in range(50_000)]
    frame = pd.DataFrame(
        {"order_id": names, "account_id": names, "product_id": names, "quantity": 1, "unit_price": 1.0}
    )
    frame.assign(ordered_at=pd.Timestamp("2024-01-01")).to_parquet(path)
    content = bytearray(path.read_bytes())
    content[200:5_000] = bytes(4_800)  # the pages, not the footer
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"orders\.parquet: can't be read"):
        read_dataset(ReadSpec(orders=str(path)))


# ---- laws


LINES = st.lists(
    st.tuples(
        st.sampled_from(["o1", "o2", "o3", "o4", None]),
        st.sampled_from(["a", "b", None]),
        st.sampled_from(["p", "q", None]),
        st.sampled_from([*(f"2024-01-{day:02}" for day in range(1, 9)), "never", None]),
        st.sampled_from(["1", "2", "5", "-1", "-3", "0", "many", None]),
        st.sampled_from(["1.5", "2", "0", "-1", "x", None]),
        st.sampled_from(["1", "2", "3", None]),
        st.sampled_from(["completed", "returned", "lost", None]),
    ),
    min_size=5,
    max_size=100,
)
NAMES = (*HEADER, "line_id", "status")
QUICK = settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
CUT = datetime(2024, 1, 5, tzinfo=UTC)


def cleaned(folder: Path, frame: pd.DataFrame, as_of: datetime | None) -> Dataset | None:
    path = folder / "orders.parquet"
    frame.astype("str").to_parquet(path)
    try:
        return read_dataset(ReadSpec(orders=str(path), as_of=as_of))
    except DataError:  # nothing is left, or no line has a price
        return None


@QUICK
@given(rows=LINES)
def test_every_row_has_one_outcome_and_no_line_is_negative(tmp_path: Path, rows) -> None:
    data = cleaned(tmp_path, pd.DataFrame(rows, columns=NAMES), None)
    if data is None:
        return
    report = data.report.orders
    assert report.rows_read == len(rows) == report.rows_kept + report.rows_rejected + report.rows_left_out
    lines = data.lines()
    assert len(lines) == report.rows_kept
    assert (lines[c.QUANTITY] > 0).all()
    assert not lines.duplicated([c.ORDER_ID, c.LINE_ID]).any()
    assert ORDERS.pandera_ibis().validate(data.orders) is not None


@QUICK
@given(rows=LINES, seed=st.integers(0, 2**16))
def test_rows_at_or_after_as_of_change_nothing(tmp_path: Path, rows, seed: int) -> None:
    frame = pd.DataFrame(rows, columns=NAMES)
    late = pd.to_datetime(frame["ordered_at"], format="%Y-%m-%d", errors="coerce") >= CUT.replace(tzinfo=None)
    rng = np.random.default_rng(seed)
    noisy = frame.copy()
    for name in ("account_id", "product_id", "quantity", "unit_price", "status"):
        noisy[name] = frame[name].where(~late, pd.Series(rng.permutation(frame[name].to_numpy()), dtype=object))
    whole, other, alone = (cleaned(tmp_path, part, CUT) for part in (frame, noisy, frame[~late]))
    assert (whole is None) == (other is None) == (alone is None)
    if whole is not None and other is not None and alone is not None:
        assert whole.fingerprint == other.fingerprint == alone.fingerprint
        pd.testing.assert_frame_equal(whole.lines(), alone.lines())


@QUICK
@given(rows=LINES, seed=st.integers(0, 2**16))
def test_the_fingerprint_does_not_depend_on_the_order_of_rows(tmp_path: Path, rows, seed: int) -> None:
    frame = pd.DataFrame(rows, columns=NAMES).drop(columns="line_id")
    shuffled = frame.sample(frac=1.0, random_state=seed)
    first, second = cleaned(tmp_path, frame, None), cleaned(tmp_path, shuffled, None)
    assert (first is None) == (second is None)
    assert first is None or second is None or first.fingerprint == second.fingerprint


def test_the_fingerprint_tells_data_apart(write_orders) -> None:
    one = read_dataset(ReadSpec(orders=write_orders([GOOD]))).fingerprint
    changed = [("o9", *GOOD[1:]), (*GOOD[:4], "3", "10"), (*GOOD[:5], "10.5"), (GOOD[0], "", *GOOD[2:])]
    others = {read_dataset(ReadSpec(orders=write_orders([row]))).fingerprint for row in changed}
    twice = read_dataset(ReadSpec(orders=write_orders([GOOD, GOOD]))).fingerprint
    assert len({one, twice, *others}) == 6
    assert read_dataset(ReadSpec(orders=write_orders([GOOD]))).fingerprint == one
