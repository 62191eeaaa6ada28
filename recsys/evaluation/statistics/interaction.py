"""Whether the effect of one experiment depends on the arm of another that ran at the same time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats

from recsys.arrays import FloatArray
from recsys.evaluation.statistics.effects import EffectConfig, difference
from recsys.evaluation.statistics.metric import Metric
from recsys.evaluation.statistics.moments import Moments


class InteractionEstimate(NamedTuple):
    """A difference of two effects; every field has the leading shape of the moments.

    Attributes:
        effect_beside_control: among units that are in the other experiment's control.
        effect_beside_arm: among units that are in its arm.
        difference: the second less the first.
        low: fixed-horizon interval of the difference.
        high: its upper limit.
        p_value: two-sided, of no difference.
    """

    effect_beside_control: FloatArray
    effect_beside_arm: FloatArray
    difference: FloatArray
    low: FloatArray
    high: FloatArray
    p_value: FloatArray


def interaction_of(
    beside_control: tuple[Moments, Moments], beside_arm: tuple[Moments, Moments], metric: Metric, alpha: float = 0.05
) -> InteractionEstimate:
    """Return the difference of an effect between the arms of another experiment.

    Formula: the two effects are of different units, so that their variances add up; degrees of freedom by Welch and
    Satterthwaite. A ratio's effects are by the delta method, with CUPED where the metric has pre-period values.

    Args:
        beside_control: control and arm among the units of the other experiment's control.
        beside_arm: control and arm among the units of its arm.
        metric: what is compared.
        alpha: two-sided error of the interval.
    """
    without, beside = (difference(*pair, metric, EffectConfig(alpha=alpha)) for pair in (beside_control, beside_arm))
    found = beside.effect - without.effect
    variances = without.se**2, beside.se**2
    se = np.sqrt(variances[0] + variances[1])
    bottom = variances[0] ** 2 / without.df + variances[1] ** 2 / beside.df
    df = np.divide(se**4, bottom, out=np.full_like(bottom, np.inf), where=bottom > 0)
    reach = stats.t.ppf(1 - alpha / 2, df) * se
    scaled = np.divide(np.abs(found), se, out=np.zeros_like(se), where=se > 0)
    return InteractionEstimate(
        without.effect, beside.effect, found, found - reach, found + reach, 2 * stats.t.sf(scaled, df)
    )
