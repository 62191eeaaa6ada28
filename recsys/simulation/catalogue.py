"""The catalogue: categories, families, tiers, prices, popularity, planted pairs and the law of climbing a ladder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri

from recsys.arrays import FloatArray, IntArray
from recsys.contracts import columns as c
from recsys.simulation import constants
from recsys.simulation.constants import MarketConfig

MAX_RUNGS = len(constants.RUNGS)
_NONE = -1
# Logarithm of the climbing rate a day: base + price step + edge + segment + tenure + quantity.
BASE = -5.9
PRICE_STEP_EFFECT = -2.2  # a unit of log price ratio of the edge
EDGE_SD = 0.05
SEGMENT_EFFECT = (0.0, 1.0, -1.0, 0.5, -1.5)  # in the order of constants.SEGMENTS
TENURE_EFFECT = 1.8  # at a year on the rung and later, linear before
QUANTITY_EFFECT = 1.8  # a unit of the log of the account's usual quantity over the family's
QUANTITY_LIMIT = 1.5


@dataclass(frozen=True)
class Ladders:
    """Families of rungs; F families.

    Attributes:
        rungs: products from the lowest rung up, shape `(F, MAX_RUNGS)`, -1 beyond the top.
        category: of each family, shape `(F,)`, sorted.
        weight: how often accounts need it, shape `(F,)`.
        inclusion: probability that an order of an account with the need replenishes it, shape `(F,)`.
        quantity: usual units a replenishment, shape `(F,)`.
        log_edge: base log rate a day of the edge from each rung to the next, shape `(F, MAX_RUNGS)`; -inf at the top.
    """

    rungs: IntArray
    category: IntArray
    weight: FloatArray
    inclusion: FloatArray
    quantity: FloatArray
    log_edge: FloatArray

    def __len__(self) -> int:
        return len(self.category)

    def edges(self) -> tuple[IntArray, IntArray]:
        """Return family and lower rung (0 first) of each upgrade edge."""
        family, rung = np.nonzero(np.isfinite(self.log_edge))
        return family, rung


def build_ladders(
    category: IntArray,
    family: IntArray,
    tier: IntArray,
    price: FloatArray,
    popularity: FloatArray,
    rng: np.random.Generator,
) -> Ladders:
    """Return the ladders of a catalogue whose arrays have shape `(n_products,)`."""
    lowest = np.flatnonzero(tier == 1)
    size = np.bincount(family[tier > 0], minlength=int(family[-1]) + 1)[family[lowest]]
    steps = np.arange(MAX_RUNGS)
    rungs = np.where(steps < size[:, None], lowest[:, None] + steps, _NONE)
    has_next = steps < size[:, None] - 1
    upper = np.where(has_next, rungs + 1, rungs)
    ratio = np.log(price[upper] / price[rungs])
    noise = rng.normal(0.0, EDGE_SD, rungs.shape)
    return Ladders(
        rungs=rungs,
        category=category[lowest],
        weight=popularity[lowest],
        inclusion=rng.uniform(0.45, 0.70, len(lowest)),
        quantity=np.exp(rng.normal(2.4, 0.15, len(lowest))),
        log_edge=np.where(has_next, BASE + PRICE_STEP_EFFECT * ratio + noise, -np.inf),
    )


def climb_rate(log_base: FloatArray, tenure_days: FloatArray, log_quantity_ratio: FloatArray) -> FloatArray:
    """Return the hazard of wanting the next rung, a day.

    exp(log_base + TENURE_EFFECT min(tenure / 365, 1) + QUANTITY_EFFECT clip(log_quantity_ratio)), where `log_base`
    is the edge's log rate plus the segment's effect, tenure is the whole days on the rung, and `log_quantity_ratio`
    the log of the account's usual quantity over the family's, clipped at `QUANTITY_LIMIT` on both sides.
    """
    tenure = TENURE_EFFECT * np.minimum(tenure_days / 365.0, 1.0)
    quantity = QUANTITY_EFFECT * np.clip(log_quantity_ratio, -QUANTITY_LIMIT, QUANTITY_LIMIT)
    return np.exp(log_base + tenure + quantity)


def segment_effect(segment: IntArray) -> FloatArray:
    """Return the segment's part of the log rate."""
    effects: NDArray[np.float64] = np.asarray(SEGMENT_EFFECT)
    return effects[segment]


NONE = -1
COMPLEMENT_STRENGTH = (0.10, 0.50)
SUBSTITUTE_AVOIDANCE = 0.95
_N_CATEGORIES = len(constants.CATEGORIES)
_FAMILY_SIZES = (0.35, 0.25, 0.18, 0.12, 0.10)  # of 1 to 5 colours
_SHARE_LAUNCHED = 0.30
_SHARE_RETIRED = 0.20
_SHARE_SEASONAL = 0.10
_GROWTH_SD_A_YEAR = 0.40


@dataclass(frozen=True)
class Catalogue:
    """Products as arrays of shape `(n_products,)`, sorted by category.

    Attributes:
        ids: product ids.
        names: one name a product.
        category: number of the category.
        category_start: shape `(n_categories + 1,)`, where each category begins.
        family: number of the family; a family lies in one category.
        tier: rung of the ladder, 1 lowest; 0 for products that stand on no ladder.
        price: money a unit.
        cost: money a unit.
        popularity: share of the lines in an average period.
        launched: day of the market from which it is sold; below zero for products that stood before.
        retired: day of the market from which it is no longer sold.
        growth: change of the logarithm of popularity a year.
        season: 0 none, 1 winter, 2 summer.
        consequent: product that this one draws into its orders, -1 for none.
        strength: probability with which it does.
        substitute: the product that replaces this one, -1 for none.
        ladders: the families whose products are rungs.
    """

    ids: NDArray[np.object_]
    names: NDArray[np.object_]
    category: IntArray
    category_start: IntArray
    family: IntArray
    tier: IntArray
    price: FloatArray
    cost: FloatArray
    popularity: FloatArray
    launched: FloatArray
    retired: FloatArray
    growth: FloatArray
    season: IntArray
    consequent: IntArray
    strength: FloatArray
    substitute: IntArray
    ladders: Ladders

    def __len__(self) -> int:
        return len(self.ids)


def build_catalogue(config: MarketConfig) -> Catalogue:
    """Return the catalogue of a market; it depends on seed, number of products, days and shares alone."""
    rng = np.random.default_rng(np.random.SeedSequence([config.seed, 0xCA7A]))
    category, family, tier = _families(config, rng)
    ladder = tier > 0
    popularity = _popularity(len(category), rng)
    substitute = _substitutes(config, family, ladder, rng)
    _equalise(popularity, substitute)
    consequent, strength = _complements(config, popularity, ladder | (substitute != NONE), rng)
    planted = ladder | (substitute != NONE) | (consequent != NONE) | np.isin(np.arange(len(category)), consequent)
    launched, retired = _lifetimes(config, planted, rng)
    price = _prices(family, tier, rng)
    return Catalogue(
        ids=np.array([f"P{number:06d}" for number in range(1, len(category) + 1)], dtype=object),
        names=_names(category, family, tier),
        category=category,
        category_start=np.searchsorted(category, np.arange(_N_CATEGORIES + 1)),
        family=family,
        tier=tier,
        price=price,
        cost=np.round(price * rng.uniform(0.45, 0.80, len(price)), 2),
        popularity=popularity,
        launched=launched,
        retired=retired,
        growth=np.where(planted, 0.0, rng.normal(0.0, _GROWTH_SD_A_YEAR, len(category))),
        season=_seasons(category, planted, rng),
        consequent=consequent,
        strength=strength,
        substitute=substitute,
        ladders=build_ladders(category, family, tier, price, popularity, rng),
    )


def products_frame(catalogue: Catalogue, config: MarketConfig) -> pd.DataFrame:
    """Return the products table, one row a product, in contract columns."""
    rng = np.random.default_rng(np.random.SeedSequence([config.seed, 0x570C]))
    n = len(catalogue)
    labels = np.array(list(constants.CATEGORIES), dtype=object)
    return pd.DataFrame(
        {
            c.PRODUCT_ID: catalogue.ids,
            c.NAME: catalogue.names,
            c.CATEGORY: labels[catalogue.category],
            c.FAMILY: family_labels(catalogue.family),
            c.TIER: np.array([str(tier) if tier else None for tier in catalogue.tier], dtype=object),
            c.PRICE: catalogue.price,
            c.COST: catalogue.cost,
            c.ACTIVE: catalogue.retired >= config.days if config.drift else np.ones(n, dtype=bool),
            c.STOCK: rng.integers(20, 2_000, n).astype(np.float64),
            c.DO_NOT_OFFER: np.zeros(n, dtype=bool),
        }
    )


def _families(config: MarketConfig, rng: np.random.Generator) -> tuple[IntArray, IntArray, IntArray]:
    """Return category, family and tier of each product, sorted by category."""
    ladder_sizes = _sizes(round(config.ladder_share * config.n_products), 2, (0.4, 0.45, 0.15), rng)
    plain_sizes = _sizes(config.n_products - int(ladder_sizes.sum()), 1, _FAMILY_SIZES, rng)
    sizes = np.concatenate([ladder_sizes, plain_sizes])
    on_ladder = np.arange(len(sizes)) < len(ladder_sizes)
    share = rng.dirichlet(np.full(_N_CATEGORIES, 6.0))
    category = rng.choice(_N_CATEGORIES, size=len(sizes), p=share)
    order = np.lexsort((rng.random(len(sizes)), category))
    sizes, on_ladder, category = sizes[order], on_ladder[order], category[order]
    family = np.repeat(np.arange(len(sizes)), sizes)
    position = np.arange(len(family)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.repeat(category, sizes), family, np.where(on_ladder[family], position + 1, 0)


def _sizes(total: int, smallest: int, shares: tuple[float, ...], rng: np.random.Generator) -> IntArray:
    """Return family sizes that add up to `total`, or a little less where the rest is below the smallest."""
    draws = smallest + rng.choice(len(shares), size=total // smallest + 1, p=shares)
    kept = draws[np.cumsum(draws) <= total]
    rest = total - int(kept.sum())
    return np.append(kept, rest) if rest >= smallest else kept


def _popularity(n: int, rng: np.random.Generator) -> FloatArray:
    """Return shares of the lines in random order, on the curve of Online Retail II."""
    score = -ndtri((np.arange(n) + 0.5) / n)
    share = np.exp(np.polynomial.polynomial.polyval(score, constants.LOG_POPULARITY))
    return np.asarray(rng.permutation(share / share.sum()), dtype=np.float64)


def _substitutes(
    config: MarketConfig, family: IntArray, ladder: NDArray[np.bool_], rng: np.random.Generator
) -> IntArray:
    """Return the partner of each product: the first two colours of some families."""
    first = np.flatnonzero((family[1:] == family[:-1]) & ~ladder[1:])
    first = first[np.searchsorted(family, family[first]) == first]
    chosen = rng.permutation(first)[: round(config.substitute_share * config.n_products / 2)]
    partner = np.full(len(family), NONE)
    partner[chosen], partner[chosen + 1] = chosen + 1, chosen
    return partner


def _equalise(popularity: FloatArray, substitute: IntArray) -> None:
    """Give two substitutes the popularity of the more popular one, so that their absence together can be seen."""
    left = np.flatnonzero(substitute != NONE)
    popularity[left] = np.maximum(popularity[left], popularity[substitute[left]])
    popularity /= popularity.sum()


def _complements(
    config: MarketConfig, popularity: FloatArray, taken: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[IntArray, FloatArray]:
    """Return consequent and strength of each product; pairs are disjoint, so that planted pairs never chain."""
    n_pairs = round(config.complement_share * config.n_products / 2)
    free = np.flatnonzero(~taken)
    ranked = free[np.argsort(-popularity[free], kind="stable")]
    pool = rng.permutation(ranked[: max(2 * n_pairs, len(ranked) // 2)])[: 2 * n_pairs].reshape(2, -1)
    antecedent = np.where(popularity[pool[0]] >= popularity[pool[1]], pool[0], pool[1])
    consequent = np.full(len(popularity), NONE)
    consequent[antecedent] = pool.sum(axis=0) - antecedent
    strength = np.where(consequent != NONE, rng.uniform(*COMPLEMENT_STRENGTH, len(popularity)), 0.0)
    return consequent, strength


def _lifetimes(
    config: MarketConfig, evergreen: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    n = len(evergreen)
    launched = np.where(rng.random(n) < _SHARE_LAUNCHED, rng.uniform(0, config.days, n), -1.0)
    retired = np.where(rng.random(n) < _SHARE_RETIRED, rng.uniform(0, config.days, n), np.inf)
    retired = np.where(retired > launched + 60, retired, np.inf)
    return np.where(evergreen, -1.0, launched), np.where(evergreen, np.inf, retired)


def _seasons(category: IntArray, evergreen: NDArray[np.bool_], rng: np.random.Generator) -> IntArray:
    labels = list(constants.CATEGORIES)
    season = np.where(rng.random(len(category)) < _SHARE_SEASONAL, rng.integers(1, 3, len(category)), 0)
    season = np.where(category == labels.index("Christmas"), 1, season)
    season = np.where(np.isin(category, [labels.index("Garden"), labels.index("Outdoor")]), 2, season)
    return np.where(evergreen, 0, season)


def _prices(family: IntArray, tier: IntArray, rng: np.random.Generator) -> FloatArray:
    """Return prices: colours of a family cost nearly the same, each rung 1.25 to 2.0 times the one below."""
    n = len(family)
    base = np.exp(rng.normal(constants.LOG_PRICE_MEAN, constants.LOG_PRICE_SD, int(family[-1]) + 1))[family]
    step = np.where(tier > 1, np.log(rng.uniform(1.25, 2.0, n)), 0.0)
    total = np.cumsum(step)
    first = np.searchsorted(family, family)
    climb = np.exp(total - total[first])
    ripple = np.where(tier > 0, 1.0, rng.uniform(0.98, 1.02, n))
    return np.asarray(np.maximum(np.round(base * climb * ripple, 2), 0.05), dtype=np.float64)


def _names(category: IntArray, family: IntArray, tier: IntArray) -> NDArray[np.object_]:
    first_family = family[np.searchsorted(category, category)]
    position = np.arange(len(family)) - np.searchsorted(family, family)
    stems = [
        constants.family_name(int(kind), int(number))
        for kind, number in zip(category, family - first_family, strict=True)
    ]
    ends = [
        constants.RUNGS[rung - 1] if rung else constants.COLOURS[place]
        for rung, place in zip(tier, position, strict=True)
    ]
    return np.array([f"{stem} {end}" for stem, end in zip(stems, ends, strict=True)], dtype=object)


def family_labels(family: IntArray) -> NDArray[np.object_]:
    """Return the ids of families."""
    return np.array([f"F{number + 1:05d}" for number in family], dtype=object)
