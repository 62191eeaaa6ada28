"""The arms that units had in other experiments and versions of an event store, before this one or beside it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import numpy as np
import pandas as pd

from recsys.contracts.events import EventQuery
from recsys.events.store import EventStore

OTHER: Final = "other"
_COLUMNS: Final = ("unit_id", "arm")


def other_arms(store: EventStore, record: Mapping[str, Any], until: datetime) -> pd.DataFrame:
    """Return `other unit_id arm` of the other experiments and versions that assigned units before `until`, UTC."""
    known: pd.DataFrame = store.read(EventQuery("assignments", until=until)).to_pandas()
    is_own = (known["experiment_id"] == record["experiment_id"]) & (known["version"] == record["version"])
    others = known[~is_own]
    named = others.assign(**{OTHER: others["experiment_id"] + " version " + others["version"].astype(str)})
    found: pd.DataFrame = named[[OTHER, *_COLUMNS]].reset_index(drop=True)
    return found


def arms_by_other_arms(others: pd.DataFrame, assignments: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return units by their arm in another experiment and their arm in this one, by the other's name."""
    joined = others.merge(assignments[list(_COLUMNS)], on="unit_id", suffixes=("_there", ""))
    return {
        str(name): pd.crosstab(found["arm_there"], found["arm"]).to_numpy()
        for name, found in joined.groupby(OTHER, sort=True)
    }
