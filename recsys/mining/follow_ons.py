"""What accounts buy next: A first, B for the first time within some days after it."""

from __future__ import annotations

import ibis
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field
from statsmodels.stats.proportion import proportion_confint

from recsys.contracts import columns as c
from recsys.contracts.config import Config
from recsys.data.history import SECONDS_A_DAY, History
from recsys.data.sources import connect
from recsys.errors import EmptyDataError

FOLLOW_ON_COLUMNS: tuple[str, ...] = (
    c.ANTECEDENT_ID,
    c.CONSEQUENT_ID,
    c.N_ANTECEDENT,
    c.N_BOTH,
    c.CONFIDENCE,
    c.CONFIDENCE_LOW,
    c.CONFIDENCE_HIGH,
    c.BASE_RATE,
    c.LIFT,
    c.HORIZON_DAYS,
)


class FollowOnConfig(Config):
    """What makes a follow-on.

    Attributes:
        within_days: the window after the first purchase of A in which B must follow, days; 60 spans two or three
            orders of a typical wholesale account.
        min_accounts: accounts that must have made the step; 5 is the fewest a reason may rest on.
        confidence_level: of the Wilson interval of the confidence.
    """

    within_days: int = Field(60, ge=1)
    min_accounts: int = Field(5, ge=1)
    confidence_level: float = Field(0.95, gt=0, lt=1)


def follow_ons(history: History, config: FollowOnConfig) -> pd.DataFrame:
    """Return the pairs A, later B over accounts, `FOLLOW_ON_COLUMNS`, sorted as rules are.

    With the window the `within_days` days after a moment, and only windows that end by the last line of the history::

        n_antecedent  accounts that bought A and had not bought B by their first purchase of A
        n_both        those of them that first bought B in the window after it
        confidence    n_both / n_antecedent
        base_rate     the same share over the first purchases of any product: how often B follows whatever was new
        lift          confidence / base_rate

    What stands in one order is no follow-on. Lines without an account do not count.

    Raises:
        EmptyDataError: no line has an account.
    """
    first = history.first_purchases()
    if len(first) == 0:
        raise EmptyDataError("history == 0 lines with an account, at least one is needed; follow-ons are of accounts")
    window = config.within_days * SECONDS_A_DAY
    observed = first.seconds + window <= int(history.seconds.max())
    steps = _count_steps(first, observed, window, config.min_accounts)
    n_bought = np.bincount(first.product[observed], minlength=history.n_products)
    n_at_risk = n_bought[steps["a"]] - steps["had"].to_numpy()
    base = _base_rates(first, observed, window)[steps["b"]]
    return _to_frame(history, config, steps, n_at_risk, base)


def _count_steps(first: History, observed: NDArray[np.bool_], window: int, min_accounts: int) -> pd.DataFrame:
    """Return `a b n had`: accounts that made the step a, b, and those that had b by their first a."""
    bought = ibis.memtable(
        pd.DataFrame({"account": first.account, "product": first.product, "at": first.seconds, "observed": observed})
    )
    start = bought.filter(bought["observed"]).select("account", a="product", a_at="at")
    then = bought.select("account", b="product", b_at="at")
    after = start.join(
        then,
        [start["account"] == then["account"], then["b_at"] > start["a_at"], then["b_at"] <= start["a_at"] + window],
    )
    made = after.group_by(["a", "b"]).agg(n=after.count())
    connection = connect()
    made = ibis.memtable(connection.to_pyarrow(made.filter(made["n"] >= min_accounts)))
    # Only for the steps made: the pairs of all first purchases are many times as many.
    earlier = start.join(then, [start["account"] == then["account"], then["b_at"] <= start["a_at"]])
    earlier = earlier.join(made.select("a", "b"), ["a", "b"])
    had = earlier.group_by(["a", "b"]).agg(had=earlier.count())
    counted = made.left_join(had, ["a", "b"]).select("a", "b", "n", had=had["had"].fill_null(0))
    found = connection.to_pyarrow(counted)
    return pd.DataFrame({name: found[name].to_numpy() for name in found.column_names})


def _base_rates(first: History, observed: NDArray[np.bool_], window: int) -> NDArray[np.float64]:
    """Return, for each product, the share of observed first purchases of others after which it was new in the window.

    For each first purchase of B, the observed first purchases of its account divide by their time: those in the
    window before it are hits, those at or after it are not at risk.
    """
    # One number line for all accounts: each has its own stretch, longer than the history and the window.
    stretch = int(np.ptp(first.seconds)) + window + 2
    place = first.account.astype(np.int64) * stretch + (first.seconds - first.seconds.min()) + window
    anchors = np.sort(place[observed])
    account_end = (first.account.astype(np.int64) + 1) * stretch + window
    before = np.searchsorted(anchors, place, side="left")
    hits = before - np.searchsorted(anchors, place - window, side="left")
    owning = np.searchsorted(anchors, account_end - 1, side="left") - before
    n_hits = np.bincount(first.product, weights=hits, minlength=first.n_products)
    n_at_risk = len(anchors) - np.bincount(first.product, weights=owning, minlength=first.n_products)
    return np.divide(n_hits, n_at_risk, out=np.zeros(first.n_products), where=n_at_risk > 0)


def _to_frame(
    history: History,
    config: FollowOnConfig,
    steps: pd.DataFrame,
    n_at_risk: NDArray[np.int64],
    base_rate: NDArray[np.float64],
) -> pd.DataFrame:
    n_both = steps["n"].to_numpy()
    low, high = proportion_confint(n_both, n_at_risk, alpha=1 - config.confidence_level, method="wilson")
    columns = {
        c.ANTECEDENT_ID: history.product_ids[steps["a"]],
        c.CONSEQUENT_ID: history.product_ids[steps["b"]],
        c.N_ANTECEDENT: n_at_risk,
        c.N_BOTH: n_both,
        c.CONFIDENCE: n_both / n_at_risk,
        c.CONFIDENCE_LOW: low,
        c.CONFIDENCE_HIGH: high,
        c.BASE_RATE: base_rate,
        c.LIFT: n_both / n_at_risk / base_rate,
        c.HORIZON_DAYS: np.full(len(steps), config.within_days, dtype=np.int64),
    }
    frame = pd.DataFrame(columns)[list(FOLLOW_ON_COLUMNS)].astype({c.ANTECEDENT_ID: "str", c.CONSEQUENT_ID: "str"})
    by = [c.ANTECEDENT_ID, c.CONFIDENCE, c.N_BOTH, c.CONSEQUENT_ID]
    return frame.sort_values(by, ascending=[True, False, False, True], ignore_index=True)
