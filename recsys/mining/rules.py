"""Association rules A -> B over orders: counted, measured, tested, and told apart into complements and substitutes.

Significance and lift filter and explain. They never rank: the order of the frame is by confidence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import ibis
import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import Field
from statsmodels.stats.proportion import proportion_confint

from recsys.arrays import FloatArray, IntArray
from recsys.contracts import columns as c
from recsys.contracts.config import Config, given_config
from recsys.data.dataset import Dataset, as_dataset
from recsys.data.sources import DataSource
from recsys.mining.counting import (
    Margins,
    PairCounts,
    number_baskets,
    pair_counts,
    read_given_pairs,
    read_margins,
    read_pairs,
    read_product_ids,
)
from recsys.mining.significance import (
    NullModel,
    PairNull,
    RepeatPurchaseNull,
    false_discovery_rate,
    fit_null,
    read_habits,
    tail_above,
    tail_below,
)
from recsys.mining.similarity import LikenessConfig, alike_pairs

Counts = NDArray[np.int64]


def measure(n_orders: int, n_antecedent: Counts, n_consequent: Counts, n_both: Counts) -> dict[str, FloatArray]:
    """Return each measure of the rules A -> B under its column name, arrays of shape `(n_rules,)`.

    With P(A), P(B), P(AB) the shares of orders that hold A, B, both (A and B each in at least one order)::

        support     P(AB)                       confidence  P(AB) / P(A)
        lift        P(AB) / (P(A) P(B))         leverage    P(AB) - P(A) P(B)
        conviction  (1 - P(B)) / (1 - confidence), infinite where the confidence is 1
        zhang       leverage / max(P(AB) (1 - P(A)), P(A) (P(B) - P(AB))), 0 where both are 0
        jaccard     P(AB) / (P(A) + P(B) - P(AB))
        certainty   (confidence - P(B)) / (1 - P(B)), 0 where P(B) is 1
        kulczynski  (P(AB) / P(A) + P(AB) / P(B)) / 2
        cosine      P(AB) / sqrt(P(A) P(B))

    Lift, leverage, Jaccard, Kulczynski and cosine are symmetric.

    Source: Tan, Kumar, Srivastava 2004, table 6; Zhang 2000 for Zhang's measure; conviction from Brin et al. 1997.
    """
    a, b, both = n_antecedent / n_orders, n_consequent / n_orders, n_both / n_orders
    confidence = n_both / n_antecedent
    leverage = both - a * b
    return {
        c.SUPPORT: both,
        c.CONFIDENCE: confidence,
        c.LIFT: confidence / b,
        c.LEVERAGE: leverage,
        c.CONVICTION: _ratio(1 - b, 1 - confidence, otherwise=np.inf),
        c.ZHANG: _ratio(leverage, np.maximum(both * (1 - a), a * (b - both)), otherwise=0.0),
        c.JACCARD: n_both / (n_antecedent + n_consequent - n_both),
        c.CERTAINTY: _ratio(confidence - b, 1 - b, otherwise=0.0),
        c.KULCZYNSKI: (confidence + n_both / n_consequent) / 2,
        c.COSINE: n_both / np.sqrt(n_antecedent.astype(np.float64) * n_consequent),
    }


def _ratio(top: FloatArray, bottom: FloatArray, otherwise: float) -> FloatArray:
    out = np.full(len(top), otherwise)
    np.divide(top, bottom, out=out, where=bottom > 0)
    return out


Relation = Literal["complement", "substitute", "none"]
Tail = Callable[[IntArray, FloatArray], FloatArray]

RULE_COLUMNS: tuple[str, ...] = (
    c.ANTECEDENT_ID,
    c.CONSEQUENT_ID,
    c.N_ORDERS,
    c.N_ANTECEDENT,
    c.N_CONSEQUENT,
    c.N_BOTH,
    c.SUPPORT,
    c.CONFIDENCE,
    c.CONFIDENCE_LOW,
    c.CONFIDENCE_HIGH,
    c.LIFT,
    c.LEVERAGE,
    c.CONVICTION,
    c.ZHANG,
    c.JACCARD,
    c.CERTAINTY,
    c.KULCZYNSKI,
    c.COSINE,
    c.EXPECTED_BOTH,
    c.P_VALUE,
    c.Q_VALUE,
    c.HOLDS_IN_BOTH_HALVES,
    c.RELATION,
)


class RuleConfig(Config):
    """What makes a rule.

    Attributes:
        min_product_orders: orders that must hold a product before any pair with it is tested; 5 is the fewest a
            reason may rest on.
        min_both: orders that must hold both products of a complement; 5 likewise. Pairs below it are tested as
            "not together" and stay in the family.
        min_expected: orders that chance alone would give an alike pair, below which its absence says nothing.
        min_excess: a complement's count is at least so many times what chance alone would give, a substitute's at most
            that part of it; in millions of orders a few per cent are significant and worth nothing.
        min_confidence: rules below it are left out, in [0, 1]; substitutes stay.
        max_q_value: the false discovery rate among the complements, and among the substitutes.
        max_half_p_value: a relation holds in both halves of the period when each half alone shows it at this level.
        confidence_level: of the Wilson interval of the confidence.
        periods_a_half: within how many parts of equal order count, a half, popularity is taken as constant; more
            parts tell fashion and season from complements, but cost certainty where orders are few.
        null: how chance is modelled; see `recsys.mining.significance`.
        within_accounts: a complement is together more often than each account's own habits explain, too (see
            `recsys.mining.significance`); without it, products that the same accounts need count as complements.
        keep: `significant` keeps complements and substitutes, `all` every pair with `min_both` orders too.
        likeness: when two products are alike enough to be substitutes.
    """

    min_product_orders: int = Field(5, ge=1)
    min_both: int = Field(5, ge=1)
    min_expected: float = Field(5.0, gt=0)
    min_excess: float = Field(1.2, ge=1)
    min_confidence: float = Field(0.0, ge=0, le=1)
    max_q_value: float = Field(0.01, gt=0, lt=1)
    max_half_p_value: float = Field(0.05, gt=0, lt=1)
    confidence_level: float = Field(0.95, gt=0, lt=1)
    periods_a_half: int = Field(4, ge=1)
    null: NullModel = "saturating"
    within_accounts: bool = True
    keep: Literal["significant", "all"] = "significant"
    likeness: LikenessConfig = LikenessConfig()


@dataclass(frozen=True)
class _Tested:
    """Unordered pairs and what their test said; parallel arrays of shape `(n_pairs,)`."""

    pairs: PairCounts
    expected: FloatArray
    p_value: FloatArray
    q_value: FloatArray
    holds: NDArray[np.bool_]

    @property
    def excess(self) -> FloatArray:
        return self.pairs.n_both / self.expected

    def take(self, keep: NDArray[np.bool_]) -> _Tested:
        return _Tested(
            self.pairs.take(keep), self.expected[keep], self.p_value[keep], self.q_value[keep], self.holds[keep]
        )


@dataclass(frozen=True)
class Rules:
    """Mined pairs of products, both directions.

    Attributes:
        frame: one row a rule, columns `RULE_COLUMNS`, sorted by antecedent, then confidence.
    """

    frame: pd.DataFrame

    def __len__(self) -> int:
        return len(self.frame)

    def to_frame(self) -> pd.DataFrame:
        """Return one row a rule, columns `RULE_COLUMNS`; the caller may change it."""
        return self.frame.copy()


def mine_rules(data: Dataset | DataSource, config: RuleConfig | None = None) -> Rules:
    """Return the rules between products that stand together in orders; see `rules_frame` for what they say.

    Args:
        data: cleaned purchase history, or order lines in contract columns.
        config: what makes a rule.

    Raises:
        DataError: the order lines can't be read, or none can be used.
    """
    known = as_dataset(data)
    return Rules(rules_frame(known.orders, given_config(config, RuleConfig), known.products))


def rules_frame(orders: ibis.Table, config: RuleConfig, products: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return the rules between products that stand together in orders, both directions, `RULE_COLUMNS`.

    Sorted by antecedent, then confidence (greatest first), count of both, consequent. `p_value` and `q_value` are of
    "together more often than chance", for substitutes of "more rarely"; chance keeps the size of every order and the
    popularity of every product (see `recsys.mining.significance`). The family of the false discovery rate is every
    pair of products with `min_product_orders` orders, ever together or not; for substitutes, every such pair that is
    alike and expected together `min_expected` times. One order or one product gives an empty frame with the same
    columns and types.

    Args:
        orders: cleaned lines, contract columns `order_id product_id ordered_at` and, for habits, `account_id`.
        config: what makes a rule.
        products: contract columns `product_id` and, where known, `name category`: what tells alternatives.

    Raises:
        EmptyDataError: there is no order at all.
    """
    n_periods = 2 * config.periods_a_half
    baskets = number_baskets(orders, n_periods=n_periods).cache()
    margins = read_margins(baskets, read_product_ids(orders))
    eligible = margins.n_with.sum(axis=0) >= config.min_product_orders
    null = fit_null(margins, config.null)
    counted = pair_counts(baskets, n_periods=n_periods).cache()

    found = read_pairs(counted, min_both=config.min_both)
    found = found.take(eligible[found.left] & eligible[found.right])
    n_eligible = int(eligible.sum())
    habits = read_habits(baskets, len(eligible)) if config.within_accounts and c.ACCOUNT_ID in orders.columns else None
    above = _test_above(found, null, habits, n_eligible * (n_eligible - 1) // 2, config)
    companions = _companions(above, len(eligible), config)
    left, right = alike_pairs(products, margins.product_ids, companions, config.likeness)
    testable = eligible[left] & eligible[right] & (null.expected(left, right)[0] >= config.min_expected)
    alike = read_given_pairs(counted, left[testable], right[testable])
    below = _test_below(alike, null, config)
    return _to_frame(_relate(above, below, config), margins, config)


def _companions(tested: _Tested, n_products: int, config: RuleConfig) -> sp.csr_array:
    """Return log(count / expected) of the significant pairs, symmetric, `(n_products, n_products)`."""
    strong = tested.take(tested.q_value <= config.max_q_value)
    weight = np.log(strong.pairs.n_both / strong.expected)
    half = sp.coo_array((weight, (strong.pairs.left, strong.pairs.right)), shape=(n_products, n_products))
    return sp.csr_array(half + half.T)


def _test_above(
    pairs: PairCounts, null: PairNull, habits: RepeatPurchaseNull | None, n_tests: int, config: RuleConfig
) -> _Tested:
    expected, first = null.expected(pairs.left, pairs.right)
    p_value = tail_above(pairs.n_both, expected)
    if habits is not None:
        # Both nulls must fail: the larger p-value counts. A larger one only raises all q-values, so that pairs which
        # one null explains already need no second test.
        asked = false_discovery_rate(p_value, n_tests) <= config.max_q_value
        again = habits.tail_above(pairs.left[asked], pairs.right[asked], pairs.n_both[asked])
        p_value[asked] = np.maximum(p_value[asked], again)
    holds = _holds(pairs, expected, first, tail_above, config)
    return _Tested(pairs, expected, p_value, false_discovery_rate(p_value, n_tests), holds)


def _test_below(pairs: PairCounts, null: PairNull, config: RuleConfig) -> _Tested:
    expected, first = null.expected(pairs.left, pairs.right)
    p_value = tail_below(pairs.n_both, expected)
    holds = _holds(pairs, expected, first, tail_below, config)
    return _Tested(pairs, expected, p_value, false_discovery_rate(p_value, len(pairs)), holds)


def _holds(
    pairs: PairCounts, expected: FloatArray, first: FloatArray, tail: Tail, config: RuleConfig
) -> NDArray[np.bool_]:
    in_first = tail(pairs.n_first_half, first)
    in_second = tail(pairs.n_both - pairs.n_first_half, expected - first)
    return np.maximum(in_first, in_second) <= config.max_half_p_value


def _relate(above: _Tested, below: _Tested, config: RuleConfig) -> list[tuple[_Tested, Relation]]:
    """Return the tested pairs to keep, by relation; a pair has one relation only."""
    complement = (above.q_value <= config.max_q_value) & (above.excess >= config.min_excess)
    substitute = (below.q_value <= config.max_q_value) & (below.excess <= 1 / config.min_excess)
    kept: list[tuple[_Tested, Relation]] = [
        (above.take(complement), "complement"),
        (below.take(substitute), "substitute"),
    ]
    if config.keep == "all":
        rare = set(zip(below.pairs.left[substitute], below.pairs.right[substitute], strict=True))
        pairs = zip(above.pairs.left, above.pairs.right, strict=True)
        rest = ~complement & np.fromiter((pair not in rare for pair in pairs), bool, len(complement))
        kept.append((above.take(rest), "none"))
    return kept


def _to_frame(kept: list[tuple[_Tested, Relation]], margins: Margins, config: RuleConfig) -> pd.DataFrame:
    """Return both directions of the kept pairs as one sorted frame."""
    directions = [
        _directed(tested, relation, margins, config, turned=turned) for tested, relation in kept for turned in (0, 1)
    ]
    rules = pd.concat(directions, ignore_index=True)
    rules = rules[(rules[c.CONFIDENCE] >= config.min_confidence) | (rules[c.RELATION] == "substitute")]
    by = [c.ANTECEDENT_ID, c.CONFIDENCE, c.N_BOTH, c.CONSEQUENT_ID]
    return rules.sort_values(by, ascending=[True, False, False, True], ignore_index=True)


def _directed(
    tested: _Tested, relation: Relation, margins: Margins, config: RuleConfig, *, turned: int
) -> pd.DataFrame:
    pairs = tested.pairs
    a, b = (pairs.right, pairs.left) if turned else (pairs.left, pairs.right)
    n_with, n_orders = margins.n_with.sum(axis=0), int(margins.n_orders.sum())
    low, high = proportion_confint(pairs.n_both, n_with[a], alpha=1 - config.confidence_level, method="wilson")
    columns = {
        c.ANTECEDENT_ID: margins.product_ids[a],
        c.CONSEQUENT_ID: margins.product_ids[b],
        c.N_ORDERS: np.full(len(pairs), n_orders, dtype=np.int64),
        c.N_ANTECEDENT: n_with[a],
        c.N_CONSEQUENT: n_with[b],
        c.N_BOTH: pairs.n_both,
        c.CONFIDENCE_LOW: low,
        c.CONFIDENCE_HIGH: high,
        c.EXPECTED_BOTH: tested.expected,
        c.P_VALUE: tested.p_value,
        c.Q_VALUE: tested.q_value,
        c.HOLDS_IN_BOTH_HALVES: tested.holds,
        c.RELATION: pd.array([relation] * len(pairs), dtype="str"),
        **measure(n_orders, n_with[a], n_with[b], pairs.n_both),
    }
    frame = pd.DataFrame(columns)[list(RULE_COLUMNS)]
    return frame.astype({c.ANTECEDENT_ID: "str", c.CONSEQUENT_ID: "str"})
