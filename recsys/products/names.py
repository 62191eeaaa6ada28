"""What a product name says: pack size, size, grade, counts, and the words that are left.

Catalogues without families and tiers still say which product is the bigger or better version of which other one:
"SMALL HANGING LANTERN" and "LARGE HANGING LANTERN", "SET OF 3 TINS" and "SET OF 6 TINS". `parse_name` reads one name
into `NameParts`; `compare_names` says in which direction one name steps from another.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NamedTuple

from recsys.products.name_words import singular, words_of

# 3 is what a product is when its name says nothing: MINI X < X < LARGE X.
SIZE_WORDS: Final = {
    "tiny": 1, "mini": 1, "miniature": 1, "small": 2, "sml": 2, "sm": 2, "short": 2,
    "medium": 3, "med": 3, "midi": 3, "regular": 3,
    "large": 4, "lge": 4, "lrg": 4, "big": 4, "tall": 4, "xl": 5, "jumbo": 5, "giant": 5, "huge": 5, "maxi": 5,
}  # fmt: skip
_GRADES: Final = {
    "basic": 1, "budget": 1, "starter": 1, "economy": 1, "essential": 2, "standard": 2,
    "plus": 4, "premium": 5, "professional": 5, "pro": 5, "deluxe": 6, "luxury": 6, "ultimate": 7,
}  # fmt: skip
PLAIN_SIZE: Final = 3
PLAIN_GRADE: Final = 3
_NUMBER_WORDS: Final = {
    "single": 1, "two": 2, "double": 2, "three": 3, "triple": 3, "four": 4, "five": 5, "six": 6, "seven": 7,
    "eight": 8, "nine": 9, "ten": 10, "twelve": 12, "dozen": 12,
}  # fmt: skip
FILLER_WORDS: Final = frozenset(
    {"a", "an", "and", "the", "of", "in", "on", "with", "for", "to", "w", "asst", "assorted"}
)
# A number before one of these counts parts of one piece, not pieces of a pack.
_PARTS: Final = frozenset(
    {"tier", "hook", "drawer", "door", "shelf", "wick", "compartment", "layer", "section", "seat", "light"}
)
_UNITS: Final = ("cm", "mm", "m", "in", "inch", "kg", "g", "ml", "l", "oz", "lb", "w")
KNOWN_ASPECTS: Final = frozenset({"size", "grade", "pack", *_PARTS, *_UNITS})
"""Aspects of which a name is known to say that it is more; other counts, as in "650 black", may be a model's number."""
_PACK_WORD: Final = r"set|pack|pk|box|bundle|case|s|bag|tube|carton"
# "SET OF 3", "PACK/12", "SET/6", "S/4", "BOX 20", "BOX OF 24"; then "12 PIECE", "6PC", "20 PACK", "16 PCE"
_PACK_BEFORE: Final = re.compile(rf"\b(?:{_PACK_WORD})\s*(?:of|/|x)?\s*/?\s*(?P<n>\d{{1,4}})\b")
_PACK_AFTER: Final = re.compile(r"\b(?P<n>\d{1,4})\s*-?\s*(?:pieces?|pcs?|pce|pack|pk|set)\b")
_MEASURE: Final = re.compile(rf"\b(?P<n>\d+(?:\.\d+)?)(?:\s*x\s*\d+(?:\.\d+)?)*\s*(?P<unit>{'|'.join(_UNITS)})\b")
_LEADING_COUNT: Final = re.compile(r"^(?P<n>\d{1,4})\s+(?=[a-z])")
_COUNT: Final = re.compile(r"\b(?P<n>\d{1,4})\s*(?P<what>[a-z]{3,})\b")
_COLOURS: Final = frozenset(
    (
        *("red", "blue", "green", "pink", "white", "black", "cream", "ivory", "silver", "gold", "purple", "yellow"),
        *("orange", "brown", "grey", "gray", "mint", "turquoise", "lilac", "lavender", "aqua", "beige", "navy"),
        *("copper", "bronze", "amber", "clear", "natural"),
    )
)


class NameParts(NamedTuple):
    """What one name says.

    Attributes:
        core: the words that are left, singular, without fillers; what the product is.
        pieces: how many pieces are in the pack; 1 where the name does not say.
        size: 1 (mini) to 5 (jumbo); 3 where the name does not say.
        grade: 1 (basic) to 7 (ultimate); 3 where the name does not say.
        counts: counted or measured parts, such as `("tier", 3.0)` or `("cm", 15.0)`, sorted by name.
    """

    core: frozenset[str]
    pieces: float
    size: int
    grade: int
    counts: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class NameStep:
    """How a second name steps from a first one.

    Attributes:
        up: the aspects in which the second is more, such as `size` or `pack`.
        down: the aspects in which it is less.
        stated: whether both names state one of the aspects that go up; else one of them is silent about each.
    """

    up: tuple[str, ...]
    down: tuple[str, ...]
    stated: bool


def parse_name(name: str | None) -> NameParts:
    """Return what a product name says about pack, size, grade and counts, and the words that are left.

    >>> parse_name("SET OF 3 REGENCY CAKE TINS").pieces
    3.0
    >>> sorted(parse_name("LARGE HANGING LANTERNS").core), parse_name("LARGE HANGING LANTERNS").size
    (['hanging', 'lantern'], 4)
    """
    text = _digits(str(name or "").lower().replace("&", " and ").replace("+", " and "))
    counts: dict[str, float] = {}
    text = _take_measures(text, counts)
    text, pieces = _take_pack(text)
    text = _take_counts(text, counts)
    size, grade, core = PLAIN_SIZE, PLAIN_GRADE, []
    for word in words_of(text):
        if word in SIZE_WORDS:
            size = SIZE_WORDS[word]
        elif word in _GRADES:
            grade = _GRADES[word]
        elif word not in FILLER_WORDS and not word.isdigit():
            core.append(singular(word))
    return NameParts(frozenset(core), pieces, size, grade, tuple(sorted(counts.items())))


def compare_names(lower: NameParts, upper: NameParts) -> NameStep:
    """Return the aspects in which `upper` is more than `lower`, and those in which it is less.

    A count is compared only where both names have it: "3 TIER" says nothing about a name without tiers.
    """
    aspects = [
        ("size", float(lower.size), float(upper.size), float(PLAIN_SIZE)),
        ("grade", float(lower.grade), float(upper.grade), float(PLAIN_GRADE)),
        ("pack", lower.pieces, upper.pieces, 1.0),
    ]
    known = dict(lower.counts)
    aspects += [(what, known[what], n, -1.0) for what, n in upper.counts if what in known]
    up = [(what, plain not in (low, high)) for what, low, high, plain in aspects if high > low]
    return NameStep(
        up=tuple(what for what, _ in up),
        down=tuple(what for what, low, high, _ in aspects if high < low),
        stated=any(stated for _, stated in up),
    )


def higher_version(lower: NameParts, upper: NameParts) -> NameStep | None:
    """Return the step by which `upper` is the higher version by its name; None where the name does not say so.

    The step must go up in at least one aspect and down in none; another colour is another product, not a version.
    """
    step = compare_names(lower, upper)
    return step if step.up and not step.down and not _recoloured(lower.core, upper.core) else None


def _recoloured(lower: frozenset[str], upper: frozenset[str]) -> bool:
    first, second = lower & _COLOURS, upper & _COLOURS
    return bool(first and second and not first & second)


def _digits(text: str) -> str:
    return re.sub(r"\b[a-z]+\b", lambda m: str(_NUMBER_WORDS.get(m[0], m[0])), text)


def _take_measures(text: str, counts: dict[str, float]) -> str:
    for match in _MEASURE.finditer(text):
        counts.setdefault(match["unit"], float(match["n"]))
    return _MEASURE.sub(" ", text)


def _take_pack(text: str) -> tuple[str, float]:
    for pattern in (_PACK_BEFORE, _PACK_AFTER, _LEADING_COUNT):
        match = pattern.search(text)
        if match and not (pattern is _LEADING_COUNT and _counts_a_part(text, match)):
            return f"{text[: match.start()]} {text[match.end() :]}", max(float(match["n"]), 1.0)
    return text, 1.0


def _counts_a_part(text: str, match: re.Match[str]) -> bool:
    following = words_of(text[match.end() :])
    return bool(following) and singular(following[0]) in _PARTS


def _take_counts(text: str, counts: dict[str, float]) -> str:
    for match in _COUNT.finditer(text):
        counts.setdefault(singular(match["what"]), float(match["n"]))
    return _COUNT.sub(lambda m: f" {m['what']} ", text)
