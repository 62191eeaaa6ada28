"""The comparison finds the smallest change, and rounding is none."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.golden.comparison import MOST_SHOWN, Case, report
from tests.golden.storage import read_cases

SUBJECT = "answers-north-plain"


@pytest.fixture(scope="module")
def recorded() -> list[Case]:
    return read_cases(SUBJECT)


@pytest.fixture
def answered(recorded: list[Case]) -> dict[str, Any]:
    """A case with offers, of a copy that may be changed."""
    found = next(case for case in recorded if "offers" in case["answer"]["body"] and case["answer"]["body"]["offers"])
    return copy.deepcopy(found)


def with_case(recorded: list[Case], changed: Case) -> list[Case]:
    return [changed if case["case"] == changed["case"] else case for case in recorded]


def digit(case: Case) -> None:
    case["answer"]["body"]["offers"][0]["probability"] *= 1 + 1e-8


def stored_digit(case: Case) -> None:
    offer = case["stored"][0]["offers"][0]
    place = next(i for i, value in enumerate(offer) if isinstance(value, float) and 0 < value < 1)
    offer[place] *= 1 - 1e-8


def field(case: Case) -> None:
    offer = case["answer"]["body"]["offers"][0]
    offer["chance"] = offer.pop("probability")


def text(case: Case) -> None:
    case["answer"]["body"]["offers"][0]["name"] += "."


def kind(case: Case) -> None:
    case["answer"]["body"]["offers"][0]["rank"] = 1.0


def row(case: Case) -> None:
    case["stored"] = [None]


def offer(case: Case) -> None:
    case["answer"]["body"]["offers"].pop()


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        (digit, "/answer/body/offers/0/probability\n"),
        (stored_digit, "/stored/0/offers/0/"),
        (field, "/answer/body/offers/0/chance\n"),
        (text, "/answer/body/offers/0/name\n"),
        (kind, "/answer/body/offers/0/rank\n"),
        (row, "/stored/0\n"),
        (offer, "/answer/body/offers/"),
    ],
)
def test_a_change_is_told_with_its_case_and_place(
    recorded: list[Case], answered: Case, change: Callable[[Case], None], pointer: str
) -> None:
    change(answered)
    told = report(recorded, with_case(recorded, answered))
    assert answered["case"] in told
    assert answered["request"]["path"] in told
    assert pointer in told


def test_a_missing_row_and_one_too_many_are_told(recorded: list[Case]) -> None:
    assert recorded[7]["case"] in report(recorded, [*recorded[:7], *recorded[8:]])
    assert "one more" in report(recorded, [*recorded, {"case": "one more"}])


def test_the_last_bits_of_a_float_are_rounding(recorded: list[Case], answered: Case) -> None:
    answered["answer"]["body"]["offers"][0]["probability"] *= 1 + 1e-10
    assert report(recorded, with_case(recorded, answered)) == ""


def test_of_many_differences_ten_are_shown() -> None:
    was = [{"case": f"{i}", "value": i} for i in range(30)]
    told = report(was, [{"case": f"{i}", "value": -1} for i in range(30)])
    assert told.startswith("30 differences, the first 10:")
    assert told.count("  /value\n") == MOST_SHOWN
    assert "30 x /value" in told
