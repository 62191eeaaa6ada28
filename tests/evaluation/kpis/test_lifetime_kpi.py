"""Customer lifetime value among the KPIs: by hand from a table, and from a bundle by the command and the library."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recsys.bundle.arrow import lifetime_value_table
from recsys.bundle.save import save_bundle
from recsys.cli.main import main
from recsys.errors import BundleVersionError, MissingColumnError
from recsys.evaluation.kpis.config import KpiConfig
from recsys.evaluation.kpis.report import kpis_from_tables
from recsys.evaluation.kpis.results import KpiReport
from recsys.offer_model.facts import LifetimeValueFacts
from recsys.offer_model.tables import OfferModel
from recsys.reporting.kpi_page import report_page
from tests.support.synthetic_model import SyntheticModelConfig, synthetic_model

KNOWN = {"kpis": EntryPoint("kpis", "recsys.cli.kpis:kpis_command", "offer_engine.commands")}
KPI = "customer_lifetime_value"
AS_OF = datetime(2026, 1, 1, tzinfo=UTC)
ORDERS = pd.DataFrame(
    {
        "order_id": ["1", "2", "3", "4", "5"],
        "account_id": ["A0000000", "A0000001", "A0000002", "STRANGER", None],
        "product_id": "P",
        "ordered_at": pd.Timestamp("2025-11-03", tz="UTC"),
        "quantity": 1.0,
        "unit_price": 10.0,
    }
)
ACCOUNTS = pd.DataFrame({"account_id": ["A0000000", "A0000001", "A0000002"], "segment": ["hotel", "cafe", None]})
VALUES = pd.DataFrame(
    {"account_id": ["A0000000", "A0000001", "A0000002", "NEVER-ORDERED"], "lifetime_value": [900.0, 300.0, np.nan, 5.0]}
)


def report(values: pd.DataFrame | None) -> KpiReport:
    return kpis_from_tables(
        ORDERS, as_of=AS_OF, accounts=ACCOUNTS, config=KpiConfig(by=("segment", "channel")), lifetime_values=values
    )


def test_it_is_the_mean_over_customers_whose_value_is_known() -> None:
    found = report(VALUES)
    overall = found.get(KPI, "forecast")
    assert (overall.figure.numerator, overall.figure.denominator, overall.value) == (1200.0, 2.0, 600.0)
    by_segment = {item.group: item.value for item in found.groups(KPI, "forecast", "segment")}
    assert by_segment == {"hotel": 900.0, "cafe": 300.0}
    assert not found.groups(KPI, "forecast", "channel"), "an account orders through several channels"
    assert found.change(KPI, "forecast") is None, "a forecast has no periods"
    assert "Customer lifetime value" in report_page(found)


def test_without_a_model_it_says_what_to_give() -> None:
    found = report(None)
    (missing,) = [item for item in found.missing if item.kpi == KPI]
    assert "--model" in missing.why
    with pytest.raises(KeyError):
        found.get(KPI, "forecast")


def test_a_table_without_the_column_is_refused_by_its_name() -> None:
    with pytest.raises(MissingColumnError, match="lifetime_values: no column lifetime_value; found account_id"):
        report(VALUES[["account_id"]])


@pytest.fixture
def model() -> OfferModel:
    made = synthetic_model(SyntheticModelConfig(n_accounts=20, n_products=60), np.random.default_rng(5))
    total = LifetimeValueFacts(expected=2_000.0, low=1_500.0, high=2_500.0, coverage=0.8)
    return replace(made, facts=made.facts.model_copy(update={"lifetime_value": total}))


def test_the_command_reads_a_bundle(model: OfferModel, tmp_path: Path) -> None:
    save_bundle(tmp_path / "bundle", model)
    ORDERS.to_csv(tmp_path / "orders.csv", index=False)
    out = tmp_path / "kpis.json"
    arguments = [
        f"--orders={tmp_path / 'orders.csv'}",
        f"--model={tmp_path / 'bundle'}",
        "--format=json",
        f"--out={out}",
    ]
    with pytest.raises(SystemExit) as end:
        main(["kpis", *arguments], KNOWN)
    assert not end.value.code
    (value,) = [item for item in json.loads(out.read_text("utf-8"))["values"] if item["kpi"] == KPI]
    assert (value["basis"], value["numerator"], value["denominator"], value["value"]) == ("forecast", 300.0, 3, 100.0)


def test_an_earlier_model_asks_for_a_new_training(model: OfferModel) -> None:
    before = replace(model, facts=model.facts.model_copy(update={"lifetime_value": None}))
    with pytest.raises(BundleVersionError, match="train again"):
        lifetime_value_table(before)
