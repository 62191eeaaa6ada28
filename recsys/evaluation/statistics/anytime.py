"""Intervals that survive looking: the asymptotic confidence sequence."""

from __future__ import annotations

import numpy as np
from scipy.special import lambertw

from recsys.arrays import FloatArray


def tuned_rho_squared(tuned_at: float, alpha: float) -> float:
    """Return the mixture variance whose interval is tightest once `tuned_at` units were seen.

    Formula: `rho^2 = (-W_{-1}(-alpha^2 / e) - 1) / t`, W the Lambert function. Source: Waudby-Smith et al.
    (arXiv 2103.06476), appendix B.2, after Howard et al. (2021). It must not depend on the data.

    Example:
        >>> round(tuned_rho_squared(1_000, 0.05), 5)
        0.00821
    """
    return float((-lambertw(-(alpha**2) / np.e, k=-1).real - 1) / tuned_at)


def anytime_multiplier(n: FloatArray | float, tuned_at: float, alpha: float) -> FloatArray:
    """Return how many standard errors the anytime-valid interval reaches to each side.

    Formula: `sqrt(2 (n rho^2 + 1) / (n rho^2) log(sqrt(n rho^2 + 1) / alpha))`: the boundary of Robbins' normal
    mixture, theorem 2.2 of Waudby-Smith et al. (arXiv 2103.06476), divided by the standard error of the mean.

    Args:
        n: units seen so far, both arms together.
        tuned_at: where the interval shall be tightest: the planned number of units.
        alpha: the chance that any of all looks errs.

    Example:
        >>> round(float(anytime_multiplier(10_000.0, 10_000, 0.05)), 2)
        3.04
    """
    spread = np.asarray(n, dtype=np.float64) * tuned_rho_squared(tuned_at, alpha)
    result: FloatArray = np.sqrt(2 * (spread + 1) / spread * np.log(np.sqrt(spread + 1) / alpha))
    return result
