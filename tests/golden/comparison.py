"""Comparison of cases: ids and text exact, floats to a relative 1e-9, and where they differ."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

RELATIVE = 1e-9
ABSOLUTE = 1e-15
"""Only for what is zero but for rounding."""
MOST_SHOWN = 10
MOST_PLACES = 40

Case = dict[str, Any]
"""`case` is its name, `request` what was asked; everything else is compared beside them."""

_ABSENT = "nothing"
_POSITION = re.compile(r"/\d+(?=/|$)")


def line_of(case: Any) -> str:
    """Return a case as one line of JSON; floats keep every digit."""
    return json.dumps(case, ensure_ascii=False, separators=(",", ":"), allow_nan=True)


def report(expected: Sequence[Case], actual: Sequence[Case]) -> str:
    """Return the first differences with case and request and how often which place differs; nothing where all agree."""
    places: Counter[str] = Counter()
    found: list[str] = []
    for case, pointer, was, now in differences(expected, actual):
        places[_POSITION.sub("/*", pointer) or "whole cases"] += 1
        if len(found) < MOST_SHOWN:
            asked = line_of(case.get("request", {}))
            values = f"    expected {was[:400]}\n    actual   {now[:400]}"
            found.append(f"{case['case']}  {asked[:600]}\n  {pointer}\n{values}")
    if not found:
        return ""
    counts = [f"  {count:>6} x {place}" for place, count in places.most_common(MOST_PLACES)]
    return "\n".join([f"{places.total()} differences, the first {len(found)}:", *found, "By place:", *counts])


def differences(expected: Sequence[Case], actual: Sequence[Case]) -> Iterator[tuple[Case, str, str, str]]:
    """Yield case, JSON pointer, expected and actual value of everything that differs."""
    was = {case["case"]: case for case in expected}
    now = {case["case"]: case for case in actual}
    assert len(was) == len(expected), "two recorded cases have one name"
    assert len(now) == len(actual), "two cases have one name"
    for name in dict.fromkeys([*was, *now]):
        if name not in now:
            yield was[name], "", "the case", _ABSENT
        elif name not in was:
            yield now[name], "", _ABSENT, "the case"
        elif line_of(was[name]) != line_of(now[name]):
            for pointer, left, right in _values(was[name], now[name], ""):
                yield now[name], pointer, left, right


def _values(was: Any, now: Any, pointer: str) -> Iterator[tuple[str, str, str]]:
    if isinstance(was, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*was, *now]):
            yield from _member(was, now, key, f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}")
    elif isinstance(was, list) and isinstance(now, list):
        for position in range(max(len(was), len(now))):
            yield from _member(dict(enumerate(was)), dict(enumerate(now)), position, f"{pointer}/{position}")
    elif not _same(was, now):
        yield pointer, *_shown(was, now)


def _member(was: dict[Any, Any], now: dict[Any, Any], key: Any, pointer: str) -> Iterator[tuple[str, str, str]]:
    if key not in now:
        yield pointer, line_of(was[key]), _ABSENT
    elif key not in was:
        yield pointer, _ABSENT, line_of(now[key])
    else:
        yield from _values(was[key], now[key], pointer)


def _same(was: Any, now: Any) -> bool:
    """A float is equal within the tolerance; everything else, and the kind of a value, is equal exactly."""
    if type(was) is not type(now):
        return False
    if isinstance(was, float):
        both_nan = math.isnan(was) and math.isnan(now)
        return both_nan or math.isclose(was, now, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    return bool(was == now)


def _shown(was: Any, now: Any) -> tuple[str, str]:
    """Two values; of two long texts, what stands around the first place where they part."""
    if isinstance(was, str) and isinstance(now, str):
        at = next((i for i, (a, b) in enumerate(zip(was, now, strict=False)) if a != b), min(len(was), len(now)))
        start = max(0, at - 80)
        return line_of(was[start : at + 200]), line_of(now[start : at + 200])
    return line_of(was), line_of(now)
