"""Plans: read, refused with a sentence, hashed; the hash moves with every field."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from recsys.errors import PlanError
from recsys.experiments.plan import (
    Arm,
    ExperimentPlan,
    Guardrail,
    Policy,
    canonical_json,
    lock_plan,
    parse_plan,
    plan_hash,
    read_plan,
)

TOML = """
id = "upsell-q1"
version = 2
primary = "revenue_per_account"
secondary = ["aov", "buyer_rate"]
planned_start = 2026-01-05
planned_end = 2026-02-02T00:00:00+01:00
planned_size = 4000
cap_percentile = 0.99

[[arms]]
name = "control"
weight = 1
is_control = true
policy = { kind = "none" }

[[arms]]
name = "engine"
weight = 3
policy = { alias = "challenger", objective = "revenue" }

[[guardrails]]
metric = "attrition"
margin = 0.01
direction = "lower_is_better"
"""


def _written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "plan.toml"
    path.write_text(text, encoding="utf-8")
    return path


def _plan(**changes: object) -> ExperimentPlan:
    fields: dict[str, object] = {
        "id": "x",
        "arms": (Arm(name="control", weight=1, is_control=True), Arm(name="engine", weight=1)),
        "planned_start": datetime(2026, 1, 1, tzinfo=UTC),
        "planned_end": datetime(2026, 2, 1, tzinfo=UTC),
        "planned_size": 100,
    }
    return ExperimentPlan.model_validate(fields | changes)


def test_a_plan_is_read_from_toml(tmp_path: Path) -> None:
    plan = read_plan(_written(tmp_path, TOML))
    assert plan.salt == "upsell-q1:2"
    assert plan.shares == (0.25, 0.75)
    assert plan.control.name == "control"
    assert plan.control.is_holdout
    assert plan.arms[1].policy == Policy(kind="model", alias="challenger", objective="revenue")
    assert plan.planned_start == datetime(2026, 1, 5, tzinfo=UTC)
    assert plan.planned_end == datetime(2026, 2, 1, 23, tzinfo=UTC)
    assert plan.guardrails == (Guardrail(metric="attrition", margin=0.01, direction="lower_is_better"),)


def test_a_plan_survives_its_canonical_json(tmp_path: Path) -> None:
    plan = read_plan(_written(tmp_path, TOML))
    again = parse_plan(canonical_json(plan))
    assert again == plan
    assert plan_hash(again) == plan_hash(plan)
    assert len(plan_hash(plan)) == 64


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"alpha": 0.1},
        {"primary": "margin_per_account"},
        {"secondary": ("aov",)},
        {"guardrails": (Guardrail(metric="attrition", margin=0.02),)},
        {"practical_margin": 0.01},
        {"planned_end": datetime(2026, 3, 1, tzinfo=UTC)},
        {"planned_size": 101},
        {"exposure": "assigned"},
        {"attribution_window_days": 7},
        {"cap_percentile": 0.99},
        {"segments": ("region",)},
        {"hypothesis": "offers add revenue"},
        {"layer": "ranking"},
        {"layer": "ranking", "layer_share": (0.0, 0.5)},
        {"arms": (Arm(name="control", weight=2, is_control=True), Arm(name="engine", weight=1))},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_hash_moves_with_every_field(change: dict[str, object]) -> None:
    assert plan_hash(_plan(**change)) != plan_hash(_plan())


def test_equal_plans_have_equal_hashes_however_they_were_written() -> None:
    offset = datetime.fromisoformat("2026-01-01T02:00:00+02:00")
    assert plan_hash(_plan(planned_start=offset)) == plan_hash(_plan(planned_start=datetime(2026, 1, 1)))  # noqa: DTZ001


def test_a_locked_plan_shows_a_later_change() -> None:
    locked = lock_plan(_plan(), datetime(2026, 1, 2, tzinfo=UTC))
    assert locked.is_unchanged
    assert locked.started_at == datetime(2026, 1, 2, tzinfo=UTC)
    altered = type(locked)(_plan(alpha=0.1), locked.plan_hash, locked.started_at)
    assert not altered.is_unchanged


def test_a_plan_that_is_over_can_not_start() -> None:
    with pytest.raises(PlanError, match="planned_end == 2026-02-01 00:00, must lie after the start"):
        lock_plan(_plan(), datetime(2026, 2, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("is_control = true", "", r"control arms == \[\], must be exactly one"),
        ('name = "engine"', 'name = "engine"\nis_control = true', "must be exactly one"),
        ('name = "engine"', 'name = "control"', r"arms \['control'\] stand twice"),
        ("weight = 3", "weight = 0", r"arms.1.weight == 0: must be greater than 0"),
        ('"buyer_rate"', '"aov"', r"metrics \['aov'\] stand twice"),
        ("version = 2", "attribution_window_days = 60", "attribution_window_days == 60, must not be longer than"),
        ("version = 2", "min_run_days = 60", "min_run_days == 60, must not be longer than the planned run of 27 days"),
        ("2026-01-05", "2026-03-05", "planned_end == 2026-02-01, must lie after planned_start"),
        ("version = 2", "size = 2", "size == 2: Extra inputs are not permitted"),
        ("planned_size = 4000", "", "planned_size: Field required"),
        ('id = "upsell-q1"', 'id = "a/b"', "id == 'a/b'"),
        ("version = 2", "version = ", "not valid TOML"),
    ],
)
def test_a_wrong_plan_is_a_sentence(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    with pytest.raises(PlanError, match=sentence) as stop:
        read_plan(_written(tmp_path, TOML.replace(old, new, 1)))
    assert "plan.toml" in str(stop.value)
    assert "\n" not in str(stop.value)


def test_a_missing_file_and_a_broken_stored_plan_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="no such file"):
        read_plan(tmp_path / "none.toml")
    with pytest.raises(PlanError, match="stored plan: arms: Field required"):
        parse_plan('{"id": "x", "planned_start": "2026-01-01", "planned_end": "2026-02-01", "planned_size": 1}')


BEFORE_LATENESS = (
    '{"alpha":0.05,"arms":[{"is_control":true,"name":"control","policy":{"alias":"champion","kind":"popular",'
    '"objective":null},"weight":1.0},{"is_control":false,"name":"engine","policy":{"alias":"champion","kind":"model",'
    '"objective":null},"weight":1.0}],"attribution_window_days":14,"cap_percentile":null,"exposure":"presented",'
    '"guardrails":[],"hypothesis":"","id":"offers-q1","min_mature_share":0.9,"min_run_days":14,'
    '"planned_end":"2026-03-02T00:00:00Z","planned_size":2000,"planned_start":"2026-01-05T00:00:00Z",'
    '"practical_margin":0.0,"primary":"revenue_per_account","primary_direction":"higher_is_better","secondary":[],'
    '"segments":[],"unit":"account","version":1}'
)


def test_a_plan_that_was_locked_before_a_field_was_added_keeps_its_hash() -> None:
    plan = parse_plan(BEFORE_LATENESS)
    assert canonical_json(plan) == BEFORE_LATENESS
    assert plan_hash(plan) == "5f5c6ae423a4f64de73b3c310e6c57bbb861ddb2915f19ec41c39ace5307177a"
    later = plan.model_copy(update={"lateness_days": 7})
    assert plan_hash(later) != plan_hash(plan)
    assert parse_plan(canonical_json(later)) == later


def test_a_plan_is_decided_when_its_windows_are_over_and_late_rows_are_in() -> None:
    plan = parse_plan(BEFORE_LATENESS)
    assert plan.windows_end == datetime(2026, 3, 2 + 14, tzinfo=UTC)
    assert plan.decision_due == datetime(2026, 3, 2 + 14 + 2, tzinfo=UTC)
