"""The registry of every KPI, in the order of reports: of orders and money, of offers in the log, of customers."""

from __future__ import annotations

from typing import Final

from recsys.evaluation.kpis.definition import KpiDefinition
from recsys.evaluation.kpis.definitions.customer_kpis import CUSTOMER_KPIS
from recsys.evaluation.kpis.definitions.customer_value_kpis import CUSTOMER_VALUE_KPIS
from recsys.evaluation.kpis.definitions.offer_kpis import OFFER_KPIS
from recsys.evaluation.kpis.definitions.order_kpis import ORDER_KPIS

REGISTRY: Final[dict[str, KpiDefinition]] = {
    item.name: item for item in (*ORDER_KPIS, *OFFER_KPIS, *CUSTOMER_KPIS, *CUSTOMER_VALUE_KPIS)
}
