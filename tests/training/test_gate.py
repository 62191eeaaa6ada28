"""Each rule of the gate, alone: what passes, what fails, and that a constant model fails."""

from __future__ import annotations

import pytest

from training.gate import CalibrationBin, Comparison, DataFacts, GateConfig, GateEvidence, KindCalibration, judge

WHOLE = DataFacts(fingerprint="a", rows_a_day=1000, active_accounts=500, products=400)
CALIBRATED = KindCalibration(
    kind="cross_sell",
    bins=(CalibrationBin(observed=110, expected=100), CalibrationBin(observed=5, expected=50)),
    log_loss=0.010,
    log_loss_of_base_rate=0.012,
)
GOOD = GateEvidence(
    ndcg_at_10=0.17,
    baselines=(Comparison(rival="popular", difference=0.08, low=0.07, high=0.09),),
    champion=Comparison(rival="champion 3", difference=0.01, low=0.002, high=0.018),
    calibration=(CALIBRATED,),
    coverage=0.4,
    data=WHOLE,
)


def _failed(evidence: GateEvidence, champion: DataFacts | None = WHOLE, config: GateConfig | None = None) -> list[str]:
    return [check.name for check in judge(evidence, champion, config) if not check.passed]


def test_good_model_passes() -> None:
    assert _failed(GOOD) == []
    assert _failed(GOOD.model_copy(update={"champion": None}), champion=None) == []


def test_each_rival_must_be_beaten_with_the_whole_interval() -> None:
    close = Comparison(rival="ease", difference=0.01, low=-0.001, high=0.02)
    assert _failed(GOOD.model_copy(update={"baselines": (*GOOD.baselines, close)})) == ["NDCG@10 beats ease"]
    assert _failed(GOOD.model_copy(update={"champion": close})) == ["NDCG@10 beats ease"]


def test_what_was_not_measured_is_not_passed() -> None:
    empty = GOOD.model_copy(update={"baselines": (), "champion": None, "calibration": ()})
    assert _failed(empty) == ["NDCG@10 beats every baseline", "NDCG@10 beats the champion", "calibration holds"]


@pytest.mark.parametrize(("observed", "fails"), [(84, True), (130, True), (116, True), (115, False), (100, False)])
def test_bins_are_judged_where_they_have_enough_purchases(observed: float, fails: bool) -> None:
    bins = (CalibrationBin(observed=observed, expected=100),)
    measured = GOOD.model_copy(update={"calibration": (CALIBRATED.model_copy(update={"bins": bins}),)})
    assert _failed(measured) == (["cross_sell: observed / expected"] if fails else [])


def test_smaller_bins_are_judged_when_asked() -> None:
    strict = GateConfig(min_bin_positives=5)
    assert _failed(GOOD, config=strict) == ["cross_sell: observed / expected"]
    wide = GateConfig(min_bin_positives=5, calibration_low=0.05, calibration_high=2)
    assert _failed(GOOD, config=wide) == []


def test_small_bins_are_judged_as_one() -> None:
    def failed(*observed: float) -> bool:
        bins = tuple(CalibrationBin(observed=each, expected=60) for each in observed)
        kind = CALIBRATED.model_copy(update={"bins": bins})
        return bool(_failed(GOOD.model_copy(update={"calibration": (kind,)})))

    assert not failed(50, 62)  # 112 of 120 expected
    assert failed(90, 99)  # 189 of 120 expected
    assert failed(40, 41)  # 81 purchases are too few to judge: not checked is not passed


def test_constant_model_fails() -> None:
    """The base rate for everyone is calibrated overall and worth nothing."""
    constant = KindCalibration(
        kind="cross_sell",
        bins=(CalibrationBin(observed=1000, expected=1000),),
        log_loss=0.012,
        log_loss_of_base_rate=0.012,
    )
    assert "cross_sell: log loss below the base rate's" in _failed(GOOD.model_copy(update={"calibration": (constant,)}))


def test_coverage() -> None:
    narrow = GOOD.model_copy(update={"coverage": 0.19})
    assert _failed(narrow) == ["active catalogue offered to someone"]
    assert _failed(narrow, config=GateConfig(min_coverage=0.1)) == []


@pytest.mark.parametrize(
    ("field", "value", "name"),
    [("rows_a_day", 699, "rows a day"), ("active_accounts", 349, "active accounts"), ("products", 279, "products")],
)
def test_data_that_shrank_fails(field: str, value: int, name: str) -> None:
    shrunk = GOOD.model_copy(update={"data": WHOLE.model_copy(update={field: value})})
    assert _failed(shrunk) == [f"data: {name}"]
    assert _failed(shrunk, config=GateConfig(max_data_drop=0.5)) == []
    assert _failed(shrunk.model_copy(update={"champion": None}), champion=None) == []
