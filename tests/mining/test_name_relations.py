"""Relations told by names alone: those of pairs that were never seen, from pairs whose relation is known."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from recsys.errors import DataError
from recsys.mining.name_relations import NameRelations, folds_of_products
from recsys.products.name_likeness import NameLikeness

COLOURS = ("red", "blue", "green", "black")
MAKERS = ("Acorn", "Birch", "Cedar", "Dover", "Elm", "Firth", "Grove", "Heath")
Pairs = list[tuple[str, str, str]]


def pairs_of(makers: tuple[str, ...]) -> Pairs:
    """Pens of a maker replace each other in another colour and take the maker's refill; staplers have no part in it."""
    found: Pairs = []
    for maker in makers:
        found += [
            (f"{maker} pen {a}", f"{maker} pen {b}", "substitute") for a, b in list(combinations(COLOURS, 2))[::2]
        ]
        found += [(f"{maker} pen {colour}", f"refill for {maker} pen", "complement") for colour in COLOURS[:3]]
        found += [(f"{maker} pen {colour}", f"{maker} stapler", "none") for colour in COLOURS[1:]]
    return found


def apart(pairs: Pairs) -> tuple[list[str], list[str], list[str]]:
    first, second, relation = zip(*pairs, strict=True)
    return list(first), list(second), list(relation)


@pytest.fixture(scope="module")
def learned() -> NameRelations:
    return NameRelations().fit(*apart(pairs_of(MAKERS[:6])))


def test_pairs_of_makers_that_were_never_seen_are_told(learned: NameRelations) -> None:
    first, second, relation = apart(pairs_of(MAKERS[6:]))
    assert learned.predict(first, second).tolist() == relation
    chances = learned.predict_proba(first, second)
    assert chances.sum(axis=1) == pytest.approx(1)
    assert learned.classes_.tolist() == ["complement", "none", "substitute"]


def test_with_relations_shuffled_nothing_is_learned() -> None:
    first, second, relation = apart(pairs_of(MAKERS[:6]))
    shuffled = np.random.default_rng(0).permutation(relation).tolist()
    unseen = apart(pairs_of(MAKERS[6:]))
    right = NameRelations().fit(first, second, shuffled).predict(*unseen[:2]) == np.array(unseen[2])
    assert right.mean() < 0.7


def test_neither_the_order_of_pairs_nor_of_their_names_counts(learned: NameRelations) -> None:
    pairs = pairs_of(MAKERS[:6])
    first, second, relation = apart([(b, a, what) for a, b, what in reversed(pairs)])
    again = NameRelations().fit(first, second, relation)
    asked = apart(pairs_of(MAKERS[6:]))[:2]
    assert again.predict_proba(*asked[::-1]) == pytest.approx(learned.predict_proba(*asked), abs=1e-9)


def test_two_relations_are_enough_and_one_is_not() -> None:
    pairs = [pair for pair in pairs_of(MAKERS[:6]) if pair[2] != "none"]
    names = NameLikeness.of([name for pair in pairs for name in pair[:2]])
    two = NameRelations().fit(*apart(pairs), names=names)
    assert two.predict_proba(["Elm pen red"], ["Elm pen blue"]).shape == (1, 2)
    with pytest.raises(DataError, match="two relations with more than 5 pairs"):
        NameRelations().fit(*apart([pair for pair in pairs if pair[2] == "substitute"]))
    few = [pair for pair in pairs_of(MAKERS[:6]) if pair[2] == "none"][:5]
    with pytest.raises(DataError, match="none 5, substitute 18"):
        NameRelations().fit(*apart([*few, *(pair for pair in pairs if pair[2] == "substitute")]))


def test_what_is_learned_from_has_no_product_of_what_is_tested() -> None:
    first, second = [f"a{n % 40}" for n in range(60)], [f"b{n % 50}" for n in range(60)]
    tested: list[int] = []
    for learn, test in folds_of_products(first, second, 6, np.random.default_rng(1)):
        shown = {name for row in learn for name in (first[row], second[row])}
        assert shown.isdisjoint({name for row in test for name in (first[row], second[row])})
        assert len(learn) > 0
        tested += test.tolist()
    assert sorted(tested) == list(range(len(first)))
