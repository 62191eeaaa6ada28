"""Variants of catalogues made by hand: colours before and behind, sizes, and kinds of thing at their own prices."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys.products.variants import variant_groups

COLOURS = ("RED", "BLUE", "PINK", "LIME GREEN")
THINGS = {"SPOTTY BOWL": 1.25, "SPOTTY MUG": 2.1, "LUNCH BAG": 1.65, "STRING CURTAIN": 5.95, "DOOR MAT": 7.95}
SIZES = {"SMALL": 1.0, "LARGE": 1.8}


def catalogue(rename: dict[str, str] | None = None) -> tuple[list[str], NDArray[np.float64]]:
    """Every thing in every colour, half of them in two sizes."""
    names, prices = [], []
    for number, (thing, price) in enumerate(THINGS.items()):
        for size, factor in SIZES.items() if number % 2 else [("", 1.0)]:
            for colour in COLOURS:
                words = f"{size} {colour} {thing}" if number < 3 else f"{size} {thing} {colour}"
                names.append(" ".join((rename or {}).get(word, word) for word in words.split()))
                prices.append(price * factor)
    return names, np.array(prices)


def groups(names: list[str], price: NDArray[np.float64]) -> list[set[str]]:
    found = variant_groups(names, price, np.full(len(names), -1))
    return [{names[row] for row in np.flatnonzero(found == number)} for number in range(1, found.max(initial=0) + 1)]


def test_the_colours_of_one_thing_of_one_size_are_one_group() -> None:
    names, price = catalogue()
    expected = [set(names[begin : begin + len(COLOURS)]) for begin in range(0, len(names), len(COLOURS))]
    assert groups(names, price) == expected


PRINTS = ("OWL", "RED RETROSPOT", "BAROQUE BLACK AND WHITE", "STRAWBERRY", "VINTAGE LEAF DESIGN", "SPACEBOY")


def test_words_that_make_the_price_are_one_thing_whatever_stands_beside_them() -> None:
    """Prints of several words, before or behind: no two names differ in one place by one or two words."""
    things = {"JUMBO BAG": 1.95, "WRAP": 0.42, "CHILDS UMBRELLA": 3.25, "HOT WATER BOTTLE": 4.95}
    made = [
        (f"{print_} {thing}" if at % 2 else f"{thing} {print_}", price)
        for thing, price in things.items()
        for at, print_ in enumerate(PRINTS)
    ]
    names = [name for name, _ in made]
    expected = [set(names[begin : begin + len(PRINTS)]) for begin in range(0, len(names), len(PRINTS))]
    assert groups(names, np.array([price for _, price in made])) == expected


def test_three_near_prices_are_chance() -> None:
    made = {f"JUMBO BAG {print_}": 1.95 for print_ in (PRINTS[1], PRINTS[2], PRINTS[4])}
    made |= {f"{print_} {thing}": price for print_ in PRINTS for thing, price in (("DISH", 1.25), ("TRAY BOX", 9.0))}
    n_grouped = []
    for name in ("PURSE", "JUMBO BAG CHICK AND EGG"):
        made[name] = 1.95
        found = groups(list(made), np.array(list(made.values())))
        n_grouped.append(sum("JUMBO" in member for group in found for member in group))
    assert n_grouped == [0, 4]


def test_two_kinds_of_thing_at_one_price_are_kept_apart() -> None:
    """Wherever CARD and WRAP take each other's place the price stays; but each makes a price, as a colour does not."""
    made = [(f"{print_} {thing}", 0.42) for thing in ("CARD", "WRAP") for print_ in PRINTS]
    made += [(f"{print_} {thing}", price) for thing, price in THINGS.items() for print_ in PRINTS]
    found = groups([name for name, _ in made], np.array([price for _, price in made]))
    assert all(len({name.split()[-1] for name in group}) == 1 for group in found)
    assert {f"{print_} CARD" for print_ in PRINTS} in found


def test_no_word_is_known_beforehand() -> None:
    words = sorted({word for name in catalogue()[0] for word in name.split()})
    invented = {word: f"ZQ{number}X" for number, word in enumerate(words)}
    names, price = catalogue(invented)
    plain = [{" ".join(invented[word] for word in name.split()) for name in group} for group in groups(*catalogue())]
    assert groups(names, price) == plain


def test_without_the_prices_nothing_is_told_apart() -> None:
    names, price = catalogue()
    shuffled = np.random.default_rng(1).permutation(price)
    assert sum(map(len, groups(names, shuffled))) < len(names) / 4


def test_two_names_that_agree_by_chance_are_no_variants() -> None:
    names = ["GARDEN FORK", "GARDEN LAMP", "OAK TABLE", "OAK CHAIR", "TEA SPOON", "TEA TOWEL"]
    assert groups(names, np.array([5.0, 5.0, 90.0, 40.0, 2.0, 4.0])) == []


def test_names_that_only_number_products_are_no_variants() -> None:
    names = [f"ARTICLE {number}" for number in range(60)] + [f"NICE THING P{number}" for number in range(60)]
    assert groups(names, np.full(120, 5.0)) == []


def test_unknown_prices_names_and_other_families_are_left_out() -> None:
    names, price = catalogue()
    price[0] = np.nan
    family = np.full(len(names) + 1, -1)
    family[1], family[2] = 1, 2
    found = variant_groups([*names, None], np.append(price, 1.25), family)
    assert (found[0], found[-1]) == (0, 0)
    family[3] = 3
    found = variant_groups([*names, None], np.append(price, 1.25), family)
    assert found[1:4].tolist() == [0, 0, 0]
    assert found[4] > 0


@pytest.mark.parametrize("names", [[], [None], ["ONE NAME"]])
def test_a_catalogue_without_likeness_has_no_groups(names: list[str | None]) -> None:
    assert variant_groups(names, np.ones(len(names)), np.full(len(names), -1)).tolist() == [0] * len(names)
