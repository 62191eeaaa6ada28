"""Off-policy values: by hand, against a logging policy whose truth is known, from the event log, and as a command."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recsys.cli import main
from recsys.contracts.decisions import Decision
from recsys.contracts.events import Outcome
from recsys.contracts.offers import Offer, OfferRequest
from recsys.errors import DataError, EmptyDataError
from recsys.evaluation.offline.off_policy import LoggedActions, OffPolicy, drawn_slots, evaluate_policy
from recsys.events.memory import MemoryStore
from recsys.events.store import EventStore, open_store

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def hand_log(**more: np.ndarray) -> LoggedActions:
    # weights 2, 0.5, 0, 1
    return LoggedActions(
        reward=np.array([3.0, 1.0, 5.0, 0.0]),
        propensity=np.array([0.25, 0.5, 0.25, 1.0]),
        target=np.array([0.5, 0.25, 0.0, 1.0]),
        **more,
    )


def test_ips_snips_and_dr_by_hand() -> None:
    q, v = np.array([2.0, 1.0, 4.0, 1.0]), np.array([2.0, 2.0, 3.0, 1.0])
    found = evaluate_policy(hand_log(expected=q, expected_of_target=v))
    assert found.value("IPS").estimate == pytest.approx((2 * 3 + 0.5 * 1 + 0 + 0) / 4)
    assert found.value("SNIPS").estimate == pytest.approx((2 * 3 + 0.5 * 1) / 3.5)
    assert found.value("DR").estimate == pytest.approx(((2 + 2 * 1) + (2 + 0) + (3 + 0) + (1 + 1 * -1)) / 4)
    assert found.logged.estimate == pytest.approx(9 / 4)
    assert found.effective_decisions == pytest.approx(3.5**2 / (4 + 0.25 + 1))
    assert (found.mean_weight, found.largest_weight) == pytest.approx((3.5 / 4, 2.0))
    # terms 6, 0.5, 0, 0: variance by hand, one decision a unit
    terms = np.array([6.0, 0.5, 0, 0])
    assert found.value("IPS").standard_error == pytest.approx(terms.std(ddof=1) / 2)
    residual = np.array([2 * (3 - 6.5 / 3.5), 0.5 * (1 - 6.5 / 3.5), 0, 1 * (0 - 6.5 / 3.5)])
    assert found.value("SNIPS").standard_error == pytest.approx(np.sqrt((residual**2).sum() * 4 / 3) / 3.5)


def test_the_logging_policy_itself_is_worth_what_it_brought() -> None:
    log = hand_log()
    itself = evaluate_policy(LoggedActions(log.reward, log.propensity, log.propensity))
    for estimator in ("IPS", "SNIPS"):
        assert itself.value(estimator).estimate == pytest.approx(log.reward.mean())
    assert itself.overlaps
    assert itself.effective_decisions == pytest.approx(4)


def test_weights_are_cut_where_asked() -> None:
    cut = evaluate_policy(hand_log(), largest_weight=1.0)
    assert cut.largest_weight == 1.0
    assert cut.value("IPS").estimate == pytest.approx((3 + 0.5) / 4)


def test_decisions_of_one_account_are_one_unit() -> None:
    log = hand_log()
    doubled = LoggedActions(np.repeat(log.reward, 2), np.repeat(log.propensity, 2), np.repeat(log.target, 2))
    alone = evaluate_policy(hand_log()).value("IPS").standard_error
    by_account = evaluate_policy(
        LoggedActions(
            doubled.reward, doubled.propensity, doubled.target, unit=np.repeat(list("abcd"), 2).astype(object)
        )
    )
    assert by_account.n_units == 4
    assert by_account.value("IPS").standard_error == pytest.approx(alone)
    assert evaluate_policy(doubled).value("IPS").standard_error < alone


def simulated(rng: np.random.Generator, n: int = 2_000, *, told: float = 1.0) -> LoggedActions:
    """Three actions, rewards 0.1, 0.3, 0.5 plus the context; the log prefers the worst, the target the best."""
    context = rng.random(n)
    chances = np.column_stack([0.6 - 0.3 * context, np.full(n, 0.3), 0.1 + 0.3 * context])
    action = (rng.random(n)[:, None] > chances.cumsum(axis=1)).sum(axis=1)
    means = np.array([0.1, 0.3, 0.5])[None, :] * (0.5 + context[:, None])
    reward = (rng.random(n) < means[np.arange(n), action]).astype(float)
    target = np.array([0.1, 0.2, 0.7])
    guess = 0.8 * means + 0.05  # a model of the reward that is off
    return LoggedActions(
        reward=reward,
        propensity=np.minimum(chances[np.arange(n), action] * told, 1.0),
        target=target[action],
        expected=guess[np.arange(n), action],
        expected_of_target=guess @ target,
    )


TRUTH = 0.1 * 0.1 + 0.2 * 0.3 + 0.7 * 0.5  # times the mean of 0.5 + context, which is 1


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(11)
    runs = [evaluate_policy(simulated(rng)) for _ in range(400)]
    for estimator in ("IPS", "SNIPS", "DR"):
        values = [run.value(estimator) for run in runs]
        covered = sum(one.low <= TRUTH <= one.high for one in values)
        # Exact binomial band (99.9 %) of 400 draws at .95, rounded outwards: 365 to 394.
        assert 365 <= covered <= 394, estimator
        assert np.mean([one.estimate for one in values]) == pytest.approx(TRUTH, abs=0.005)
    spread = {name: np.std([run.value(name).estimate for run in runs]) for name in ("IPS", "SNIPS", "DR")}
    assert spread["DR"] <= spread["SNIPS"] < spread["IPS"]
    assert np.mean([run.overlaps for run in runs]) > 0.98


def test_the_control_reads_the_log_as_if_the_target_had_made_it() -> None:
    found = evaluate_policy(simulated(np.random.default_rng(2), 20_000))
    assert found.logged.high < TRUTH < found.value("SNIPS").high


def test_wrong_propensities_show_in_the_mean_weight() -> None:
    found = evaluate_policy(simulated(np.random.default_rng(3), 20_000, told=0.8))
    assert not found.overlaps
    assert found.mean_weight == pytest.approx(1 / 0.8, rel=0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"propensity": np.array([0.0, 1, 1, 1])}, "propensity == 0.0, must be above 0"),
        ({"target": np.array([1.5, 1, 1, 1])}, "target == 1.5, must be 0 or more"),
        ({"reward": np.array([np.nan, 1, 1, 1])}, "1 values of reward are missing"),
        ({"target": np.ones(3)}, "3 values of target for 4 rewards"),
        ({"target": np.zeros(4)}, "takes none of the logged actions"),
        ({"expected": np.ones(4)}, "DR needs both"),
    ],
)
def test_wrong_logs_are_refused(change: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(DataError, match=message):
        evaluate_policy(LoggedActions(**{**vars(hand_log()), **change}))


def test_wrong_options_and_one_unit_are_refused() -> None:
    with pytest.raises(DataError, match="level == 1"):
        evaluate_policy(hand_log(), level=1.0)
    with pytest.raises(DataError, match="largest_weight == 0"):
        evaluate_policy(hand_log(), largest_weight=0.0)
    with pytest.raises(EmptyDataError, match="fewer than two units"):
        evaluate_policy(hand_log(unit=np.full(4, "a", dtype=object)))


SHARE, BELOW = 0.2, 4
TAKEN = {"first": 0.5, "below": 0.2}
"""How often the offer of rank k, and one below it, is accepted."""


def fill(store: EventStore, n: int) -> None:
    """Decisions of two offers whose last one was drawn, as the server draws, and what was accepted."""
    rng = random.Random(4)
    for number in range(n):
        explores = rng.random() < SHARE
        product = f"below{rng.randrange(BELOW)}" if explores else "first"
        propensity = SHARE / BELOW if explores else 1 - SHARE
        offers = [
            Offer.from_logged(
                (rank, name, "cross_sell", 1.0, "EUR", 0.1, "buys_within_horizon", 1.0, 0.1, 0.1, "account", chance)
            )
            for rank, name, chance in ((1, "best", 1.0), (2, product, propensity))
        ]
        decision = Decision(
            decision_id=f"d{number:05d}",
            decided_at=NOW + timedelta(minutes=number),
            request=OfferRequest(account_id=f"a{number % 500}"),
            model_version="v",
            objective="conversion",
            tier="account",
            horizon_days=30,
            n_considered=9,
            offers=tuple(offers),
            presented=number % 10 != 0,  # every tenth was never seen
        )
        store.append([decision])
        if rng.random() < TAKEN["below" if explores else "first"]:
            at = decision.decided_at
            named = None if number % 7 == 0 else product  # without a product: every offer of the decision
            store.append(
                [
                    Outcome(
                        outcome_id=f"x{number:05d}",
                        decision_id=decision.decision_id,
                        kind="accepted",
                        occurred_at=at,
                        recorded_at=at,
                        product_id=named,
                    )
                ]
            )


@pytest.fixture(scope="module")
def log() -> MemoryStore:
    store = MemoryStore()
    fill(store, 3_000)
    return store


def test_the_log_of_the_last_slot_tells_what_exploration_costs(log: MemoryStore) -> None:
    found: dict[str, OffPolicy] = {policy: evaluate_policy(drawn_slots(log, policy)) for policy in ("first", "drawn")}
    assert found["first"].n_decisions == 2_700
    assert found["first"].n_units == 450
    for policy, truth in (("first", TAKEN["first"]), ("drawn", TAKEN["below"])):
        value = found[policy].value("SNIPS")
        assert value.low < truth < value.high
        assert found[policy].overlaps
    assert found["drawn"].value("SNIPS").high < found["first"].value("SNIPS").low


def test_without_exploration_there_is_nothing_to_evaluate() -> None:
    with pytest.raises(EmptyDataError, match="`exploration` above 0"):
        drawn_slots(MemoryStore(), "first")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main(["experiment", "off-policy", *arguments])
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out + printed.err


def test_the_command_reads_the_event_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path}/offers.db"
    store = open_store(url)
    fill(store, 300)
    store.close()
    code, said = run(capsys, "first", "--store", url)
    assert code == 0, said
    assert "target, SNIPS" in said
    assert "270 decisions of 270 units" in said
    code, said = run(capsys, "best", "--store", url)
    assert (code, "policy == 'best', must be one of first, drawn" in said) == (1, True)


def test_the_command_reads_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = hand_log()
    file = tmp_path / "log.csv"
    table = {"money": log.reward, "p": log.propensity, "t": log.target, "who": list("aabb"), "q": 1.0, "v": 2.0}
    pd.DataFrame(table).to_csv(file, index=False)
    options = ["--data", str(file), "--reward", "money", "--propensity", "p", "--target", "t", "--format", "json"]
    models = [
        "--expected",
        "q",
        "--expected-of-target",
        "v",
        "--unit",
        "who",
        "--level",
        "0.9",
        "--largest-weight",
        "5",
    ]
    code, said = run(capsys, *options, *models)
    assert code == 0, said
    found = json.loads(said)
    assert [one["estimator"] for one in found["values"]] == ["IPS", "SNIPS", "DR"]
    assert found["values"][0]["estimate"] == pytest.approx(6.5 / 4)
    assert found["n_units"] == 2
    code, said = run(capsys, "--data", str(file))
    assert (code, "no column reward, propensity, target; it has money, p, t" in said) == (1, True)
    code, said = run(capsys, "first", "--data", str(file))
    assert (code, "give either a policy of the event store" in said) == (1, True)
