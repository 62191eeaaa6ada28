"""Twenty orders by hand, with returns, repeated exposures, late outcomes, first orders, an account in two channels."""

from __future__ import annotations

from datetime import UTC, datetime

import pandas as pd
import pytest

from recsys.contracts import columns as c
from recsys.contracts.events import Event, OutcomeKind
from recsys.evaluation.kpis.config import KpiConfig
from recsys.evaluation.kpis.report import kpis_from_tables
from recsys.evaluation.kpis.results import KpiReport
from recsys.evaluation.kpis.tables import EventTables, read_events
from recsys.events.memory import MemoryStore
from recsys.events.store import open_store
from tests.evaluation.kpis.hand_made import decision, order_lines, outcome

AS_OF = datetime(2024, 10, 1, tzinfo=UTC)

# order, account, day, channel, then product x units @ price
ORDERS = """
o01 A 2024-01-05 web   c1x10@2
o02 B 2024-01-10 web   t1x5@4 m1x2@5
o03 C 2024-01-15 phone c2x4@3
o04 A 2024-02-01 phone t1x5@4 c1x5@2
o05 D 2024-02-10 web   m1x4@5
o06 B 2024-02-20 web   t2x5@4
o07 - 2024-03-01 web   c1x10@2
o08 C 2024-03-10 phone c1x10@2
o09 A 2024-04-02 web   c2x10@3
o10 B 2024-04-15 web   c1x5@2 c2x5@3
o11 C 2024-05-05 web   c3x4@6
o12 F 2024-05-20 web   m1x4@5
o13 E 2024-06-01 phone c1x5@2
o14 D 2024-06-10 web   t1x5@4
o20 D 2024-06-20 web   t1x-5@4
o15 A 2024-07-05 web   c3x2@6 c1x5@2
o16 B 2024-07-20 phone m1x2@5
o17 E 2024-08-01 phone c2x4@3
o18 C 2024-08-15 phone f1x10@1
o19 E 2024-08-20 phone c2x-1@3
"""


def products() -> pd.DataFrame:
    families = {"c1": "coffee", "c2": "coffee", "c3": "coffee", "t1": "tea", "t2": "tea", "m1": "mug", "f1": "filter"}
    categories = {"coffee": "drinks", "tea": "drinks", "mug": "things", "filter": "things"}
    return pd.DataFrame(
        {
            c.PRODUCT_ID: list(families),
            c.FAMILY: list(families.values()),
            c.CATEGORY: [categories[family] for family in families.values()],
        }
    )


def accounts() -> pd.DataFrame:
    return pd.DataFrame(
        {
            c.ACCOUNT_ID: list("ABCDEF"),
            c.SEGMENT: ["cafe", "cafe", "office", "office", "cafe", None],
            c.IS_KEY_ACCOUNT: [True, True, False, False, False, None],
            c.OWNER: ["ann", "ann", "bob", "bob", "bob", "ann"],
        }
    )


def upgrades() -> pd.DataFrame:
    return pd.DataFrame({c.FROM_PRODUCT_ID: ["c1", "c2"], c.TO_PRODUCT_ID: ["c2", "c3"]})


def log() -> list[Event]:
    """Eleven presented offers: d1 t1 and c2, d2 t1, d3 c2, d4 c1 and t2, d5 f1, d6 t1, d7 c1, d9 c2, d10 m1."""
    decisions = [
        decision("d1", "A", "2024-01-20", "cart", "t1:x", "c2:u"),
        decision("d2", "A", "2024-01-28", "cart", "t1:x"),  # the last exposure before o04
        decision("d3", "A", "2024-03-25", "sales", "c2:u"),  # o09 follows
        decision("d4", "B", "2024-04-10", "cart", "c1:x", "t2:x"),  # o10 follows with c1
        decision("d5", "C", "2024-03-01", "cart", "f1:x"),  # bought and accepted on 15 August: too late
        decision("d6", "D", "2024-06-05", "cart", "t1:x"),  # bought in o14, returned in o20
        decision("d7", "E", "2024-05-25", "sales", "c1:x"),  # bought in E's first order o13
        decision("d8", "C", "2024-08-10", "cart", "f1:x", shown=False),  # holdout: o18 is nobody's merit
        decision("d9", "E", "2024-07-25", "sales", "c2:u"),  # o17 follows, one of four units came back
        decision("d10", "A", "2024-07-01", "cart", "m1:x"),  # accepted, never bought
        decision("d11", "B", "2024-07-10", "cart", "c2:u"),  # accepted, never presented
    ]
    reported: list[tuple[str, str | None, OutcomeKind, str, str | None]] = [
        ("d1", None, "shown", "2024-01-20", None),
        ("d2", None, "shown", "2024-01-28", None),
        ("d3", "c2", "pitched", "2024-03-25", "ann"),
        ("d4", None, "shown", "2024-04-10", None),
        ("d5", "f1", "shown", "2024-03-01", None),
        ("d5", "f1", "accepted", "2024-08-15", None),
        ("d6", "t1", "shown", "2024-06-05", None),
        ("d7", "c1", "shown", "2024-05-25", None),
        ("d9", "c2", "pitched", "2024-07-25", "bob"),
        ("d9", "c2", "accepted", "2024-07-26", "bob"),
        ("d10", "m1", "shown", "2024-07-01", None),
        ("d10", "m1", "accepted", "2024-07-03", None),
        ("d11", "c2", "accepted", "2024-07-11", None),
    ]
    return [*decisions, *(outcome(number, *item) for number, item in enumerate(reported))]


def events() -> EventTables:
    """The log as an event store gives it back."""
    store = MemoryStore()
    store.append(log())
    return read_events(store)


@pytest.fixture(scope="session")
def hand_tables() -> dict[str, pd.DataFrame]:
    """The tables to be written to files."""
    return {"orders": order_lines(ORDERS), "products": products(), "accounts": accounts(), "upgrades": upgrades()}


@pytest.fixture(scope="session")
def hand_store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of an event store on disk that holds the log."""
    url = f"sqlite:///{tmp_path_factory.mktemp('store') / 'offers.db'}"
    store = open_store(url)
    store.append(log())
    store.close()
    return url


@pytest.fixture(scope="session")
def by_hand() -> KpiReport:
    config = KpiConfig(period="quarter", by=("channel", "segment", "category", "product", "owner", "key_account",
                                             "surface", "actor"), targets={"upsell_ratio": 0.2})  # fmt: skip
    return kpis_from_tables(
        order_lines(ORDERS),
        as_of=AS_OF,
        products=products(),
        accounts=accounts(),
        upgrades=upgrades(),
        events=events(),
        currency="EUR",
        config=config,
    )
