"""History: vocabularies, order of the lines, and cuts in time that cannot leak."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.data.history import History, binary, epoch_seconds
from recsys.errors import DataError

LINES = pd.DataFrame(
    {
        "order_id": ["o2", "o1", "o1", "o3"],
        "account_id": ["bee", "ant", "ant", None],
        "product_id": ["Y", "X", "Y", "Z"],
        "ordered_at": pd.to_datetime(["2024-01-02 10:00", "2024-01-01 09:00", "2024-01-01 09:00", "2024-01-03 00:00"]),
        "quantity": [2, 1, 3, 4],
        "unit_price": [5.0, 10.0, 5.0, 1.0],
        "discount": [1.0, None, 0.0, 0.0],
    }
)


def test_lines_are_sorted_by_time_and_coded() -> None:
    history = History.from_frame(LINES)
    assert list(history.account_ids) == ["ant", "bee"]
    assert list(history.product_ids) == ["X", "Y", "Z"]
    assert history.account.tolist() == [0, 0, 1, -1]
    assert history.product.tolist() == [0, 1, 1, 2]
    assert history.order.tolist() == [0, 0, 1, 2]
    assert history.revenue.tolist() == [10 * 1 - 0, 5 * 3 - 0, 5 * 2 - 1, 1 * 4 - 0]
    assert history.seconds[0] == epoch_seconds(datetime(2024, 1, 1, 9, tzinfo=UTC))
    assert len(LINES) == 4
    assert LINES["order_id"].tolist() == ["o2", "o1", "o1", "o3"]  # the argument is as it was


def test_cuts_in_time() -> None:
    history = History.from_frame(LINES)
    second = datetime(2024, 1, 2, 10, tzinfo=UTC)
    assert history.before(second).order.tolist() == [0, 0]
    assert history.between(second, days=1).order.tolist() == [1, 2]
    assert history.known().order.tolist() == [0, 0, 1]
    assert history.before(datetime(2030, 1, 1, tzinfo=UTC)) is history  # where all lines stay there is no copy


def test_owned_and_first_purchases() -> None:
    twice = pd.concat([LINES, LINES.assign(ordered_at=LINES["ordered_at"] + pd.Timedelta(days=9), order_id="o9")])
    history = History.from_frame(twice)
    assert history.owned().toarray().tolist() == [[1, 1, 0], [0, 1, 0]]
    firsts = history.first_purchases()
    assert list(zip(firsts.account, firsts.product, firsts.order, strict=True)) == [(0, 0, 0), (0, 1, 0), (1, 1, 1)]


def test_a_given_vocabulary_keeps_its_rows() -> None:
    products = np.array(["W", "X", "Y", "Z"], dtype=object)
    history = History.from_frame(LINES, product_ids=products, account_ids=np.array(["ant"], dtype=object))
    assert history.product.tolist() == [1, 2, 2, 3]
    assert history.account.tolist() == [0, 0, -1, -1]
    with pytest.raises(DataError, match="product_id == 'Z' is not among"):
        History.from_frame(LINES, product_ids=products[:3])


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), max_size=30))
def test_binary_is_zero_or_one(pairs: list[tuple[int, int]]) -> None:
    rows, columns = (np.array(side, dtype=np.int32) for side in (zip(*pairs, strict=True) if pairs else ([], [])))
    matrix = binary(rows, columns, (4, 5)).toarray()
    assert {(int(r), int(c)) for r, c in zip(*np.nonzero(matrix), strict=True)} == set(pairs)
    assert set(np.unique(matrix)) <= {0.0, 1.0}


@pytest.mark.parametrize(
    "moment", [datetime(2024, 1, 1, tzinfo=UTC).replace(tzinfo=None), datetime(2024, 1, 1, tzinfo=UTC)]
)
def test_a_moment_without_a_zone_is_utc(moment: datetime) -> None:
    assert epoch_seconds(moment) == 1_704_067_200
