from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import ibis
import pyarrow as pa
import pytest

from recsys.data.sources import connect
from recsys.data.times import ISO, as_time, detect_time_format, parse_moment
from recsys.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def connection():
    return connect()


def column(connection, values: list[Any]) -> ibis.Table:
    return connection.create_table("times", ibis.memtable(pa.table({"when": values})), temp=True, overwrite=True)


def read(table: ibis.Table, time_format: str) -> list[datetime | None]:
    return table.select(when=as_time(table["when"], time_format)).to_pyarrow()["when"].to_pylist()


@pytest.mark.parametrize(
    ("values", "time_format", "first"),
    [
        (["2024-01-31", "2024-02-01T10:00:00+05:00"], ISO, datetime(2024, 1, 31)),  # noqa: DTZ001
        (["2024/01/31 10:00", None], ISO, datetime(2024, 1, 31, 10)),  # noqa: DTZ001
        (["31/01/2024 08:26", "01/02/2024 09:00"], "%d/%m/%Y %H:%M", datetime(2024, 1, 31, 8, 26)),  # noqa: DTZ001
        (["12/1/2010 8:26", "12/13/2010 9:00"], "%m/%d/%Y %H:%M", datetime(2010, 12, 1, 8, 26)),  # noqa: DTZ001
        (["1.2.2024", "3.2.2024"], "%d.%m.%Y", datetime(2024, 2, 1)),  # noqa: DTZ001
        ([20240131, 20240201], "%Y%m%d", datetime(2024, 1, 31)),  # noqa: DTZ001
        ([date(2024, 1, 31)], ISO, datetime(2024, 1, 31)),  # noqa: DTZ001
        (pa.array([1706655600], pa.timestamp("s", "Europe/Berlin")), ISO, datetime(2024, 1, 30, 23)),  # noqa: DTZ001
    ],
    ids=["iso", "slashes", "day first", "month first", "dots", "digits", "date", "zoned"],
)
def test_the_format_is_found_and_read(connection, values: list[Any], time_format: str, first: datetime) -> None:
    table = column(connection, values)
    assert detect_time_format(table, "when") == time_format
    assert read(table, time_format)[0] == first


def test_two_readings_that_disagree_are_refused(connection) -> None:
    table = column(connection, ["01/02/2024", "03/04/2024"])
    with pytest.raises(DataError, match=r"'01/02/2024' can be read as %d/%m/%Y or as %m/%d/%Y"):
        detect_time_format(table, "when")


def test_the_value_that_decides_may_come_late(connection) -> None:
    table = column(connection, ["01/02/2024"] * 30_000 + ["13/02/2024"])
    assert detect_time_format(table, "when") == "%d/%m/%Y"


def test_what_is_no_time_is_null(connection) -> None:
    assert read(column(connection, ["soon", "2024-13-01", ""]), ISO) == [None, None, None]
    assert read(column(connection, [1.5, 2.5]), ISO) == [None, None]


def test_moments_of_options_are_utc() -> None:
    assert parse_moment("2011-06-01") == datetime(2011, 6, 1, tzinfo=UTC)
    assert parse_moment("2011-06-01T02:00+02:00") == datetime(2011, 6, 1, tzinfo=UTC)
    with pytest.raises(ConfigError, match="'June' is not a moment, must be as 2011-06-01"):
        parse_moment("June")


@pytest.mark.parametrize(
    ("values", "time_format", "first"),
    [
        (["12/1/2010 8:26 AM", "12/13/2010 9:26PM"], "%m/%d/%Y %I:%M %p", datetime(2010, 12, 1, 8, 26)),  # noqa: DTZ001
        (["2024-01-05 08:26:10 p.m."], "%Y-%m-%d %I:%M:%S %p", datetime(2024, 1, 5, 20, 26, 10)),  # noqa: DTZ001
        (["5 May 2024", "7 May 2024"], "%d %b %Y", datetime(2024, 5, 5)),  # noqa: DTZ001
        (["January 5, 2024", "May 7, 2024"], "%B %d, %Y", datetime(2024, 1, 5)),  # noqa: DTZ001
        (["05-Jan-24"], "%d-%b-%y", datetime(2024, 1, 5)),  # noqa: DTZ001
        (["31/01/24"], "%d/%m/%y", datetime(2024, 1, 31)),  # noqa: DTZ001
        (["31.01.24"], "%d.%m.%y", datetime(2024, 1, 31)),  # noqa: DTZ001
        ([1706655600, None], "epoch_s", datetime(2024, 1, 30, 23)),  # noqa: DTZ001
        (["1706655600"], "epoch_s", datetime(2024, 1, 30, 23)),  # noqa: DTZ001
        ([1706655600.0, None], "epoch_s", datetime(2024, 1, 30, 23)),  # noqa: DTZ001
        ([1706655600123], "epoch_ms", datetime(2024, 1, 30, 23, 0, 0, 123_000)),  # noqa: DTZ001
        ([1706655600123000], "epoch_us", datetime(2024, 1, 30, 23, 0, 0, 123_000)),  # noqa: DTZ001
    ],
)
def test_clocks_of_twelve_hours_names_of_months_and_epochs_are_read(
    connection, values: list[object], time_format: str, first: datetime
) -> None:
    table = column(connection, values)
    assert detect_time_format(table, "when") == time_format
    assert read(table, time_format)[0] == first


def test_small_numbers_are_no_epoch(connection) -> None:
    assert read(column(connection, [5, 4_000_000_000_000_000_000]), "epoch_s") == [None, None]
