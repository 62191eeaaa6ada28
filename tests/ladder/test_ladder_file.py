"""A ladder goes out as CSV, is edited by a person, and comes back; mistakes are named with their rows."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from recsys.data.history import History
from recsys.errors import DataError, EmptyDataError, MissingColumnError, SourceNotFoundError
from recsys.ladder.edges import LadderConfig, build_ladder
from recsys.ladder.file import read_ladder, write_ladder

PRODUCTS = pd.DataFrame({"product_id": ["p0", "p1", "p2"], "name": ["SMALL CLOCHE", "LARGE CLOCHE", "OAK TABLE, OLD"]})


@pytest.fixture
def history() -> History:
    return History.from_frame(
        pd.DataFrame(
            {
                "order_id": ["a", "b", "c", "d"],
                "account_id": ["x", "x", "y", "y"],
                "product_id": ["p0", "p1", "p0", "p2"],
                "ordered_at": [datetime(2025, 1, day, tzinfo=UTC) for day in (1, 2, 3, 4)],
                "quantity": [1.0, 1.0, 1.0, 1.0],
                "unit_price": [2.0, 4.0, 2.0, 9.0],
            }
        )
    )


def test_unedited_it_comes_back_as_it_was(history: History, tmp_path: Path) -> None:
    ladder = build_ladder(PRODUCTS, history, None, LadderConfig())
    path = tmp_path / "new" / "ladder.csv"
    write_ladder(ladder, PRODUCTS, path)
    pd.testing.assert_frame_equal(read_ladder(path, PRODUCTS, history, LadderConfig()).edges, ladder.edges)


def test_names_stand_beside_the_ids(history: History, tmp_path: Path) -> None:
    path = tmp_path / "ladder.csv"
    write_ladder(build_ladder(PRODUCTS, history, None, LadderConfig()), PRODUCTS, path)
    table = pd.read_csv(path)
    assert table.loc[0, ["from_name", "to_name"]].tolist() == ["SMALL CLOCHE", "LARGE CLOCHE"]


def test_a_row_that_a_person_adds_is_curated_and_counted(history: History, tmp_path: Path) -> None:
    path = tmp_path / "ladder.csv"
    path.write_text("from_product_id,to_product_id\n p0 ,p2\n", encoding="utf-8")
    edge = read_ladder(path, PRODUCTS, history, LadderConfig()).edges.iloc[0]
    assert edge[["origin", "reason", "price_ratio"]].tolist() == ["curated", "curated", 9.0 / 2.0]
    assert (edge["n_standing"], edge["n_climbed"]) == (2, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("p0,p1\np0,p1\n", r"1 rows state an edge that stands in an earlier row.*row 3 \('p0' -> 'p1'\)"),
        ("p0,p0\n", r"lead from a product to itself.*row 2"),
        ("p0,p9\n", r"name a product that is not in the catalogue.*row 2 \('p0' -> 'p9'\)"),
        ("p0,\n", r"have an empty id"),
        ("p0,p1\np1,p0\n", r"2 rows go up where another row goes down"),
    ],
)
def test_mistakes_are_named_with_their_rows(history: History, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "ladder.csv"
    path.write_text("from_product_id,to_product_id\n" + text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_ladder(path, PRODUCTS, history, LadderConfig())


def test_an_unknown_origin_is_refused(history: History, tmp_path: Path) -> None:
    path = tmp_path / "ladder.csv"
    path.write_text("from_product_id,to_product_id,origin\np0,p1,guess\n", encoding="utf-8")
    with pytest.raises(DataError, match="have an origin that is none of"):
        read_ladder(path, PRODUCTS, history, LadderConfig())


def test_files_that_are_no_ladder_are_refused(history: History, tmp_path: Path) -> None:
    config = LadderConfig()
    with pytest.raises(SourceNotFoundError, match="no such file"):
        read_ladder(tmp_path / "none.csv", PRODUCTS, history, config)
    empty, other = tmp_path / "empty.csv", tmp_path / "other.csv"
    empty.write_text("", encoding="utf-8")
    other.write_text("from,to\na,b\n", encoding="utf-8")
    with pytest.raises(EmptyDataError, match="the file is empty"):
        read_ladder(empty, PRODUCTS, history, config)
    with pytest.raises(MissingColumnError, match=r"found \['from', 'to'\]"):
        read_ladder(other, PRODUCTS, history, config)
    other.write_text("from_product_id,to_product_id\np0,p1\np0,p1,x,y\n", encoding="utf-8")
    with pytest.raises(DataError, match="not a CSV file"):
        read_ladder(other, PRODUCTS, history, config)
