"""What an event store knows of its own rows and no treatment moves: where the arms differ in it, rows were lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import numpy as np
import pandas as pd

from recsys.arrays import FloatArray
from recsys.contracts import columns as c
from recsys.evaluation.readout.faults.lost_outcomes import equal_arms_p_value
from recsys.evaluation.readout.health import HealthCheck
from recsys.evaluation.readout.purchases import DAY, PRESENTED_AT, UNIT_ID, by_unit
from recsys.evaluation.readout.units import UnitTable
from recsys.evaluation.statistics.effects import ratio_and_gradient
from recsys.evaluation.statistics.metric import Ratio
from recsys.evaluation.statistics.significance_tests import MIN_EXPECTED

ORDER_LINES: Final = "order_lines"
PRICED_LINES: Final = "order_lines_with_amount"
LATE_LINES: Final = "late_order_lines"
ANSWERS: Final = "answers_with_offers"
PRESENTED_ANSWERS: Final = "answers_presented"
ACCEPTANCES: Final = "acceptances"
ORDERED_ACCEPTANCES: Final = "acceptances_ordered"

QUALITY: Final[Mapping[str, Ratio]] = {
    "order lines with an amount in the currency": Ratio(PRICED_LINES, ORDER_LINES),
    "order lines recorded more than a day late": Ratio(LATE_LINES, ORDER_LINES),
    "answers with offers that were presented": Ratio(PRESENTED_ANSWERS, ANSWERS),
}
"""Shares that the rows of each arm have in common where all of them arrive. Orders and requests themselves are none:
the treatment moves them."""


class LoggedQuality(NamedTuple):
    """What can be compared between the arms.

    Attributes:
        columns: by unit, each of shape `(n_units,)`.
        ratios: of `QUALITY`, those that the log can answer.
    """

    columns: dict[str, FloatArray]
    ratios: dict[str, Ratio]


def logged_quality(
    lines: pd.DataFrame, offers: pd.DataFrame, units: pd.DataFrame, *, has_holdout: bool
) -> LoggedQuality:
    """Return how complete the rows of each unit are.

    Args:
        lines: `account_id ordered_at has_amount is_late`, one row an order line; those since the assignment count.
        offers: `decision_id unit_id presented_at` (null while it was only returned).
        units: `unit_id arm assigned_at`.
        has_holdout: an arm presents nothing, so that presenting is part of the treatment.
    """
    first = units.groupby(UNIT_ID)["assigned_at"].min()
    since = lines[lines[c.ORDERED_AT] >= lines[c.ACCOUNT_ID].map(first)]
    by_line = since.groupby(c.ACCOUNT_ID)
    answers = offers.groupby([UNIT_ID, c.DECISION_ID])[PRESENTED_AT].count().gt(0).groupby(UNIT_ID)
    found = {
        ORDER_LINES: by_line.size(),
        PRICED_LINES: by_line["has_amount"].sum(),
        LATE_LINES: by_line["is_late"].sum(),
    }
    if not has_holdout and offers[PRESENTED_AT].notna().any():
        found |= {ANSWERS: answers.size(), PRESENTED_ANSWERS: answers.sum()}
    columns = {name: by_unit(values, units[UNIT_ID]) for name, values in found.items()}
    arms = units["arm"].to_numpy(dtype=object)
    ratios = {
        name: ratio
        for name, ratio in QUALITY.items()
        if ratio.numerator in columns and _is_testable(columns[ratio.numerator], columns[str(ratio.denominator)], arms)
    }
    return LoggedQuality(columns, ratios)


def _is_testable(part: FloatArray, whole: FloatArray, arms: np.ndarray) -> bool:
    """Every arm has rows; those of the rarer kind are none, or enough for a test of their share."""
    shares = [float((arms == arm).mean()) for arm in set(arms)]
    if not all(whole[arms == arm].any() for arm in set(arms)):
        return False
    rarer = min(int((part > 0).sum()), int((whole > part).sum()))
    return rarer == 0 or rarer * min(shares) >= MIN_EXPECTED


def acceptance_columns(
    accepted: pd.DataFrame, lines: pd.DataFrame, units: pd.Series, days: int
) -> dict[str, FloatArray]:
    """Return the accepted offers of each unit, and those that an order of the product followed within `days`.

    Args:
        accepted: `unit_id product_id occurred_at`.
        lines: `account_id product_id ordered_at`.
        units: ids.
        days: the attribution window.
    """
    left = accepted.rename(columns={UNIT_ID: c.ACCOUNT_ID}).sort_values("occurred_at", kind="stable")
    right = lines[[c.ACCOUNT_ID, c.PRODUCT_ID, c.ORDERED_AT]].dropna().sort_values(c.ORDERED_AT, kind="stable")
    joined = pd.merge_asof(
        left,
        right,
        left_on="occurred_at",
        right_on=c.ORDERED_AT,
        by=[c.ACCOUNT_ID, c.PRODUCT_ID],
        direction="forward",
        tolerance=pd.Timedelta(seconds=days * DAY),
    )
    followed = joined.groupby(c.ACCOUNT_ID)[c.ORDERED_AT]
    return {ACCEPTANCES: by_unit(followed.size(), units), ORDERED_ACCEPTANCES: by_unit(followed.count(), units)}


def acceptance_checks(units: UnitTable, alpha: float) -> Iterator[HealthCheck]:
    """Yield whether orders follow acceptances alike in all arms; nothing where the log has too few of both.

    A treatment may move that share, so that a difference is a warning: orders of one arm are lost, or its offers are
    accepted in another way. Nothing else in a log tells orders that never arrived from orders that were never placed.
    """
    ratio = Ratio(ORDERED_ACCEPTANCES, ACCEPTANCES)
    if not set(ratio.columns) <= set(units.values):
        return
    moments = units.moments(ratio.columns)
    if (moments.mean[:, moments.at(ACCEPTANCES)] == 0).any():
        return
    p_value = equal_arms_p_value(moments, ratio)
    shares = ratio_and_gradient(moments, ratio)[0]
    shown = ", ".join(f"{arm} {share:.1%}" for arm, share in zip(units.arms, shares, strict=True))
    told = f"accepted offers whose product was ordered: {shown}; p = {p_value:.2g}"
    if p_value < alpha:
        why = (
            "orders of one arm are lost, or its offers are accepted in another way; compare with the shop's own orders"
        )
        yield HealthCheck("orders_after_acceptance", "warning", f"{told}: {why}", p_value)
    else:
        yield HealthCheck("orders_after_acceptance", "passed", told, p_value)
