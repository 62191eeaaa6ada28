"""The decisions of the event log whose last slot was drawn, as logged actions; and such actions from a table."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import pandas as pd

from recsys.contracts.events import EventQuery
from recsys.data.sources import connect, open_source
from recsys.errors import DataError, EmptyDataError
from recsys.evaluation.offline.off_policy import LoggedActions
from recsys.events.reading import read_frame
from recsys.events.store import EventStore

SlotPolicy = Literal["first", "drawn"]
SLOT_POLICIES: tuple[SlotPolicy, ...] = get_args(SlotPolicy)

_OFFERS = ("decision_id", "account_id", "visitor_id", "shown", "product_id", "propensity", "presented_at")


def drawn_slots(store: EventStore, policy: SlotPolicy) -> LoggedActions:
    """Return the presented last slots that exploration might have filled otherwise; the reward is 1 if accepted.

    The logging policy put the offer of rank k into its last slot with probability `1 - share`, else one of those below
    it, evenly. The target policy `first` never draws; `drawn` always does. Exploration is at most a half, so that a
    propensity of a half or more is the offer of rank k. The share is read off those.

    Raises:
        EmptyDataError: nothing was drawn; exploration is off.
    """
    offers = read_frame(store, EventQuery("decision_offers"))[list(_OFFERS)]
    slots = offers[(offers["propensity"] < 1) & offers["shown"] & offers["presented_at"].notna()]
    if slots.empty:
        raise EmptyDataError("0 presented offers with a propensity below 1; serve with `exploration` above 0 first")
    propensity = slots["propensity"].to_numpy(dtype=np.float64)
    first = propensity >= 0.5
    if not first.any():
        raise EmptyDataError("0 presented last slots with the offer of rank k itself; wait for more decisions")
    share = 1.0 - propensity[first].max()
    target = first.astype(np.float64) if policy == "first" else np.where(first, 0.0, propensity / share)
    return LoggedActions(
        reward=_accepted(store, slots).astype(np.float64),
        propensity=propensity,
        target=np.minimum(target, 1.0),
        unit=slots["account_id"].fillna(slots["visitor_id"]).fillna(slots["decision_id"]).to_numpy(dtype=object),
    )


def actions_of(location: str, columns: dict[str, str]) -> LoggedActions:
    """Return the logged actions of a table, one row a decision.

    Args:
        location: a file, a folder of files, or a database table `URL#table`.
        columns: which column of the table holds which field of `LoggedActions`; `reward`, `propensity` and `target`
            must be there.

    Raises:
        DataError: a column is missing or holds no numbers.
    """
    table = open_source(connect(), location, name="decisions").table.to_pandas()
    missing = [column for column in columns.values() if column not in table]
    if missing:
        raise DataError(f"{location}: no column {', '.join(missing)}; it has {', '.join(map(str, table.columns))}")
    found = {field: _numbers(table[column], column) for field, column in columns.items() if field != "unit"}
    unit = table[columns["unit"]].to_numpy(dtype=object) if "unit" in columns else None
    return LoggedActions(**found, unit=unit)


def _accepted(store: EventStore, slots: pd.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    outcomes = read_frame(store, EventQuery("outcomes"))
    said_yes = outcomes.loc[outcomes["kind"] == "accepted", ["decision_id", "product_id"]]
    keys = pd.MultiIndex.from_frame(slots[["decision_id", "product_id"]])
    of_offer = keys.isin(pd.MultiIndex.from_frame(said_yes))
    of_all = slots["decision_id"].isin(said_yes.loc[said_yes["product_id"].isna(), "decision_id"]).to_numpy()
    return np.asarray(of_offer | of_all, dtype=np.bool_)


def _numbers(column: pd.Series, name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    numbers = pd.to_numeric(column, errors="coerce")
    wrong = column[numbers.isna() & column.notna()]
    if len(wrong):
        raise DataError(f"{name} == {wrong.iloc[0]!r}, must be a number; {len(wrong)} rows hold something else")
    return np.asarray(numbers, dtype=np.float64)
