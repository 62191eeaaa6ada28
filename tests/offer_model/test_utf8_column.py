from __future__ import annotations

import copy

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recsys.offer_model.utf8_column import Utf8Column

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@given(st.lists(texts, unique=True), texts)
def test_find_agrees_with_a_list(values: list[str], wanted: str) -> None:
    column = Utf8Column.of(sorted(values))
    assert list(column) == sorted(values)
    assert column.find(wanted) == (sorted(values).index(wanted) if wanted in values else -1)


@given(st.lists(texts, min_size=1, unique=True))
def test_every_string_is_found(values: list[str]) -> None:
    column = Utf8Column.of(sorted(values))
    assert [column.find(value) for value in sorted(values)] == list(range(len(values)))


def test_none_is_empty_and_a_lone_surrogate_is_in_no_column() -> None:
    column = Utf8Column.of([None, "a"])
    assert list(column) == ["", "a"]
    assert column.find("\ud800") == -1
    assert column.find("a\0") == -1


def test_it_reads_arrays_that_were_mapped() -> None:
    column = Utf8Column(np.array([0, 1, 3]), np.frombuffer(b"axy", dtype=np.uint8))
    assert (column[0], column[1], len(column)) == ("a", "xy", 2)


def test_it_survives_a_copy() -> None:
    assert list(copy.deepcopy(Utf8Column.of(["a", "bc"]))) == ["a", "bc"]
