"""The first rule that fits, in their order, and which interval may decide."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import pytest

from recsys.evaluation.readout.arm_effects import Effect
from recsys.evaluation.readout.design import FINISHED, INTERIM, Design, ReadoutConfig, Stage
from recsys.evaluation.readout.health import HealthCheck
from recsys.evaluation.readout.verdict import RULES, ArmEvidence, arm_verdict, decide_verdict, evidence_of
from recsys.evaluation.statistics.metric import Metric, Ratio

RUNNING = Stage(is_final=False, has_min_run=True, is_mature=True, days_left=7)
OVER = Stage(is_final=True, has_min_run=True, is_mature=True)
TWO = {"control": 0.4, "engine": 0.6}
THREE = {"control": 0.4, "engine": 0.3, "second": 0.3}
BROKEN = HealthCheck("sample_ratio_assigned", "failed", "51 % against 50 %")


def _effect(low: float, high: float, **changes: Any) -> Effect:
    fields: dict[str, Any] = dict.fromkeys(Effect.__slots__, 0.0)
    fields |= {
        "metric": "revenue",
        "arm": "engine",
        "role": "primary",
        "direction": "higher_is_better",
        "effect": (low + high) / 2,
        "arm_mean": (low + high) / 2,
        "relative": None,
        "unit": "number",
        "currency": None,
        "decision_low": low,
        "decision_high": high,
        "decided_by": "fixed",
        "margin": None,
        "is_non_inferior": None,
        "is_harmed": high < 0,
        "n_arm": 1_000,
        "standard_error": (high - low) / 4,
    }
    return Effect(**(fields | changes))


def _guardrail(low: float, high: float, margin: float) -> Effect:
    fields = {"role": "guardrail", "metric": "margin", "margin": margin}
    return _effect(low, high, is_non_inferior=low > -margin, is_harmed=high < -margin, **fields)


def _evidence(primary: Effect | None, *guardrails: Effect, margin: float = 0.0) -> ArmEvidence:
    return ArmEvidence("engine", primary, guardrails, margin)


@pytest.mark.parametrize(
    ("evidence", "failed", "stage", "verdict"),
    [
        (_evidence(_effect(1, 3)), [BROKEN], OVER, "INVALID"),
        (_evidence(_effect(-3, -1)), [BROKEN], OVER, "INVALID"),
        (_evidence(_effect(-3, -1)), [], OVER, "ROLL BACK"),
        (_evidence(_effect(-3, -1)), [], RUNNING, "ROLL BACK"),
        (_evidence(_effect(-3, -1)), [], INTERIM, "ROLL BACK"),
        (_evidence(_effect(1, 3), _guardrail(-9, -5, 2)), [], OVER, "ROLL BACK"),
        (_evidence(_effect(1, 3)), [], OVER, "SHIP"),
        (_evidence(_effect(1, 3)), [], RUNNING, "SHIP"),
        (_evidence(_effect(1, 3)), [], FINISHED, "SHIP"),
        (_evidence(_effect(1, 3)), [], INTERIM, "KEEP RUNNING"),
        (_evidence(_effect(1, 3), _guardrail(-1, 1, 2)), [], OVER, "SHIP"),
        (_evidence(_effect(1, 3), _guardrail(-3, 1, 2)), [], OVER, "DISCUSS"),
        (_evidence(_effect(1, 3), _guardrail(-3, 1, 2)), [], RUNNING, "KEEP RUNNING"),
        (_evidence(_effect(-1, 1), margin=2), [], OVER, "FLAT"),
        (_evidence(_effect(-1, 1), margin=2), [], INTERIM, "KEEP RUNNING"),
        (_evidence(_effect(-1, 3), margin=2), [], OVER, "DISCUSS"),
        (_evidence(_effect(-1, 1)), [], OVER, "DISCUSS"),
        (_evidence(_effect(-1, 1)), [], RUNNING, "KEEP RUNNING"),
        (_evidence(_effect(1, 3)), [], Stage(is_final=True, has_min_run=True, is_mature=False), "KEEP RUNNING"),
        (_evidence(_effect(1, 3)), [], Stage(is_final=True, has_min_run=False, is_mature=True), "KEEP RUNNING"),
        (_evidence(None), [], OVER, "DISCUSS"),
    ],
)
def test_the_first_rule_that_fits(evidence: ArmEvidence, failed: list[HealthCheck], stage: Stage, verdict: str) -> None:
    found = arm_verdict(evidence, failed, stage)
    assert found.verdict == verdict
    if found.verdict not in {"SHIP", "ROLL BACK"}:
        assert found.rule == RULES[found.verdict]
    assert found.reason


def test_lower_may_be_better() -> None:
    better = _effect(-3, -1, direction="lower_is_better", is_harmed=False)
    assert arm_verdict(_evidence(better), [], OVER).verdict == "SHIP"


def test_the_reason_has_the_figures_and_the_kind_of_interval() -> None:
    found = arm_verdict(_evidence(_effect(1, 3, decided_by="anytime")), [], RUNNING)
    assert found.reason == ("revenue rose by 2.0, from 0.0 to 2.0; anytime-valid interval +1.0 to +3.0")
    assert found.rule == "the primary is better; no guardrail was declared"
    assert "minimum run and maturity are not checked" in arm_verdict(_evidence(_effect(1, 3)), [], FINISHED).reason


def test_discuss_names_every_guardrail_that_is_worse() -> None:
    worse, inside = _guardrail(-3, 1, 2), _guardrail(-1.5, 0.5, 2)
    better = replace(_guardrail(-0.5, 1.5, 2), metric="orders")
    found = arm_verdict(_evidence(_effect(-1, 2), worse, replace(inside, metric="visits"), better), [], OVER)
    assert found.verdict == "DISCUSS"
    assert "margin fell by 1, from 0 to -1; fixed-horizon interval -3 to +1: worse, not shown to stay" in found.reason
    assert "visits fell by 0.5" in found.reason
    assert "worse, but within its margin of 2.0" in found.reason
    assert "orders" not in found.reason


def test_ship_marks_a_guardrail_that_is_worse_within_its_margin() -> None:
    inside, better = _guardrail(-1.5, 0.5, 2), replace(_guardrail(-0.5, 1.5, 2), metric="orders")
    found = arm_verdict(_evidence(_effect(1, 3), inside, better), [], OVER)
    assert found.verdict == "SHIP"
    assert "margin fell by 0.5, from 0.0 to -0.5" in found.reason
    assert found.reason.count("worse, but within its margin of 2.0") == 1
    assert "orders rose by 0.5, from 0.0 to 0.5; fixed-horizon interval -0.5 to +1.5: within its margin" in found.reason


def test_keep_running_says_how_much_longer() -> None:
    found = arm_verdict(_evidence(_effect(-2, 2), margin=1), [], RUNNING)
    # standard error 1: 1,000 x ((1.960 + 0.842) x 1 / 1)^2
    assert found.reason.endswith("about 7,849 units in engine show the practical margin with 80 % power, 1,000 are in")
    assert "wait for the planned end in 7 days" in found.reason


def test_the_units_that_are_needed_follow_the_error_and_the_number_of_arms() -> None:
    """Three arms at alpha .1: each of two comparisons has .05, as two arms at .05 have; at .05 each has .025."""
    primary, metric = _effect(-2, 2), Metric("revenue", Ratio("revenue"), role="primary")
    for shares, alpha, z in (
        ({"control": 0.4, "engine": 0.6}, 0.05, 1.960),
        (THREE, 0.1, 1.960),
        (THREE, 0.05, 2.2414),
    ):
        design = Design("d", "control", shares, (metric,))
        config = ReadoutConfig(alpha=alpha, practical_margin=0.01)
        (evidence, *_) = evidence_of([replace(primary, control_mean=100.0)], design, config)
        n = math.ceil(1_000 * (z + 0.8416) ** 2)
        found = re.search(r"about ([\d,]+) units in engine", arm_verdict(evidence, [], RUNNING).reason)
        assert found
        assert int(found[1].replace(",", "")) == pytest.approx(n, abs=3)


def test_a_rule_names_what_there_was() -> None:
    kept, broken = _guardrail(-1, 1, 2), _guardrail(-9, -5, 2)
    harmed, better = _effect(-3, -1), _effect(1, 3)
    named = {
        "the primary is better; no guardrail was declared": _evidence(better),
        "the primary is better and every guardrail is non-inferior": _evidence(better, kept),
        "the primary is harmed": _evidence(harmed, kept),
        "a guardrail is harmed": _evidence(better, broken),
        "the primary is harmed and a guardrail is harmed": _evidence(harmed, broken),
    }
    assert [arm_verdict(evidence, [], OVER).rule for evidence in named.values()] == list(named)


def test_an_interval_that_holds_zero_shows_no_difference() -> None:
    found = arm_verdict(_evidence(_effect(-1, 3, relative=0.05)), [], RUNNING).reason
    said = "no difference in revenue shown: +1 measured, from 0 to 1 (+5.0 %); fixed-horizon interval -1 to +3"
    assert found.startswith(said)


def test_a_difference_that_rounds_to_zero_is_not_said_to_be_none() -> None:
    """A standard error of 35: the estimate of .4 stands in no digit that is shown, and the interval is wide."""
    found = arm_verdict(_evidence(_effect(-69.6, 70.4, relative=-0.051)), [], OVER).reason
    assert found.startswith(
        "the run is over and no difference in revenue shown, from 0 to 0; fixed-horizon interval -70 to +70"
    )
    assert "move" not in found
    assert "5.1 %" not in found


def test_of_several_arms_the_best_that_ships_is_named() -> None:
    arms = [
        ArmEvidence("a", _effect(1, 3, arm="a"), (), 0.0),
        ArmEvidence("b", _effect(2, 6, arm="b"), (), 0.0),
        ArmEvidence("c", _effect(-3, -1, arm="c"), (), 0.0),
    ]
    found = decide_verdict(arms, [], OVER)
    assert (found.verdict, found.arm) == ("SHIP", "b")
    assert [verdict.verdict for verdict in found.arms] == ["SHIP", "SHIP", "ROLL BACK"]
    assert decide_verdict(arms, [BROKEN], OVER).arm is None
