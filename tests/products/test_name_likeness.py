"""How alike two names are, by letters alone."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.products.name_likeness import NameLikeness, folded

NAMES = ["Red pen 0.5 mm", "Blue pen 0.5 mm", "Refill for pen 0.7 mm", "赤 ボールペン", "青 ボールペン", "Stapler"]


@pytest.fixture(scope="module")
def likeness() -> NameLikeness:
    return NameLikeness.of(NAMES)


def test_it_is_the_same_whichever_stands_first(likeness: NameLikeness) -> None:
    first, second = NAMES[:5], NAMES[1:]
    assert np.allclose(likeness.between(first, second), likeness.between(second, first), atol=1e-12)


def test_a_name_is_itself_in_every_way(likeness: NameLikeness) -> None:
    same = likeness.between(["Red pen 0.5 mm"], ["RED PEN ０.5 mm"])[0]
    assert same[:6] == pytest.approx(1)
    assert same[7:].tolist() == [1, 1, 1, 1, 0, 0]  # beginning, end, numbers alike, shared, not shared, lengths


def test_what_is_read_of_two_names(likeness: NameLikeness) -> None:
    found = likeness.between(["Red pen 0.5 mm"], ["Refill for pen 0.7 mm"])[0]
    shorter = len("Red pen 0.5 mm")
    lengths = np.log(21 / shorter)
    assert found[7:] == pytest.approx([2 / shorter, 3 / shorter, 0, 0, 2, lengths])  # "re" and " mm" are alike


def test_words_need_no_blanks(likeness: NameLikeness) -> None:
    pens, other = likeness.between(["赤 ボールペン", "赤 ボールペン"], ["青 ボールペン", "Stapler"])
    assert (pens[:3] > other[:3] + 0.5).all()


def test_neither_order_nor_repetition_of_a_catalogue_counts(likeness: NameLikeness) -> None:
    again = NameLikeness.of([*reversed(NAMES), *NAMES])
    assert np.array_equal(again.between(NAMES[:5], NAMES[1:]), likeness.between(NAMES[:5], NAMES[1:]))


def test_short_and_empty_names_are_compared_too() -> None:
    found = NameLikeness.of(["ab", "", "c", "-"]).between(["ab", "", "-"], ["", "", "c"])
    assert found.shape == (3, 13)
    assert np.isfinite(found).all()


def test_full_and_half_width_are_one() -> None:
    assert folded("Ａ４ ＰＥＮ") == folded("a4 pen")
