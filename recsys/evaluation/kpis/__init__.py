"""KPIs: the registry of definitions, and their figures from tables."""

from recsys.evaluation.kpis.config import KpiConfig
from recsys.evaluation.kpis.definition import KpiDefinition
from recsys.evaluation.kpis.registry import REGISTRY, find_kpi
from recsys.evaluation.kpis.report import kpis_from_tables
from recsys.evaluation.kpis.results import Change, Figure, KpiReport, KpiValue, Missing
from recsys.evaluation.kpis.tables import EventTables, read_events

__all__ = [
    "REGISTRY",
    "Change",
    "EventTables",
    "Figure",
    "KpiConfig",
    "KpiDefinition",
    "KpiReport",
    "KpiValue",
    "Missing",
    "find_kpi",
    "kpis_from_tables",
    "read_events",
]
