"""What names say: packs, sizes, grades, counts, and which of two is more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.products.name_words import singular
from recsys.products.names import compare_names, parse_name


@pytest.mark.parametrize(
    ("name", "pieces"),
    [
        ("PACK OF 12 RED RETROSPOT TISSUES", 12),
        ("PACK/12 XMAS FUN CARD", 12),
        ("SET/6 TURQUOISE BUTTERFLY T-LIGHTS", 6),
        ("SET OF 3 CAKE TINS PANTRY DESIGN", 3),
        ("SET OF THREE VINTAGE GIFT WRAPS", 3),
        ("SET 12 COLOUR PENCILS", 12),
        ("S/4 CACTI CANDLES", 4),
        ("BOX 20 MATCHES", 20),
        ("BOX OF 24 COCKTAIL PARASOLS", 24),
        ("60 TEATIME FAIRY CAKE CASES", 60),
        ("RED 3 PIECE MINI DOTS CUTLERY SET", 3),
        ("EIGHT PIECE SNAKE SET", 8),
        ("5 HOOK HANGER MAGIC TOADSTOOL", 1),
        ("CAKE STAND LOVEBIRD 2 TIER PINK", 1),
        ("BAG 500g SWIRLY MARBLES", 1),
        ("GLASS CLOCHE", 1),
        (None, 1),
    ],
)
def test_pieces_of_a_pack(name: str | None, pieces: float) -> None:
    assert parse_name(name).pieces == pieces


@pytest.mark.parametrize(
    ("lower", "upper", "up"),
    [
        ("SMALL POPCORN HOLDER", "LARGE POPCORN HOLDER", "size"),
        ("MINI CAKE STAND", "CAKE STAND", "size"),
        ("JAR MED", "JUMBO JAR", "size"),
        ("PANTRY SCALES", "DELUXE PANTRY SCALES", "grade"),
        ("SET OF 3 TINS", "SET/6 TINS", "pack"),
        ("BAG 250g SWIRLY MARBLES", "BAG 500g SWIRLY MARBLES", "g"),
        ("CAKE STAND 2 TIER", "CAKE STAND 3 TIER", "tier"),
        ("3 HOOK HANGER", "5 HOOK HANGER", "hook"),
    ],
)
def test_the_second_name_is_more(lower: str, upper: str, up: str) -> None:
    step = compare_names(parse_name(lower), parse_name(upper))
    assert (step.up, step.down) == ((up,), ())
    back = compare_names(parse_name(upper), parse_name(lower))
    assert (back.up, back.down) == ((), (up,))


def test_words_of_any_language_are_words() -> None:
    assert parse_name("GRÜNE LATERNE, GROSS").core == {"grüne", "laterne", "gross"}


def test_a_step_is_stated_where_both_names_speak() -> None:
    assert compare_names(parse_name("SMALL JAR"), parse_name("LARGE JAR")).stated
    assert not compare_names(parse_name("SMALL JAR"), parse_name("JAR")).stated
    assert not compare_names(parse_name("TIN"), parse_name("SET OF 3 TINS")).stated


def test_more_pieces_of_a_smaller_size_go_both_ways() -> None:
    step = compare_names(parse_name("LARGE TIN"), parse_name("SET OF 3 SMALL TINS"))
    assert (step.up, step.down) == (("pack",), ("size",))


def test_a_count_that_one_name_lacks_says_nothing() -> None:
    step = compare_names(parse_name("CAKE STAND"), parse_name("CAKE STAND 3 TIER"))
    assert (step.up, step.down) == ((), ())


@given(st.text(max_size=40))
def test_any_text_is_read(name: str) -> None:
    parts = parse_name(name)
    assert parts.pieces >= 1
    step = compare_names(parts, parts)
    assert (step.up, step.down) == ((), ())


@given(st.sampled_from(["lanterns", "boxes", "berries", "glasses", "dishes", "cakes"]))
def test_a_singular_has_no_singular(word: str) -> None:
    assert singular(singular(word)) == singular(word)
