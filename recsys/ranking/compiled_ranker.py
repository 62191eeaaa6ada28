"""Ranks the usual request in microseconds: what `OfferEngine` would answer, as rows and numbers instead of offers."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable
from operator import attrgetter
from threading import Lock
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.contracts.offers import EMPTY_STATE, KINDS, AccountState, OfferKind, OfferRequest
from recsys.offer_model.tables import Float64, Int32
from recsys.ranking import kernel
from recsys.ranking.active_rules import AppliedRules, segment_name
from recsys.ranking.compiling import ColumnAddresses
from recsys.ranking.eligibility import RULE_PREFIX
from recsys.ranking.engine import OfferEngine
from recsys.ranking.explanations import shortfall_sentence
from recsys.ranking.kernel import TIER_ACCOUNT, TIER_CART, TIER_POPULAR, TIER_RECENT
from recsys.ranking.live_catalogue import REFUSALS

_MOST_ROWS: Final = 4_096
"""Rows that one question may name: cart, exclusions, what is withheld, blocked and bought."""
_MOST_OFFERS: Final = 1_000
_MOST_REFUSED: Final = 4_096
_MOST_CANDIDATES: Final = 100_000
"""Working memory of some 8 MB, of which a usual request touches the first 30 kB."""
_CELLS: Final = 4_096
"""Of the table that says where the curve's knots are; the search then looks at one or two."""
_KINDS: Final[dict[tuple[OfferKind, ...], int]] = {
    KINDS: kernel.KIND_CROSS_SELL | kernel.KIND_UPSELL,
    KINDS[::-1]: kernel.KIND_CROSS_SELL | kernel.KIND_UPSELL,
    KINDS[:1]: kernel.KIND_CROSS_SELL,
    KINDS[1:]: kernel.KIND_UPSELL,
}


class RankedSlate(NamedTuple):
    """The ranked answer to one request.

    Attributes:
        ids: product, origin, evidence, tier, rule, antecedent of the first offer, then of the second, and so on: rows
            of the model's tables, -1 for none.
        numbers: price, probability, expected quantity, expected value and score of the first offer, and so on.
        segment: row of the segment that was answered.
        tier: position in `pool.TIERS` of the best evidence.
        unknown: product ids of the request that the model does not know.
        n_considered: candidates that were looked at.
        shortfall: why fewer came than were asked for; None when all came.
        refused: product id -> why a candidate was not offered, for reasons that change.
    """

    ids: list[int]
    numbers: list[float]
    segment: int
    tier: int
    unknown: tuple[str, ...]
    n_considered: int
    shortfall: str | None
    refused: dict[str, str]


class CompiledRanker:
    """Answers usual requests from the tables of one engine, and from what is in force in it.

    Usual is what a storefront and a sales tool ask: ranked by conversion, whatever account, cart and exclusions, and
    without filters; with business rules that block, not with those that pin, require, boost or discount. The first one
    on a machine compiles the kernel, some ten seconds; later processes read it from numba's cache.
    """

    def __init__(self, engine: OfferEngine) -> None:
        self._engine = engine
        self._row = engine.catalogue.row
        self._lock = Lock()
        self._columns = _columns(engine)
        self._book = ColumnAddresses(list(self._columns.values()), list(kernel.COLUMNS.values()))
        # A list goes into a memoryview by way of an array in a third of the time that numpy takes for it.
        self._ask = memoryview(self._columns["ask"].data).cast("B").cast("q")
        self._units = memoryview(self._columns["units"].data).cast("B").cast("d")
        self._told, self._refused = self._columns["told"], self._columns["refused"]
        self._offers, self._numbers = self._columns["offers"], self._columns["offer_numbers"]
        self.rank(OfferRequest(limit=1), EMPTY_STATE)  # compiles the kernel here, not while somebody waits

    def rank(self, request: OfferRequest, state: AccountState) -> RankedSlate | None:
        """Return what the engine would answer; None where the request is not a usual one, and the engine must say."""
        if not _is_usual(request, state):
            return None
        effect = self._effect(request, state)
        if effect is not None and (effect.told or effect.places or len(effect.pinned)):
            return None
        quantities, unknown = self._cart(request)
        excluded = self._known(request.exclude) if request.exclude else []
        withheld = self._known(state.withheld) if state.withheld else []
        blocked = [] if effect is None else effect.blocked.tolist()
        bought = self._known(state.bought) if state.bought else []
        asked = [
            request.account_id is not None and not state.is_forgotten,
            request.limit,
            _KINDS[request.kinds],
            request.new_only,
            -1 if state.segment is None else self._engine.segment_row(state.segment),
            state.do_not_offer is None,
            *(len(quantities), len(excluded), len(withheld), len(blocked), len(bought)),
            *(*quantities, *excluded, *withheld, *blocked, *bought),
        ]
        if len(asked) > _MOST_ROWS:
            return None
        with self._lock:
            self._ask[: len(asked)] = array("q", asked)
            if quantities:
                self._units[: len(quantities)] = array("d", quantities.values())
            n = kernel.rank(self._book.address, _key(request))
            return None if n < 0 else self._slate(n, request, len(quantities), unknown, effect)

    def _effect(self, request: OfferRequest, state: AccountState) -> AppliedRules | None:
        rules = self._engine.rules
        if rules is None:
            return None
        name = state.segment
        if name is None and request.account_id is not None and not state.is_forgotten:
            model = self._engine.model
            row = model.accounts.ids.find(request.account_id)
            name = segment_name(model, int(model.accounts.segment[row])) if row >= 0 else None
        return rules.effect(name, request.region or state.region, request.channel)

    def _cart(self, request: OfferRequest) -> tuple[dict[int, float], tuple[str, ...]]:
        """Units by row of the cart's products and of the viewed one, and what is not known."""
        units: dict[int, float] = {}
        unknown: dict[str, None] = {}
        for line in request.cart:
            row = self._row(line.product_id)
            if row < 0:
                unknown[line.product_id] = None
            else:
                units[row] = units.get(row, 0.0) + line.quantity
        viewed = request.viewed_product_id
        if viewed is not None:
            row = self._row(viewed)
            if row < 0:
                unknown[viewed] = None
            else:
                units.setdefault(row, 1.0)
        return units, tuple(unknown)

    def _known(self, product_ids: Iterable[str]) -> list[int]:
        return [row for row in map(self._row, product_ids) if row >= 0]

    def _slate(
        self, n: int, request: OfferRequest, n_cart: int, unknown: tuple[str, ...], effect: AppliedRules | None
    ) -> RankedSlate | None:
        told: list[int] = self._told.tolist()
        n_considered, n_refused = told[kernel.TOLD_CONSIDERED], told[kernel.TOLD_REFUSED]
        if n_refused > _MOST_REFUSED:
            return None
        ids: list[int] = self._offers[: kernel.N_IDS * n].tolist()
        if n:
            tier = min(ids[kernel.ROW_TIER :: kernel.N_IDS])
        elif told[kernel.TOLD_ACCOUNT] >= 0:
            tier = TIER_ACCOUNT
        else:
            tier = TIER_RECENT if told[kernel.TOLD_RECENT] else TIER_CART if n_cart else TIER_POPULAR
        shortfall = None
        if n < request.limit:
            barred = Counter(dict(zip(kernel.FILTERS, told[kernel.TOLD_BARRED :], strict=True)))
            shortfall = shortfall_sentence(request.limit, n, n_considered, barred)
        return RankedSlate(
            ids,
            self._numbers[: kernel.N_NUMBERS * n].tolist(),
            told[kernel.TOLD_SEGMENT],
            tier,
            unknown,
            n_considered,
            shortfall,
            self._spoken(self._refused[:n_refused].tolist(), effect) if n_refused else {},
        )

    def _spoken(self, refused: list[int], effect: AppliedRules | None) -> dict[str, str]:
        """Refused products by id; a business rule is named."""
        catalogue = self._engine.catalogue
        blocking = {} if effect is None else effect.blocking
        codes = [int(catalogue.refusal[row]) for row in refused]
        return {
            catalogue.ids[row]: REFUSALS[code] if code else f"{RULE_PREFIX}{blocking[row]}"
            for row, code in zip(refused, codes, strict=True)
        }


def compile_kernel() -> None:
    """Let numba compile the kernel and keep it, which the first start of a server would do else."""
    from recsys.ranking.synthetic import SyntheticModelConfig, synthetic_model  # loads pandas, which nothing else needs

    CompiledRanker(OfferEngine(synthetic_model(SyntheticModelConfig(), np.random.default_rng(0))))


def _is_usual(request: OfferRequest, state: AccountState) -> bool:
    bounded = request.categories or request.min_price is not None or request.max_price is not None
    special = bounded or request.raw or request.sources != "all" or request.objective != "conversion"
    silent = state.silence is not None or state.do_not_offer
    return not special and not silent and 1 <= request.limit <= _MOST_OFFERS and request.kinds in _KINDS


def _key(request: OfferRequest) -> bytes:
    """The account's id in bytes; a lone surrogate is in no id."""
    return b"" if request.account_id is None else request.account_id.encode("utf-8", "surrogatepass")


def _columns(engine: OfferEngine) -> dict[str, NDArray[Any]]:
    model, config = engine.model, engine.config
    diversity = config.diversity
    knots = model.cart_curve.score
    cells_a_score = _CELLS / (knots[-1] - knots[0]) if len(knots) > 1 else 0.0
    settings = [
        *(config.min_probability, config.relevance_floor, config.repeat_weight, config.repeat_prior_orders),
        *(config.recent_purchases, config.least_buyers, diversity.max_kind_share, diversity.max_category_share),
        *(diversity.free_ranks, diversity.least_worth, cells_a_score),
    ]
    made: dict[str, NDArray[Any]] = {
        "price": engine.catalogue.price,
        "refusal": engine.catalogue.refusal,
        "settings": np.array(settings, dtype=np.float64),
        "knot_before": _knots_before(knots),
        **_memory(len(model.products.ids), len(model.families.names), len(model.categories.names)),
        "recent": np.zeros(config.recent_purchases, dtype=np.int64),
    }
    columns = {name: made[name] if name in made else attrgetter(name)(model) for name in kernel.COLUMNS}
    return {
        name: np.ascontiguousarray(column.view(np.uint8) if column.dtype == np.bool_ else column)
        for name, column in columns.items()
    }


def _knots_before(knots: Float64) -> Int32:
    """Row of the last knot at or below the beginning of each of equal cells from the first knot to the last."""
    if len(knots) < 2:
        return np.zeros(1, dtype=np.int32)
    begins = np.linspace(knots[0], knots[-1], _CELLS + 1)
    return np.clip(np.searchsorted(knots, begins, side="right") - 1, 0, len(knots) - 2).astype(np.int32)


def _memory(n_products: int, n_families: int, n_categories: int) -> dict[str, NDArray[Any]]:
    per_candidate = ("keys", "line", "leads", "listed", "gone")
    sizes = {
        "ask": _MOST_ROWS,
        "units": _MOST_ROWS,
        "told": kernel.N_TOLD,
        "refused": _MOST_REFUSED,
        "offers": kernel.N_IDS * _MOST_OFFERS,
        "offer_numbers": kernel.N_NUMBERS * _MOST_OFFERS,
        "marks": n_products,
        "slots": n_products,
        "families": n_families,
        "categories": n_categories,
        "ids": 4 * _MOST_CANDIDATES,
        "numbers": 4 * _MOST_CANDIDATES,
        **dict.fromkeys(per_candidate, _MOST_CANDIDATES),
        "of_lists": 8,
        "best_faint": 2,
        "taken": _MOST_OFFERS,
        "of_kind": 2,
    }
    return {name: np.zeros(size, dtype=kernel.COLUMNS[name]) for name, size in sizes.items()}
