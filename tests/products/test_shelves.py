"""Shelves of catalogues made by hand, read from either end, and of real names."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys.products.shelves import LEAST_PRODUCTS, shelves_of_names

COLOURS = ("RED", "BLUE", "PINK", "WHITE", "GREEN")
PATTERNS = ("SPOTTY", "PAISLEY", "STRIPED")
THINGS = {"T-LIGHT HOLDER": 2.0, "CANDLE HOLDER": 4.0, "BOWL": 1.25, "LUNCH BAG": 1.65, "DOOR MAT": 7.95}


def catalogue(*, is_thing_first: bool = False) -> tuple[list[str], NDArray[np.float64], list[str]]:
    """Every thing in every colour and pattern, the colour of a third behind it; prices, and what each one is."""
    names, prices, things = [], [], []
    for thing, price in THINGS.items():
        for number, (colour, pattern) in enumerate((colour, pattern) for colour in COLOURS for pattern in PATTERNS):
            words = [pattern, *thing.split(), colour] if number % 3 == 0 else [colour, pattern, *thing.split()]
            names.append(" ".join(words[::-1] if is_thing_first else words))
            prices.append(price * (1 + number % 2 / 10))
            things.append(" ".join(thing.split()[::-1]) if is_thing_first else thing)
    return names, np.array(prices), things


@pytest.mark.parametrize("is_thing_first", [False, True])
def test_products_stand_by_what_they_are(is_thing_first: bool) -> None:
    names, price, things = catalogue(is_thing_first=is_thing_first)
    found = shelves_of_names(names, price)
    shelf = [found.names[code] for code in found.code.tolist()]
    # SPOTTY BOWL is shared by five as well, and is told apart
    assert [name for name, thing in zip(shelf, things, strict=True) if "BOWL" not in thing] == [
        thing for thing in things if "BOWL" not in thing
    ]
    assert all("BOWL" in name for name, thing in zip(shelf, things, strict=True) if thing == "BOWL")


def shelf_names(names: list[str]) -> list[str | None]:
    found = shelves_of_names(names, np.full(len(names), np.nan))
    return [found.names[code] if code >= 0 else None for code in found.code.tolist()]


def test_singular_and_plural_are_one_shelf_called_as_most_are() -> None:
    names = [f"{colour} {thing}" for colour in COLOURS for thing in ("MUG", "CANDLES")]
    assert shelf_names([*names, "TWO MUGS", "LONG CANDLE"]) == ["MUG", "CANDLES"] * 5 + ["MUG", "CANDLES"]


def test_a_plural_may_be_a_kind_where_its_singular_is_a_part_of_others() -> None:
    names = [f"{colour} {thing}" for colour in COLOURS for thing in ("T-LIGHTS", "T-LIGHT HOLDER", "T-LIGHT DISH")]
    assert shelf_names(names) == ["T-LIGHTS", "T-LIGHT HOLDER", "T-LIGHT DISH"] * 5


def test_patterns_places_and_sizes_are_no_shelves() -> None:
    things = ("LUNCH BAG", "CAKE TIN", "TEA MUG", "WALL CLOCK", "SOUP BOWL")
    plain = [f"{colour} {thing}" for colour in COLOURS for thing in things]
    patterned = [f"{thing} {motif} DESIGN" for thing in things for motif in ("APPLES", "SPACEBOY")]
    placed = [f"{colour} SOUP BOWL {place}" for colour in COLOURS for place in ("IN TUBE", "WITH SPOON", "SIZE MEDIUM")]
    assert shelf_names([*plain, *patterned, *placed]) == [
        *(thing for _ in COLOURS for thing in things),
        *(thing for thing in things for _ in range(2)),
        *["SOUP BOWL"] * len(placed),
    ]


def test_what_few_share_and_what_has_no_name_stands_on_no_shelf() -> None:
    names, price, _ = catalogue()
    few = [f"{colour} TEAPOT" for colour in COLOURS[: LEAST_PRODUCTS - 1]]
    found = shelves_of_names([*names, *few, "", None], np.append(price, [9.0] * len(few) + [np.nan, 1.0]))
    assert found.code[-len(few) - 2 :].tolist() == [-1] * (len(few) + 2)
    assert not any("TEAPOT" in name for name in found.names)


def test_numbers_are_no_kind_of_thing() -> None:
    names = [f"ARTICLE {number}" for number in range(40)] + [f"PART {number} 12" for number in range(40)]
    assert shelves_of_names(names, np.full(80, 3.0)).names == ()


def test_without_names_there_are_no_shelves() -> None:
    found = shelves_of_names([None, ""], np.array([1.0, 2.0]))
    assert (found.names, found.code.tolist()) == ((), [-1, -1])
