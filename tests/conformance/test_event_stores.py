"""What every event store keeps: round trips, events kept twice, the latest of values that are posted again."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys.contracts.decisions import AssignedArm, Context
from recsys.contracts.events import (
    AccountUpdate,
    Erasure,
    EventQuery,
    ExperimentRecord,
    RecordedAssignment,
    VisitorLink,
)
from recsys.contracts.offers import LOGGED, AccountState, CartLine, OfferRequest
from recsys.events.reading import read_decisions, read_frame
from recsys.events.schema import EVENT_TABLES, TABLES
from recsys.events.store import EventStore
from tests.support.stored_events import NOON, decision, line, offer, outcome, product


def test_a_full_decision_survives_the_round_trip(store: EventStore) -> None:
    request = OfferRequest(
        account_id="Ä 'quoted' \"€\" 人",
        cart=(CartLine("P3", 2.5), CartLine("P4")),
        viewed_product_id="P5",
        kinds=("upsell",),
        limit=7,
        exclude=frozenset({"P6", "P7"}),
        new_only=True,
        objective="revenue",
        raw=True,
        explain="full",
        categories=("Bags", "Tins"),
        min_price=1.5,
        max_price=20.0,
        channel="web",
        region="DE",
    )
    state = AccountState(("P8",), {"P9": "declined"}, "retail", "DE", do_not_offer=False, is_forgotten=True)
    full = decision(
        request=request,
        decided_at=datetime(2026, 3, 1, 14, 0, tzinfo=timezone(timedelta(hours=2))),
        shortfall="only 2 products are credible",
        unknown_products=("X1", "X2"),
        visitor_id="v1",
        channel="web",
        surface="cart",
        request_id="r-1",
        assignments=(AssignedArm("e1", "treatment", 0.5), AssignedArm('é"2_', "big", 0.25)),
        shown=False,
        presented=True,
        offers=(offer()._replace(rule="autumn", discount=0.5, propensity=0.25), offer(2, "P2")),
        context=Context(state, {"P7": "out_of_stock"}, "abc123", "ended-1"),
    )
    store.append([full])
    assert list(read_decisions(store)) == [full]


def test_a_bare_decision_survives_the_round_trip(store: EventStore) -> None:
    bare = decision(request=OfferRequest(), offers=())
    store.append([bare])
    assert list(read_decisions(store)) == [bare]


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)


@given(
    ids=st.lists(TEXTS, min_size=1, max_size=5, unique=True),
    price=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    probability=st.floats(0, 1),
    when=st.datetimes(NOON.replace(year=2, tzinfo=None), NOON.replace(year=9000, tzinfo=None), timezones=st.just(UTC)),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_number_and_time_survives(
    store: EventStore, ids: list[str], price: float | None, probability: float, when: datetime
) -> None:
    name = f"{when.isoformat()}{ids!r}{probability!r}{price!r}"
    offers = tuple(
        offer(rank, product)._replace(price=price, probability=probability) for rank, product in enumerate(ids, 1)
    )
    one = decision(name, decided_at=when, offers=offers, request=OfferRequest(cart=(CartLine(ids[0]),)))
    store.append([one])
    assert list(read_decisions(store, EventQuery("decisions", decision_ids=(name,)))) == [one]
    rows = store.read(EventQuery("decision_offers", decision_ids=(name,))).to_pylist()
    assert [(row["product_id"], row["price"], row["probability"]) for row in rows] == [
        (product, price, probability) for product in ids
    ]


def test_the_same_event_twice_counts_once_and_the_first_stays(store: EventStore) -> None:
    store.append([decision(), outcome("x1", "clicked", "P1", 1), line()])
    store.append([decision(model_version="8"), outcome("x1", "accepted", "P1", 2), line(quantity=9.0)])
    assert [made.model_version for made in read_decisions(store)] == ["7"]
    assert store.read(EventQuery("outcomes"))["kind"].to_pylist() == ["clicked"]
    assert store.read(EventQuery("order_lines"))["quantity"].to_pylist() == [3.0]


def test_twice_in_one_batch_counts_once(store: EventStore) -> None:
    store.append([line(), line(), line(line_id="2")])
    assert store.read(EventQuery("order_lines"))["line_id"].to_pylist() == ["1", "2"]


def test_an_offer_row_says_when_it_was_presented(store: EventStore) -> None:
    store.append([decision()])
    store.append(
        [
            outcome("x1", "clicked", "P1", 1),
            outcome("x2", "shown", "P1", 5),
            outcome("x3", "pitched", "P1", 3),
            outcome("x4", "accepted", "P2", 4),
        ]
    )
    rows = store.read(EventQuery("decision_offers")).to_pylist()
    assert [(row["product_id"], row["presented_at"]) for row in rows] == [
        ("P1", NOON + timedelta(minutes=3)),
        ("P2", None),
    ]


def test_an_outcome_without_a_product_presents_the_whole_decision(store: EventStore) -> None:
    store.append([decision(), outcome("x1", "shown", None, 5)])
    rows = store.read(EventQuery("decision_offers")).to_pylist()
    assert [row["presented_at"] for row in rows] == [NOON + timedelta(minutes=5)] * 2


def test_no_offer_is_presented_before_its_decision(store: EventStore) -> None:
    store.append([decision(), outcome("x1", "shown", "P1", -720), outcome("x2", "clicked", "P2", -720)])
    rows = store.read(EventQuery("decision_offers")).to_pylist()
    assert [row["presented_at"] for row in rows] == [NOON, None]


def test_a_surface_may_declare_that_returned_is_presented(store: EventStore) -> None:
    store.append([decision(presented=True), outcome("x1", "shown", None, 5)])
    rows = store.read(EventQuery("decision_offers")).to_pylist()
    assert [row["presented_at"] for row in rows] == [NOON] * 2


def test_offer_rows_hold_every_field(store: EventStore) -> None:
    store.append([decision(offers=(offer(),), visitor_id="v1")])
    assert store.read(EventQuery("decision_offers")).to_pylist() == [
        {
            "decision_id": "d1",
            "decided_at": NOON,
            "account_id": "A1",
            "visitor_id": "v1",
            "shown": True,
            **dict(zip(LOGGED, offer().logged(), strict=True)),
            "presented_at": None,
        }
    ]


def test_a_probe_leaves_no_event(store: EventStore) -> None:
    for _ in range(3):
        store.probe()
    assert {store.size(table) for table in EVENT_TABLES} == {0}


def test_empty_tables_and_empty_batches(store: EventStore) -> None:
    store.append([])
    for table in TABLES:
        assert store.read(EventQuery(table)).num_rows == 0
        assert store.read(EventQuery(table)).num_columns == len(TABLES[table].columns)


def test_a_thousand_events_in_one_batch(store: EventStore) -> None:
    store.append([decision(f"d{i:04}") for i in range(1_000)])
    assert store.read(EventQuery("decision_offers")).num_rows == 2_000


def test_reading_as_a_frame(store: EventStore) -> None:
    store.append([decision(), outcome("x1", "shown", "P1", 1)])
    frame = read_frame(store, EventQuery("decision_offers"))
    assert frame["product_id"].tolist() == ["P1", "P2"]
    assert str(frame["decided_at"].dt.tz) == "UTC"
    assert frame["presented_at"].count() == 1


def test_requests_are_kept_without_their_defaults(store: EventStore) -> None:
    store.append([decision()])
    kept = json.loads(store.read(EventQuery("decisions"))["request"][0].as_py())
    assert kept == {"limit": 2}


def test_of_a_products_values_the_latest_counts_and_what_is_not_named_stays(store: EventStore) -> None:
    store.append([product(price=9.5, stock=0.0), product("P2", active=False)])
    store.append([product(minutes=2, stock=12.0, do_not_offer=True)])
    store.append([product(minutes=1, cost=4.0)])
    first, second = sorted(store.read(EventQuery("product_overrides")).to_pylist(), key=lambda row: row["product_id"])
    later = NOON + timedelta(minutes=2)
    assert tuple(first.values()) == ("P1", 9.5, 4.0, None, 12.0, True, later)
    assert tuple(second.values()) == ("P2", None, None, False, None, None, NOON)


def test_a_product_twice_in_one_batch_is_one_row(store: EventStore) -> None:
    store.append([product(price=9.5, stock=3.0), product(stock=0.0), product("P2", stock=1.0)])
    rows = store.read(EventQuery("product_overrides", columns=("product_id", "price", "stock"))).to_pylist()
    assert sorted(tuple(row.values()) for row in rows) == [("P1", 9.5, 0.0), ("P2", None, 1.0)]


def test_of_an_accounts_values_the_latest_counts(store: EventStore) -> None:
    store.append([AccountUpdate(account_id="A1", recorded_at=NOON, segment="retail", do_not_offer=True)])
    store.append(
        [AccountUpdate(account_id="A1", recorded_at=NOON + timedelta(minutes=1), region="DE", do_not_offer=False)]
    )
    (row,) = store.read(EventQuery("account_overrides")).to_pylist()
    assert tuple(row.values()) == ("A1", "retail", "DE", False, NOON + timedelta(minutes=1))


def test_a_visitor_stays_with_the_first_account_and_a_unit_in_two_arms_is_two_rows(store: EventStore) -> None:
    assigned = RecordedAssignment(
        experiment_id="e1", version=1, unit_id="A1", unit="account", arm="offers", probability=0.9, assigned_at=NOON
    )
    store.append([VisitorLink("v1", "A1", NOON), assigned])
    later = replace(assigned, assigned_at=NOON + timedelta(days=1))
    store.append([VisitorLink("v1", "A2", NOON), later, replace(later, arm="holdout"), replace(later, version=2)])
    assert store.read(EventQuery("visitor_links"))["account_id"].to_pylist() == ["A1"]
    kept = store.read(EventQuery("assignments", columns=("version", "arm", "assigned_at"))).to_pylist()
    assert [tuple(row.values()) for row in kept] == [
        (1, "offers", NOON),
        (1, "holdout", later.assigned_at),
        (2, "offers", later.assigned_at),
    ]


def test_an_experiment_keeps_its_plan_and_can_be_stopped_once(store: EventStore) -> None:
    started = ExperimentRecord("e1", 1, '{"id": "e1"}', "hash", NOON)
    store.append([started])
    store.append([replace(started, plan="{}", plan_hash="other", stopped_at=NOON + timedelta(days=1))])
    store.append([replace(started, stopped_at=NOON + timedelta(days=2))])
    (row,) = store.read(EventQuery("experiments")).to_pylist()
    assert tuple(row.values()) == ("e1", 1, '{"id": "e1"}', "hash", NOON, NOON + timedelta(days=1))


def test_every_erasure_of_an_account_is_kept(store: EventStore) -> None:
    again = NOON + timedelta(days=1)
    store.append([Erasure("k1", NOON), Erasure("k1", again), Erasure("k1", NOON)])
    kept = [{"account_key": "k1", "recorded_at": at} for at in (NOON, again)]
    assert store.read(EventQuery("forgotten", recorded_since=NOON)).to_pylist() == kept
    assert store.size("forgotten") == 2
