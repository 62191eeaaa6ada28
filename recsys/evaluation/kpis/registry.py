"""The registry: every KPI of the project, in the order in which reports show them."""

from __future__ import annotations

import difflib
from typing import Final

from recsys.errors import ConfigError
from recsys.evaluation.kpis.customer_kpis import CUSTOMER_KPIS
from recsys.evaluation.kpis.definition import KpiDefinition
from recsys.evaluation.kpis.offer_kpis import OFFER_KPIS
from recsys.evaluation.kpis.order_kpis import ORDER_KPIS

REGISTRY: Final[dict[str, KpiDefinition]] = {item.name: item for item in (*ORDER_KPIS, *OFFER_KPIS, *CUSTOMER_KPIS)}


def find_kpi(name: str) -> KpiDefinition:
    """Return the definition of a KPI.

    Raises:
        ConfigError: there is none of that name.

    Example:
        >>> find_kpi("attrition").direction
        'lower'
    """
    if name in REGISTRY:
        return REGISTRY[name]
    near = difflib.get_close_matches(name, REGISTRY, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ConfigError(f"KPI {name!r} is not known; {hint}the names are {', '.join(REGISTRY)}")
