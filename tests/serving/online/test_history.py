"""What is remembered of accounts and visitors: no more than answers need, and no longer."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from recsys.contracts.events import Outcome, PostedLine
from recsys.contracts.offers import EMPTY_STATE
from recsys.events.memory import MemoryStore
from serving.fakes import fake_model
from serving.models.by_alias import LoadedModel
from serving.online.activity import OnlineActivity
from serving.online.change_feed import Feedback, Subject
from serving.online.state import OnlineState
from serving.settings import FrequencyCaps, Settings

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
COOLDOWN = 30 * DAY


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def line(order_id: str, when: datetime, account_id: str | None = "A1", visitor_id: str | None = None) -> PostedLine:
    return PostedLine(
        order_id=order_id,
        line_id="1",
        product_id=f"P-{order_id}",
        quantity=1.0,
        ordered_at=when,
        recorded_at=when,
        account_id=account_id,
        visitor_id=visitor_id,
    )


def model(as_of: datetime) -> LoadedModel:
    return replace(fake_model(), as_of=as_of)


def tidied(state: OnlineState, oldest: datetime) -> OnlineState:
    for _ in range(3):  # the first collects what there is
        state.tidy(oldest)
    return state


presentations = st.lists(
    st.tuples(st.integers(0, 3), st.lists(st.sampled_from("abcd"), max_size=6), st.integers(0, 2)), max_size=20
)


@given(presentations)
def test_presentations_of_a_day_are_distinct_pairs_of_decision_and_product(
    told: list[tuple[int, list[str], int]],
) -> None:
    history, today = OnlineActivity(), 0
    pairs: set[tuple[int, str]] = set()
    for decision, products, day in told:
        history.present(products, f"d{decision}", NOW + day * DAY)
        if day > today:
            today, pairs = day, set()
        if day == today:
            pairs |= {(decision, product) for product in products}
    now = NOW + today * DAY
    for cap in (1, 2, 3):
        found = history.suppressed(now, COOLDOWN, FrequencyCaps(product_a_day=cap))
        assert set(found) == {p for p in "abcd" if sum(product == p for _, product in pairs) >= cap}
    silence = history.opt_out_reason(now, FrequencyCaps(offers_a_day=1))
    assert silence == (f"{len(pairs)} offers were presented today" if pairs else None)


def test_what_a_visitor_saw_counts_after_login_once() -> None:
    visitor, account = OnlineActivity(), OnlineActivity()
    visitor.present(["a", "b"], "d1", NOW)
    account.present(["a"], "d1", NOW)
    account.absorb(visitor)
    assert account.opt_out_reason(NOW, FrequencyCaps(offers_a_day=1)) == "2 offers were presented today"


def test_what_changes_no_answer_any_more_is_let_go() -> None:
    history = OnlineActivity()
    history.buy(("o1", "1"), (NOW, "a", 1.0))
    history.refuse("b", NOW)
    history.present(["c"], "d1", NOW)
    assert history.prune(NOW, NOW, NOW.toordinal())
    assert (history.bought(), set(history.suppressed(NOW, COOLDOWN, FrequencyCaps(product_a_day=1)))) == (
        ("a",),
        {"b", "c"},
    )
    later = NOW + timedelta(seconds=1)
    assert history.prune(later, NOW, NOW.toordinal())
    assert history.bought() == ()
    assert history.prune(later, later, NOW.toordinal())
    assert not history.prune(later, later, NOW.toordinal() + 1)


def test_a_newer_model_lets_old_purchases_go_and_an_older_one_brings_them_back() -> None:
    store, clock = MemoryStore(), Clock()
    store.append([line("old", NOW - 9 * DAY), line("new", NOW - DAY), line("gone", NOW - 9 * DAY, "A2")])
    state = OnlineState(store, Settings(), since=NOW - 20 * DAY, clock=clock)
    state.apply(state.read_news())
    assert state.of("A1", None, NOW).bought == ("P-new", "P-old")
    assert tidied(state, NOW - 5 * DAY).of("A1", None, NOW).bought == ("P-new",)
    assert state.of("A2", None, NOW) is EMPTY_STATE
    state.apply(state.read_news())
    assert state.of("A2", None, NOW) is EMPTY_STATE
    before = model(NOW - 20 * DAY)
    state.adopt(before, state.read_for(before))
    assert state.of("A1", None, NOW).bought == ("P-new", "P-old")
    assert state.read_for(before) is None


def test_refusals_and_presentations_go_with_their_time() -> None:
    store, clock = MemoryStore(), Clock()
    state = OnlineState(store, Settings(fatigue=FrequencyCaps(product_a_day=1)), since=NOW - DAY, clock=clock)
    state.react([Feedback(Subject("A1", None), "d1", ["P1"], NOW, refuses=True)])
    state.react([Feedback(Subject("A2", None), "d2", ["P1"], NOW, refuses=False)])
    assert set(tidied(state, NOW).of("A2", None, NOW).suppressed) == {"P1"}
    clock.now = NOW + DAY
    assert tidied(state, NOW).of("A2", None, clock.now) is EMPTY_STATE
    assert set(state.of("A1", None, clock.now).suppressed) == {"P1"}
    clock.now = NOW + 31 * DAY
    assert tidied(state, NOW).of("A1", None, clock.now) is EMPTY_STATE


def test_every_account_is_tidied_however_many_there_are() -> None:
    state = OnlineState(MemoryStore(), Settings(), since=NOW - DAY, clock=Clock())
    state.buy(line(f"o{i}", NOW - DAY / 2, f"A{i}") for i in range(1_700))
    for _ in range(6):
        state.tidy(NOW)
    assert all(state.of(f"A{i}", None, NOW) is EMPTY_STATE for i in range(1_700))


def test_of_visitors_the_latest_are_remembered() -> None:
    state = OnlineState(MemoryStore(), Settings(remembered_visitors=3), since=NOW - DAY, clock=Clock())
    for number in (1, 2, 3, 1, 4):
        state.buy([line(f"o{number}", NOW, None, f"v{number}")])
    assert [bool(state.of(None, f"v{number}", NOW).bought) for number in (1, 2, 3, 4)] == [True, False, True, True]


def test_what_was_read_is_not_read_again() -> None:
    store = MemoryStore()
    state = OnlineState(store, Settings(), since=NOW - DAY, clock=Clock())
    store.append([Outcome(outcome_id="x1", decision_id="d", kind="declined", occurred_at=NOW, recorded_at=NOW)])
    state.apply(state.read_news())
    store.append([line("o1", NOW)])
    news = state.read_news()
    assert ([row["order_id"] for row in news.lines], news.reactions) == (["o1"], [])
    state.apply(news)
    assert state.read_news().lines == []
