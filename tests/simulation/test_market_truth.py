"""The planted truth is in the orders: recovered by arithmetic, and nothing else is there when the rest is off."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.stats import binom, norm, poisson
from sklearn.metrics import average_precision_score

from recsys.contracts import columns as c
from recsys.simulation.catalogue import QUANTITY_EFFECT, TENURE_EFFECT, climb_rate
from recsys.simulation.constants import MarketConfig
from recsys.simulation.market import Market, simulate_market
from recsys.simulation.truth import (
    AVOIDANCE,
    CLIMBED_AT,
    HAZARD,
    LOG_QUANTITY_RATIO,
    STANDING_SINCE,
    STRENGTH,
    SUBSTITUTE_ID,
)
from tests.support.climb_oracle import TENURE_DAYS, climb_probabilities

HORIZON_DAYS = 60


@dataclass(frozen=True)
class Pairs:
    """Co-occurrence over orders: counts of products, of pairs, and what chance gives at these order sizes."""

    ids: NDArray[np.object_]
    counts: NDArray[np.float64]
    together: sp.csr_array
    chance: float  # expected both = n_a n_b sum s(s - 1) / (sum s)^2

    @classmethod
    def of(cls, market: Market) -> Pairs:
        order, _ = pd.factorize(market.orders[c.ORDER_ID])
        ids = market.products[c.PRODUCT_ID].to_numpy(dtype=object)
        product = pd.Index(ids).get_indexer(market.orders[c.PRODUCT_ID])
        baskets = sp.csr_array((np.ones(len(order), dtype=np.float32), (order, product)), (order.max() + 1, len(ids)))
        size = np.asarray(baskets.sum(axis=1)).ravel()
        together = sp.csr_array(baskets.T @ baskets)
        return cls(ids, together.diagonal(), together, float((size * (size - 1)).sum() / size.sum() ** 2))

    def rows(self, ids: pd.Series) -> NDArray[np.intp]:
        return pd.Index(self.ids).get_indexer(pd.Index(ids))

    def both(self, left: NDArray[np.intp], right: NDArray[np.intp]) -> NDArray[np.float64]:
        return np.asarray(self.together[left, right]).ravel()

    def expected(self, left: NDArray[np.intp], right: NDArray[np.intp]) -> NDArray[np.float64]:
        return self.counts[left] * self.counts[right] * self.chance

    def significant(self) -> set[frozenset[str]]:
        """Pairs above chance at a false discovery rate of 5 % over all pairs of the catalogue."""
        upper = sp.triu(self.together, 1).tocoo()
        p = np.asarray(poisson.sf(upper.data - 1, self.expected(upper.row, upper.col)))
        rank = np.argsort(p)
        n_pairs = len(self.ids) * (len(self.ids) - 1) / 2
        passed = np.flatnonzero(p[rank] * n_pairs / np.arange(1, len(p) + 1) <= 0.05)
        chosen = rank[: passed.max() + 1] if len(passed) else rank[:0]
        return {frozenset(pair) for pair in zip(self.ids[upper.row[chosen]], self.ids[upper.col[chosen]], strict=True)}


@pytest.fixture(scope="module")
def bare() -> Market:
    """Nothing but popularity and the planted pairs."""
    return simulate_market(MarketConfig(seed=3, needs=False, seasonality=False, drift=False))


@pytest.fixture(scope="module")
def bare_pairs(bare: Market) -> Pairs:
    return Pairs.of(bare)


@pytest.fixture(scope="module")
def full() -> Market:
    return simulate_market(MarketConfig(n_accounts=8_000, n_products=1_500, seed=3, lines_per_order=10))


class TestComplements:
    def test_confidence_is_strength_plus_chance(self, bare: Market, bare_pairs: Pairs) -> None:
        truth = bare.truth.complements
        a, b = bare_pairs.rows(truth[c.ANTECEDENT_ID]), bare_pairs.rows(truth[c.CONSEQUENT_ID])
        n, both = bare_pairs.counts[a], bare_pairs.both(a, b)
        strength = truth[STRENGTH].to_numpy()
        # Without the pair the consequent is bought on its own: its count less what the pair added.
        alone = (bare_pairs.counts[b] - strength * n) * n * bare_pairs.chance
        expected = strength * (n - alone) + alone
        z = (both - expected) / np.sqrt(n * strength * (1 - strength))
        assert abs(z.mean()) < 0.3
        assert 0.8 < z.std() < 1.25
        assert np.corrcoef(strength, both / n)[0, 1] > 0.95

    def test_pairs_have_a_direction(self, bare: Market, bare_pairs: Pairs) -> None:
        truth = bare.truth.complements
        a, b = bare_pairs.rows(truth[c.ANTECEDENT_ID]), bare_pairs.rows(truth[c.CONSEQUENT_ID])
        consequents = bare.orders[bare.orders[c.PRODUCT_ID].isin(truth[c.CONSEQUENT_ID])]
        assert len(consequents) > 10_000
        # A consequent bought on its own draws nothing in: both = strength x n_a + chance, whatever n_b.
        both, n_a, n_b = bare_pairs.both(a, b), bare_pairs.counts[a], bare_pairs.counts[b]
        by_strength = np.linalg.lstsq(np.column_stack([truth[STRENGTH] * n_a, n_b]), both, rcond=None)[0]
        assert by_strength[0] == pytest.approx(1.0, abs=0.1)
        assert abs(by_strength[1]) < 0.08

    def test_pairs_are_disjoint(self, bare: Market) -> None:
        truth = bare.truth.complements
        products = pd.concat([truth[c.ANTECEDENT_ID], truth[c.CONSEQUENT_ID], bare.truth.substitutes[c.PRODUCT_ID]])
        assert len(truth) == 160
        assert products.is_unique

    def test_nothing_else_stands_together_when_the_rest_is_off(self, bare: Market, bare_pairs: Pairs) -> None:
        truth = bare.truth.complements
        planted = {frozenset(pair) for pair in zip(truth[c.ANTECEDENT_ID], truth[c.CONSEQUENT_ID], strict=True)}
        found = bare_pairs.significant()
        assert len(found & planted) >= 0.98 * len(planted)
        assert len(found - planted) <= 0.05 * len(found)

    def test_all_pairs_together_are_what_chance_gives(self, bare: Market, bare_pairs: Pairs) -> None:
        upper = sp.triu(bare_pairs.together, 1).tocoo()
        planted = set(bare.truth.complements[c.ANTECEDENT_ID]) | set(bare.truth.complements[c.CONSEQUENT_ID])
        free = ~np.isin(bare_pairs.ids, list(planted | set(bare.truth.substitutes[c.PRODUCT_ID])))
        between = free[upper.row] & free[upper.col]
        n = bare_pairs.counts[free]
        expected = (n.sum() ** 2 - (n**2).sum()) / 2 * bare_pairs.chance
        assert upper.data[between].sum() == pytest.approx(expected, rel=0.02)

    def test_control_tastes_make_other_pairs_stand_together(self, full: Market) -> None:
        truth = full.truth.complements
        planted = {frozenset(pair) for pair in zip(truth[c.ANTECEDENT_ID], truth[c.CONSEQUENT_ID], strict=True)}
        found = Pairs.of(full).significant()
        assert len(found & planted) > 0.9 * len(planted)
        assert len(found - planted) > 10 * len(planted)


class TestSubstitutes:
    @pytest.mark.parametrize("needs", [False, True])
    def test_substitutes_stand_together_rarely(self, bare: Market, full: Market, needs: bool) -> None:
        market = full if needs else bare
        pairs, truth = Pairs.of(market), market.truth.substitutes
        once = truth[truth[c.PRODUCT_ID] < truth[SUBSTITUTE_ID]]
        left, right = pairs.rows(once[c.PRODUCT_ID]), pairs.rows(once[SUBSTITUTE_ID])
        expected = pairs.expected(left, right).sum()
        assert expected > 200
        assert pairs.both(left, right).sum() < 2.0 * (1.0 - once[AVOIDANCE].iloc[0]) * expected

    def test_both_directions_stand_in_the_table_and_both_are_alike(self, full: Market) -> None:
        truth = full.truth.substitutes
        pairs = set(zip(truth[c.PRODUCT_ID], truth[SUBSTITUTE_ID], strict=True))
        assert pairs == {(right, left) for left, right in pairs}
        product = full.products.set_index(c.PRODUCT_ID)
        left, right = product.loc[truth[c.PRODUCT_ID]], product.loc[truth[SUBSTITUTE_ID]]
        assert (left[c.FAMILY].to_numpy() == right[c.FAMILY].to_numpy()).all()
        assert np.allclose(left[c.PRICE], right[c.PRICE], rtol=0.05, atol=0.02)

    def test_an_account_keeps_to_its_own_brand(self, full: Market) -> None:
        truth = full.truth.substitutes
        partner = dict(zip(truth[c.PRODUCT_ID], truth[SUBSTITUTE_ID], strict=True))
        lines = full.orders[full.orders[c.PRODUCT_ID].isin(partner)]
        pair = lines[c.PRODUCT_ID].map(lambda product: min(product, partner[product]))
        counts = lines.groupby([lines[c.ACCOUNT_ID], pair])[c.PRODUCT_ID].agg(["size", "nunique"])
        assert (counts[counts["size"] == 2]["nunique"] == 1).mean() > 0.75  # half of them without a preference


class TestHazards:
    def test_the_law_is_the_one_in_the_docstring(self) -> None:
        log_base, ratio = np.log([0.001, 0.001, 0.001]), np.array([0.0, 0.0, 1.0])
        rate = climb_rate(log_base, np.array([0.0, 365.0, 0.0]), ratio)
        assert rate == pytest.approx([0.001, 0.001 * np.exp(TENURE_EFFECT), 0.001 * np.exp(QUANTITY_EFFECT)])

    @pytest.mark.parametrize("day", [300, 480, 660])
    def test_climbs_happen_as_often_as_the_hazards_say(self, full: Market, day: int) -> None:
        scored = with_outcomes(full, day)
        expected, variance = scored[c.PROBABILITY].sum(), (scored[c.PROBABILITY] * (1 - scored[c.PROBABILITY])).sum()
        assert expected > 150
        assert abs(scored["climbs"].sum() - expected) < norm.ppf(0.9995) * np.sqrt(variance)

    def test_each_decile_of_the_probability_is_calibrated(self, full: Market) -> None:
        scored = pd.concat([with_outcomes(full, day) for day in (240, 300, 360, 420, 480, 540, 600, 660)])
        band = pd.qcut(scored[c.PROBABILITY], 10, labels=False)
        for _, group in scored.groupby(band):
            low, high = binom.interval(0.9999, len(group), group[c.PROBABILITY].mean())
            assert low <= group["climbs"].sum() <= high

    def test_the_oracle_ranks_far_better_than_chance(self, full: Market) -> None:
        scored = with_outcomes(full, 660)
        base_rate = scored["climbs"].mean()
        assert average_precision_score(scored["climbs"], scored[c.PROBABILITY]) > 3 * base_rate

    def test_what_can_be_seen_drives_the_climbs(self, full: Market) -> None:
        hazards = full.truth.hazards
        segment = hazards.merge(full.accounts, on=c.ACCOUNT_ID, validate="many_to_one")[c.SEGMENT]
        rate = hazards[HAZARD].groupby(segment.to_numpy()).mean()
        assert rate["hospitality"] > 2 * rate["independent shop"] > 4 * rate["chain store"]
        climbed = hazards[CLIMBED_AT].notna().groupby(hazards[LOG_QUANTITY_RATIO] > 0).mean()
        assert climbed[True] > 1.5 * climbed[False]

    def test_nothing_at_or_after_the_cutoff_is_used(self, full: Market) -> None:
        as_of = full.config.start + timedelta(days=500)
        before = full.orders[full.orders[c.ORDERED_AT] < pd.Timestamp(as_of)]
        cut = climb_probabilities(replace(full, orders=before), as_of, HORIZON_DAYS)
        pd.testing.assert_frame_equal(cut, climb_probabilities(full, as_of, HORIZON_DAYS))

    def test_a_longer_horizon_is_more_probable_and_tenure_counts_from_the_first_purchase(self, full: Market) -> None:
        as_of = full.config.start + timedelta(days=500)
        short, long = climb_probabilities(full, as_of, 30), climb_probabilities(full, as_of, 90)
        assert (long[c.PROBABILITY] > short[c.PROBABILITY]).all()
        key = [c.ACCOUNT_ID, c.FROM_PRODUCT_ID]
        lines = full.orders.rename(columns={c.PRODUCT_ID: c.FROM_PRODUCT_ID})
        lines = lines[lines[c.ORDERED_AT] < pd.Timestamp(as_of)]
        first = lines.groupby([c.ACCOUNT_ID, c.FROM_PRODUCT_ID], as_index=False)[c.ORDERED_AT].min()
        joined = short.merge(first, on=key, validate="one_to_one")
        assert len(joined) == len(short)
        assert ((pd.Timestamp(as_of) - joined[c.ORDERED_AT]).dt.days == joined[TENURE_DAYS]).all()

    def test_a_climb_buys_the_higher_rung_and_the_lower_ones_share_falls(self, full: Market) -> None:
        climbs = full.truth.hazards[full.truth.hazards[CLIMBED_AT].notna()]
        lines = full.orders[[c.ACCOUNT_ID, c.PRODUCT_ID, c.ORDERED_AT]]
        higher = climbs.merge(
            lines, left_on=[c.ACCOUNT_ID, c.TO_PRODUCT_ID], right_on=[c.ACCOUNT_ID, c.PRODUCT_ID], how="left"
        )
        first = higher.groupby([c.ACCOUNT_ID, c.TO_PRODUCT_ID])[c.ORDERED_AT].min()
        assert (first.to_numpy() == climbs.set_index([c.ACCOUNT_ID, c.TO_PRODUCT_ID])[CLIMBED_AT][first.index]).all()
        lower = climbs.merge(lines, left_on=[c.ACCOUNT_ID, c.FROM_PRODUCT_ID], right_on=[c.ACCOUNT_ID, c.PRODUCT_ID])
        n_lower_after = (lower[c.ORDERED_AT] > lower[CLIMBED_AT]).sum()
        n_higher_after = (higher[c.ORDERED_AT] > higher[CLIMBED_AT]).sum()
        assert 0 < n_lower_after < 0.25 * n_higher_after

    def test_a_rung_is_stood_on_before_it_is_left(self, full: Market) -> None:
        hazards = full.truth.hazards
        left = hazards[CLIMBED_AT].notna()
        assert (hazards[CLIMBED_AT][left] > hazards[STANDING_SINCE][left]).all()
        assert not hazards.duplicated([c.ACCOUNT_ID, c.FROM_PRODUCT_ID]).any()
        edges = set(zip(full.upgrades[c.FROM_PRODUCT_ID], full.upgrades[c.TO_PRODUCT_ID], strict=True))
        assert set(zip(hazards[c.FROM_PRODUCT_ID], hazards[c.TO_PRODUCT_ID], strict=True)) <= edges


def with_outcomes(market: Market, day: int) -> pd.DataFrame:
    """The oracle's table at a day of the market, and whether each rung was climbed within the horizon."""
    as_of = market.config.start + timedelta(days=day)
    scored = climb_probabilities(market, as_of, HORIZON_DAYS)
    key = [c.ACCOUNT_ID, c.FROM_PRODUCT_ID]
    joined = scored.merge(market.truth.hazards[[*key, CLIMBED_AT]], on=key, validate="one_to_one")
    end = pd.Timestamp(as_of + timedelta(days=HORIZON_DAYS))
    return scored.assign(climbs=(joined[CLIMBED_AT] < end).to_numpy())
