"""Each rule of the gate, alone: what passes, what fails, and that a constant model fails."""

from __future__ import annotations

import pytest

from training.gate import (
    BinEvidence,
    Comparison,
    DataFacts,
    GateConfig,
    GateEvidence,
    KindCalibration,
    judge_evidence,
    ratio_interval,
)

WHOLE = DataFacts(fingerprint="a", rows_a_day=1000, active_accounts=500, products=400)
CALIBRATED = KindCalibration(
    kind="cross_sell",
    bins=(BinEvidence(observed=1100, expected=1000), BinEvidence(observed=5, expected=50)),
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
    return [check.name for check in judge_evidence(evidence, champion, config) if not check.passed]


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


@pytest.mark.parametrize(("observed", "fails"), [(168, True), (260, True), (232, True), (230, False), (170, False)])
def test_bins_are_judged_where_they_have_enough_purchases(observed: float, fails: bool) -> None:
    bins = (BinEvidence(observed=observed, expected=200),)
    measured = GOOD.model_copy(update={"calibration": (CALIBRATED.model_copy(update={"bins": bins}),)})
    both = ["cross_sell: observed / expected", "cross_sell: observed / expected in each bin"]
    assert _failed(measured) == (both if fails else [])


@pytest.mark.parametrize(("second", "error", "fails"), [(260, 0.09, False), (280, 0.05, True), (290, 0.09, True)])
def test_a_bin_fails_beyond_the_chance_of_its_accounts(second: float, error: float, fails: bool) -> None:
    """1.30 less 1.96 times 0.09 is 1.12; 1.40 less 1.96 times 0.05 is 1.30, 1.45 less 1.96 times 0.09 is 1.27."""
    evidence = _with_bins(
        BinEvidence(observed=800, expected=800, error=error),
        BinEvidence(observed=second, expected=200, error=error),
    )
    assert _failed(evidence) == (["cross_sell: observed / expected in each bin"] if fails else [])


def test_no_chance_excuses_the_whole() -> None:
    """Ten bins that are 20 % short each may be so by chance, together they are not."""
    bins = tuple(BinEvidence(observed=480, expected=400, error=0.09) for _ in range(10))
    assert _failed(_with_bins(*bins)) == ["cross_sell: observed / expected"]


def test_smaller_bins_are_judged_when_asked() -> None:
    strict = GateConfig(min_bin_positives=5)
    assert _failed(GOOD, config=strict) == ["cross_sell: observed / expected in each bin"]
    wide = GateConfig(min_bin_positives=5, calibration_low=0.05, calibration_high=2)
    assert _failed(GOOD, config=wide) == []


def _with_bins(*bins: BinEvidence) -> GateEvidence:
    return GOOD.model_copy(update={"calibration": (CALIBRATED.model_copy(update={"bins": bins}),)})


def test_small_bins_are_judged_as_one() -> None:
    def failed(*observed: float) -> bool:
        return bool(_failed(_with_bins(*(BinEvidence(observed=each, expected=60) for each in observed))))

    assert not failed(50, 62)  # 112 of 120 expected
    assert failed(90, 99)  # 189 of 120 expected


@pytest.mark.parametrize(
    ("observed", "expected", "fails"),
    [(18, 19.6, False), (30, 20, False), (60, 20, True), (40, 120, True), (0, 1, False)],
)
def test_too_few_purchases_fail_only_beyond_chance(observed: float, expected: float, fails: bool) -> None:
    """The exact interval of 18 is 10.7 to 28.4, of 30 it is 20.2 to 42.8, of 60 it is 45.8 to 77.2."""
    evidence = _with_bins(BinEvidence(observed=observed, expected=expected))
    assert _failed(evidence) == (["cross_sell: observed / expected"] if fails else [])


def test_interval_of_a_ratio_against_published_limits() -> None:
    """Ulm (1990), table 1: the exact 95 % limits of a Poisson count of 10 are 4.795 and 18.39."""
    low, high = ratio_interval(10, 2)
    assert low == pytest.approx(4.795 / 2, abs=1e-3)
    assert high == pytest.approx(18.39 / 2, abs=1e-3)
    assert ratio_interval(0, 1) == pytest.approx((0, 3.689), abs=1e-3)


def test_each_kind_that_is_offered_must_be_measured() -> None:
    offered = GOOD.model_copy(update={"kinds": ("cross_sell", "upsell")})
    assert _failed(offered) == ["upsell: calibration holds"]
    assert _failed(offered.model_copy(update={"kinds": ("cross_sell",)})) == []


def test_constant_model_fails() -> None:
    """The base rate for everyone is calibrated overall and worth nothing."""
    constant = KindCalibration(
        kind="cross_sell",
        bins=(BinEvidence(observed=1000, expected=1000),),
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
