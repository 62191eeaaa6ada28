"""Columns and shares that can't be meant as they were given: each is refused with what was found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import ibis

from recsys.errors import ReadoutError
from recsys.evaluation.statistics.metric import Margin, Metric
from recsys.experiments.plan import ExperimentPlan

MAX_NAMED: Final = 10
"""Arms that an error names; more of them are another column."""
_SHARES_ROUNDED_BY: Final = 0.0101
"""Three arms of .33 each are meant to add up to 1."""
_MOST_ABOVE: Final = 0.05
"""Share of the units with attributed revenue that may have less revenue in all: what they sent back counts there."""


def as_value(column: ibis.Value) -> ibis.Value:
    """Return a column as doubles, true and false as 1 and 0; what is no number is null."""
    if column.type().is_string():
        lowered = column.strip().lower()
        return lowered.cases(("true", 1.0), ("false", 0.0), else_=lowered.try_cast("float64"))
    return column.cast("float64")


def refuse_unread(source: ibis.Table, past: Sequence[str]) -> None:
    """Check that what is written in columns from before the start are numbers; blanks are filled later.

    Raises:
        ReadoutError: a text is no number.
    """
    for name in (name for name in past if source[name].type().is_string()):
        text = source[name].strip()
        unread = source.filter((text != "") & as_value(source[name]).isnull())
        n_unread = int(unread.count().to_pyarrow().as_py())
        if n_unread:
            example = unread.select(text=text).limit(1).to_pyarrow().to_pylist()[0]["text"]
            raise ReadoutError(
                f"{n_unread:,} rows have no number in {name!r}, as {example!r}, all must have one or be blank"
            )


def refuse_no_yes_or_no(source: ibis.Table, exposed: str) -> None:
    """Check that every row says whether its unit met the treatment.

    Raises:
        ReadoutError: a value is another than 0 and 1, as a count or a blank.
    """
    value = as_value(source[exposed])
    other = source.filter(value.isnull() | ~value.isin([0.0, 1.0]))
    n_other = int(other.count().to_pyarrow().as_py())
    if n_other:
        example = other.select(value=other[exposed].cast("string")).limit(1).to_pyarrow().to_pylist()[0]["value"]
        shown = "a blank" if example is None or not example.strip() else repr(example)
        raise ReadoutError(
            f"{n_other:,} rows of the exposed column {exposed!r} have another value, as {shown}, all must have 0 or 1: "
            "whether the unit met the treatment, or would have; of a count make 1 where it is above 0"
        )


def refuse_partial_shares(shares: Mapping[str, float], arms: Sequence[str]) -> None:
    """Check that planned shares, where any are given, name every arm of the data and add up to 1.

    Raises:
        ReadoutError: they do not.
    """
    if not shares:
        return
    shown = ", ".join(f"{arm} {share:g}" for arm, share in shares.items())
    if missing := [arm for arm in arms if arm not in shares]:
        named = ", ".join(missing[:MAX_NAMED])
        raise ReadoutError(f"shares {shown}, must name every arm of the data; {named} has none")
    total = math.fsum(shares.values())
    if abs(total - 1) > _SHARES_ROUNDED_BY:
        raise ReadoutError(f"shares {shown} add up to {total:.4g}, must add up to 1")


def refuse_no_part(units: ibis.Table, attributed: str | None, metrics: Sequence[Metric]) -> None:
    """Check that attributed revenue, where it is given, is a part of the primary's revenue.

    Raises:
        ReadoutError: it is below zero, there is no mean per unit to be a part of, or more than one in twenty units with
            some have less revenue in all: it is a count, or revenue of another kind.
    """
    if attributed is None:
        return
    primary = next((metric for metric in metrics if metric.role == "primary"), None)
    if primary is None or not primary.value.is_mean:
        raise ReadoutError(f"attributed {attributed!r} without a primary that is a mean, must be a part of its revenue")
    whole = primary.value.numerator
    some = units.filter(units[attributed] != 0)
    above = some.filter((some[attributed] < 0) | (some[attributed] > some[whole] + 1e-9 * some[whole].abs()))
    n_some, n_above = (int(table.count().to_pyarrow().as_py()) for table in (some, above))
    if n_above > _MOST_ABOVE * n_some:
        row = above.select(part=above[attributed], whole=above[whole]).order_by("part", "whole").limit(1)
        example = row.to_pyarrow().to_pylist()[0]
        raise ReadoutError(
            f"attributed {attributed!r} is no part of {whole!r} in {n_above:,} of {n_some:,} units, as "
            f"{example['part']:g} of {example['whole']:g}, must be revenue that was credited to offers; is it a count?"
        )


def refuse_replaced(primary: str | None, guardrails: Mapping[str, Margin], plan: ExperimentPlan) -> None:
    """Check that nobody replaces what a locked plan has decided; further guardrails may be looked at.

    Raises:
        ReadoutError: the primary, or the margin of a guardrail, is another than the plan's.
    """
    if primary not in {None, plan.primary}:
        raise ReadoutError(f"primary {primary!r}, must be {plan.primary!r}, as the plan has decided; leave it out")
    if both := [one.metric for one in plan.guardrails if one.metric in guardrails]:
        raise ReadoutError(f"guardrail {both[0]!r}, must have the margin that the plan has decided; leave it out")
