"""Names that differ in one word, and which words take each other's place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.products.name_slots import NameSlots
from recsys.products.name_words import split_name


def slots_of(*names: str | None, group: list[int] | None = None) -> NameSlots:
    return NameSlots.of(names, np.array(group or [0] * len(names)))


def swaps(slots: NameSlots) -> set[tuple[str, str]]:
    return set(zip(slots.words[slots.first_word], slots.words[slots.second_word], strict=True))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("LL Road Frame - Black, 58", ("ll", "road", "frame", "black", "58")),
        ("Road-650 Red, 44", ("road", "650", "red", "44")),
        ("LARGE LANTERNS, GLASS", ("large", "lantern", "glass")),
        ("Große Laterne", ("große", "laterne")),
        ("Men's vest", ("men", "vest")),
        ("--", ()),
    ],
)
def test_a_name_is_its_words(name: str, words: tuple[str, ...]) -> None:
    assert split_name(name) == words


def test_words_that_stand_in_one_place_are_paired() -> None:
    slots = slots_of("LL Pedal", "HL Pedal", "HL Saddle", "Bell")
    assert swaps(slots) == {("hl", "ll"), ("pedal", "saddle")}
    assert slots.title.tolist() == [0, 1, 2, 3]


def test_order_and_punctuation_of_words_do_not_count() -> None:
    slots = slots_of("Large glass lantern", "LANTERN, GLASS - SMALL", "Glass lantern (small)")
    assert swaps(slots) == {("large", "small")}
    assert slots.title.tolist() == [0, 1, 1]


def test_a_name_without_the_word_is_paired_too() -> None:
    assert swaps(slots_of("Oak table", "Large oak table")) == {("", "large")}


def test_several_words_side_by_side_may_stand_in_a_place() -> None:
    names = ("Red retrospot bag", "Bag, woodland")
    assert swaps(slots_of(*names)) == set()
    slots = NameSlots.of(names, np.zeros(2, dtype=np.int64), most_words=2)
    assert swaps(slots) == {("red retrospot", "woodland")}


def test_names_of_two_groups_are_not_paired() -> None:
    assert len(slots_of("LL Pedal", "HL Pedal", group=[0, 1])) == 0


def test_a_place_where_anything_may_stand_says_nothing() -> None:
    assert len(slots_of(*(f"Product {number}" for number in range(31)))) == 0
    assert len(slots_of(*(f"Product {number}" for number in range(30)))) == 30 * 29 / 2


def test_names_that_are_missing_or_have_one_word_make_no_pair() -> None:
    slots = slots_of(None, "Bell", "Lock", "")
    assert (len(slots), slots.title.tolist()) == (0, [-1, 0, 1, -1])


def test_the_value_of_a_title_is_the_median_of_its_products() -> None:
    slots = slots_of("LL Pedal", "ll pedal", "HL Pedal", None)
    assert slots.medians(np.array([1.0, 4.0, 9.0, 5.0])).tolist() == [2.5, 9.0]


@given(st.lists(st.lists(st.sampled_from("abcde"), min_size=1, max_size=4).map(" ".join), max_size=8))
def test_both_names_of_a_pair_are_one_word_apart(names: list[str]) -> None:
    slots = slots_of(*names)
    for at in range(len(slots)):
        first, second = list(slots.titles[slots.first[at]]), list(slots.titles[slots.second[at]])
        for words, word in ((first, slots.first_word[at]), (second, slots.second_word[at])):
            if slots.words[word]:
                words.remove(slots.words[word])
        assert first == second
