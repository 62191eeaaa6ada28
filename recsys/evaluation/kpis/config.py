"""How the KPIs are computed."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final, Literal

from pydantic import Field, field_validator

from recsys.contracts.config import Config
from recsys.evaluation.kpis.definition import Dimension
from recsys.evaluation.kpis.periods import Period
from recsys.evaluation.kpis.registry import REGISTRY

_RULE: Final = re.compile(r"top:(\d+(?:\.\d+)?)%")


class KpiConfig(Config):
    """Periods, segments, attribution and rules of the figures."""

    period: Period = "month"
    """Length of a period; months, because most accounts of a wholesaler order about once a month."""
    by: tuple[Dimension, ...] = ()
    """Segments that every KPI is computed by besides overall."""
    since: datetime | None = None
    """Figures start here (UTC); earlier orders still tell what an account had. Default: the first order."""
    window_days: int = Field(default=30, ge=1, le=3_650)
    """Days after its presentation within which a purchase counts for an offer; the models' own default horizon."""
    families_by: Literal["family", "category"] = "family"
    """The product column whose values are the families of organic cross-sell."""
    key_accounts: str = "top:5%"
    """Rule for key accounts where the accounts don't say: the accounts with the highest revenue before the quarter."""
    max_periods: int = Field(default=4_000, ge=1)
    """Most periods of a report; ten years of days fit. One order with a wrong year would make many thousands."""
    max_groups: int = Field(default=50, ge=1)
    """Most groups of a segment that are reported, the highest revenue first: a page of 20,000 products helps nobody."""
    moved: float = Field(default=0.05, gt=0)
    """A KPI moved if it changed by this share of its last value; 5 %, about what a busy month varies by."""
    targets: dict[str, float] = Field(default_factory=dict)
    """Target of a KPI by its name."""

    @field_validator("key_accounts")
    @classmethod
    def _known_rule(cls, rule: str) -> str:
        found = _RULE.fullmatch(rule)
        if found is None or not 0 < float(found[1]) <= 100:
            raise ValueError("must be a share of the accounts by prior revenue, as top:5%")
        return rule

    @field_validator("targets")
    @classmethod
    def _known_targets(cls, targets: dict[str, float]) -> dict[str, float]:
        strangers = [name for name in targets if name not in REGISTRY]
        if strangers:
            raise ValueError(f"no KPI is called {strangers[0]!r}; the names are {', '.join(REGISTRY)}")
        return targets

    @property
    def key_share(self) -> float:
        """The share of the accounts that the rule for key accounts names, in (0, 1]."""
        found = _RULE.fullmatch(self.key_accounts)
        assert found is not None
        return float(found[1]) / 100
