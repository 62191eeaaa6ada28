"""`offers experiment power` and `placebo` at the command line: accounts, event store, plan, groups."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from recsys.cli import main as door
from recsys.contracts.offers import OfferRequest
from recsys.evaluation.planning.history import served_visits
from recsys.events.store import open_store
from tests.support.stored_events import decision

END = datetime(2026, 6, 1, tzinfo=UTC)
N_ACCOUNTS = 600
PLAN = """
id = "tried"
planned_start = 2026-07-01
planned_end = 2026-07-29
planned_size = 500
arms = [{ name = "control", weight = 1, is_control = true }, { name = "engine", weight = 3 }]
guardrails = [{ metric = "buyer_rate", margin = 0.05 }]
"""


def _run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        door(["experiment", *arguments])
    out, err = capsys.readouterr()
    return int(stop.value.code or 0), out, err


@pytest.fixture
def past(tmp_path: Path) -> Path:
    """One account in three buys, what its company buys; every company has ten accounts."""
    rng = np.random.default_rng(1)
    accounts = np.array([f"a{i:04}" for i in range(N_ACCOUNTS)])
    company = np.arange(N_ACCOUNTS) // 10
    spends = rng.gamma(2.0, 30.0, company.max() + 1)[company]
    bought = np.flatnonzero(rng.random(4 * N_ACCOUNTS) < 1 / 3)
    lines = {
        "order_id": [f"o{i}" for i in bought],
        "account_id": accounts[bought % N_ACCOUNTS],
        "product_id": "P1",
        "ordered_at": [END - timedelta(days=float(day)) for day in rng.uniform(1, 90, len(bought))],
        "quantity": 1,
        "unit_price": (spends[bought % N_ACCOUNTS] + rng.gamma(2.0, 5.0, len(bought))).round(2),
    }
    pd.DataFrame(lines).to_parquet(tmp_path / "orders.parquet")
    frame = pd.DataFrame({"account_id": accounts, "company_id": company})
    frame.to_parquet(tmp_path / "accounts.parquet")
    (tmp_path / "plan.toml").write_text(PLAN, encoding="utf-8")
    return tmp_path


def _named(past: Path, *more: str) -> list[str]:
    return ["--orders", str(past / "orders.parquet"), "--accounts", str(past / "accounts.parquet"), *more]


def test_power_of_a_plan_on_all_accounts(past: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = _run(["power", *_named(past), "--plan", str(past / "plan.toml"), "--effect", "0.2"], capsys)
    assert (code, err) == (0, "")
    assert "600 accounts measured, all that are listed, " in out
    assert "80% power, alpha 0.05, two arms with 25 / 75 % of the units, control first." in out
    assert "margin 0.05" in out
    assert "The plan's planned_size is 500 in the smallest arm: TOO FEW for " in out
    code, out, _ = _run(["power", *_named(past), "--plan", str(past / "plan.toml"), "--format", "json"], capsys)
    assert {size["is_planned"] for size in json.loads(out) if size["n_per_arm"] <= 500} <= {True}
    assert {size["is_planned"] for size in json.loads(out) if size["n_per_arm"] > 500} == {False}


def test_power_on_accounts_that_servers_answered(past: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{past / 'offers.db'}"
    store = open_store(url)
    days: Any = np.linspace(1, 50, 300)
    store.append([_decided(f"d{i:04}", f"a{i:04}", END - timedelta(days=float(day))) for i, day in enumerate(days)])
    store.close()
    orders = ["--orders", str(past / "orders.parquet"), "--events", url, "--as-of", "2026-06-01"]
    code, out, err = _run(["power", *orders, "--window-days", "14"], capsys)
    assert (code, err) == (0, "")
    assert ", those that were served, " in out
    assert "6 enter a day" in out
    with_none = open_store(f"sqlite:///{past / 'empty.db'}")
    with pytest.raises(Exception, match="0 decisions of the event store name an account"):
        served_visits(with_none)
    with_none.close()


def _decided(name: str, account: str, moment: datetime) -> Any:
    made = decision(name, decided_at=moment)
    return made._replace(request=OfferRequest(account_id=account, limit=2))


def test_a_placebo_of_accounts_errs_as_stated_and_of_companies_does_not(
    past: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["placebo", str(past / "plan.toml"), *_named(past, "--draws", "1000")]
    code, out, err = _run(arguments, capsys)
    assert (code, err) == (0, "")
    assert "600 accounts of the past (" in out
    assert "SHIP of a planted +10%" in out
    assert "No power: the plan errs as stated (false SHIP " in out
    code, out, _ = _run([*arguments, "--cluster", "company_id", "--format", "json"], capsys)
    found = json.loads(out)
    assert (code, found["n_clusters"], found["outcome"]) == (0, 60, "not fit")
    assert found["sentence"].startswith("The plan is NOT FIT for this history: ")
    with (past / "plan.toml").open("a", encoding="utf-8") as plan:
        plan.write('cluster = "company_id"\n')
    code, out, _ = _run([*arguments, "--format", "json"], capsys)
    found = json.loads(out)
    assert (code, found["n_clusters"], found["outcome"]) == (0, 60, "no power")
    code, out, _ = _run(["power", *_named(past), "--plan", str(past / "plan.toml"), "--effect", "0.2"], capsys)
    assert "600 accounts measured" in out
    assert "Units are whole clusters, by company_id." in out
    code, _, err = _run([*arguments, "--cluster", "firm"], capsys)
    assert code == 1
    assert "cluster 'firm' is no column of the accounts table, which has account_id, " in err
