"""The readout of an experiment: health, effects, verdict."""

from recsys.evaluation.readout.design import Design, ReadoutConfig, Stage
from recsys.evaluation.readout.from_event_store import readout_from_log, readout_from_store
from recsys.evaluation.readout.from_orders import OrderForm, readout_from_orders
from recsys.evaluation.readout.from_table import TableForm, readout_from_table, with_plan
from recsys.evaluation.readout.pipeline import read_out
from recsys.evaluation.readout.results import Effect, HealthCheck, Override, Readout, Verdict
from recsys.evaluation.statistics.metric import Margin, Metric, Ratio

__all__ = [
    "Design",
    "Effect",
    "HealthCheck",
    "Margin",
    "Metric",
    "OrderForm",
    "Override",
    "Ratio",
    "Readout",
    "ReadoutConfig",
    "Stage",
    "TableForm",
    "Verdict",
    "read_out",
    "readout_from_log",
    "readout_from_orders",
    "readout_from_store",
    "readout_from_table",
    "with_plan",
]
