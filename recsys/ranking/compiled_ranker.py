"""Ranks requests in microseconds: fills in what the compiled function reads, calls it, and reads what it wrote."""

from __future__ import annotations

import struct
import threading
from array import array
from collections import Counter
from operator import attrgetter
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import row_of_entry
from recsys.contracts.offers import EMPTY_STATE, AccountState, OfferRequest
from recsys.offer_model.tables import LEAST_PACE, CartCurve, Float32, Float64, Int32, OfferModel
from recsys.ranking.active_rules import NO_RULES, RULE_PREFIX, ActiveRules, AppliedRules
from recsys.ranking.config import MOST_LIFT, RankingConfig
from recsys.ranking.explanations import OPTED_OUT_SENTENCE, shortfall_sentence
from recsys.ranking.kernel import layout
from recsys.ranking.kernel.layout import MODEL_TABLE, NO_ROW, TIER_ACCOUNT, TIER_CART, TIER_POPULAR, TIER_RECENT
from recsys.ranking.kernel.rank import rank
from recsys.ranking.live_catalogue import LiveCatalogue
from recsys.ranking.ranked import RankedOffer, RankedSlate, Watched
from recsys.ranking.request import RequestResolver, ResolvedRequest

_FEW: Final = 1_024
"""Rows and candidates that a working memory has room for at first."""
_USUAL_WORTH: Final = 20.0
"""Orders that what is usual counts for beside those with a line of the cart: two or three together prove nothing."""
_CELLS: Final = 4_096
"""Of the table that says where the curve's knots are; the search then looks at one or two."""


def _packing(record: np.dtype[Any]) -> struct.Struct:
    """Return the reader and writer of a record's bytes as Python numbers, several times as fast as numpy's."""
    return struct.Struct("@" + "".join(record[name].char for name in record.names or ()))


_REQUEST: Final = _packing(layout.REQUEST)
_OFFER: Final = _packing(layout.OFFER)
_ANSWER: Final = _packing(layout.ANSWER)


class CompiledRanker:
    """Ranks requests from the tables of one model, and from what is in force in its catalogue.

    The first one on a machine compiles the kernel, some fifteen seconds; later processes read it from numba's cache.
    """

    def __init__(self, model: OfferModel, catalogue: LiveCatalogue, config: RankingConfig) -> None:
        self._model = model
        self._catalogue = catalogue
        self.resolver = RequestResolver(model, catalogue)
        self._columns = _model_columns(model, catalogue, config)
        n_groups = int(model.products.variant_group.max(initial=0)) + 1
        self._sizes = len(model.products.ids), len(model.families.names), n_groups, len(model.categories.names)
        self._n_recent, self._diversity = config.recent_purchases, config.diversity
        self._memories = threading.local()
        self.rank(OfferRequest(limit=1), EMPTY_STATE, None)  # compiles the kernel here, not while somebody waits

    def rank(
        self, request: OfferRequest, state: AccountState, rules: ActiveRules | None, watched: int = NO_ROW
    ) -> RankedSlate:
        """Return the ranked answer to one request.

        Args:
            request: who asks, and for what.
            state: what is known of the account beyond the model.
            rules: the business rules in force.
            watched: row of a product of which it is asked what became of it.
        """
        asked = self.resolver.resolve(request, state, rules)
        mix = self._diversity.mix_of(request)
        rows = [*asked.cart, *asked.excluded, *asked.suppressed, *asked.bought, *(asked.categories or ())]
        memory: _WorkingMemory = getattr(self._memories, "memory", None) or self._memory(_FEW, _FEW)
        if len(rows) > memory.n_rows:
            memory = self._memory(2 * len(rows), memory.n_candidates)
        _REQUEST.pack_into(
            memory.request,
            0,
            asked.rules.columns.address,
            asked.rules is not NO_RULES,
            request.account_id is not None and not state.is_forgotten,
            bool(state.do_not_offer or state.opt_out_reason),
            state.do_not_offer is None,
            NO_ROW if asked.segment is None else asked.segment,
            request.limit,
            "cross_sell" in request.kinds,
            "upsell" in request.kinds,
            request.new_only,
            layout.OBJECTIVES[request.objective],
            request.raw,
            mix in ("all", "kinds"),
            mix in ("all", "categories"),
            self._diversity.variants_of(request) == "leave_out",
            layout.SOURCES[request.sources],
            watched,
            asked.categories is not None or request.min_price is not None or request.max_price is not None,
            np.nan if request.min_price is None else request.min_price,
            np.nan if request.max_price is None else request.max_price,
            len(asked.cart),
            len(asked.excluded),
            len(asked.suppressed),
            len(asked.bought),
            NO_ROW if asked.categories is None else len(asked.categories),
            len(asked.unknown_products),
            len(state.bought),
        )
        if rows:
            memory.rows[: len(rows)] = array("q", rows)
            if asked.cart:
                memory.units[: len(asked.cart)] = array("d", asked.cart.values())
        key = b"" if request.account_id is None else request.account_id.encode("utf-8", "surrogatepass")
        n = rank(memory.address, key)
        if n == layout.TOO_LARGE:
            return self._rank_in_larger(memory, request, state, rules, watched)
        return self._slate(n, memory, request, state, asked, watched)

    def _rank_in_larger(
        self,
        memory: _WorkingMemory,
        request: OfferRequest,
        state: AccountState,
        rules: ActiveRules | None,
        watched: int,
    ) -> RankedSlate:
        needed = _Answer._make(_ANSWER.unpack(memory.answer)).n_needed
        self._memory(memory.n_rows, 2 * needed)
        return self.rank(request, state, rules, watched)

    def _memory(self, n_rows: int, n_candidates: int) -> _WorkingMemory:
        """Give the thread a working memory of its own, for so many rows and candidates."""
        memory = _WorkingMemory(self._columns, self._sizes, self._n_recent, n_rows, n_candidates)
        self._memories.memory = memory
        return memory

    def _slate(
        self,
        n: int,
        memory: _WorkingMemory,
        request: OfferRequest,
        state: AccountState,
        asked: ResolvedRequest,
        watched: int,
    ) -> RankedSlate:
        found = _Answer._make(_ANSWER.unpack(memory.answer))
        written = memory.offers[: max(n, 0) * _OFFER.size]
        offers = [RankedOffer._make(values) for values in _OFFER.iter_unpack(written)]
        if offers:
            tier = min([offer.tier for offer in offers])
        elif found.account != NO_ROW:
            tier = TIER_ACCOUNT
        else:
            tier = TIER_RECENT if found.n_recent else TIER_CART if asked.cart else TIER_POPULAR
        shortfall = None
        if n == layout.OPTED_OUT:
            shortfall = self._opted_out(found.account, state)
        elif n < request.limit:
            removed = Counter(dict(zip(layout.FILTERS, memory.removed.tolist(), strict=True)))
            shortfall = shortfall_sentence(request.limit, n, found.n_considered, removed)
        return RankedSlate(
            offers,
            found.account,
            found.segment,
            tier,
            request.limit,
            shortfall,
            n == layout.OPTED_OUT,
            found.n_considered,
            self._refused(*memory.refused(found.n_refused), asked.rules) if found.n_refused else {},
            asked,
            None if watched == NO_ROW else found.watched(),
        )

    def _opted_out(self, account: int, state: AccountState) -> str | None:
        wants_none = state.do_not_offer
        if wants_none is None:
            wants_none = account != NO_ROW and bool(self._model.accounts.do_not_offer[account])
        return OPTED_OUT_SENTENCE if wants_none else state.opt_out_reason

    def _refused(self, rows: list[int], filters: list[int], rules: AppliedRules) -> dict[str, str]:
        """Refused products by id, and why; a business rule is named."""
        return {
            self._catalogue.ids[row]: layout.FILTERS[code]
            if code < layout.FILTER_BLOCKED
            else f"{RULE_PREFIX}{rules.blocking[row]}"
            for row, code in zip(rows, filters, strict=True)
        }


class _Answer(NamedTuple):
    """The fields of `layout.ANSWER`."""

    account: int
    segment: int
    n_recent: int
    n_considered: int
    n_refused: int
    n_needed: int
    watched_state: int
    watched_filter: int
    watched_place: int
    n_eligible: int
    watched_utility: float
    watched_probability: float

    def watched(self) -> Watched:
        return Watched(
            self.watched_state,
            layout.FILTERS[self.watched_filter],
            self.watched_place,
            self.n_eligible,
            self.watched_utility,
            self.watched_probability,
        )


class _WorkingMemory:
    """What one thread writes and reads while it ranks.

    By product, family, group of variants and category all is zero between two calls.
    """

    def __init__(
        self,
        model: dict[str, NDArray[Any]],
        sizes: tuple[int, int, int, int],
        n_recent: int,
        n_rows: int,
        n_candidates: int,
    ) -> None:
        n_products, n_families, n_groups, n_categories = sizes
        self.n_rows, self.n_candidates = n_rows, n_candidates
        lengths = {
            "request": 1,
            "answer": 1,
            "rows": n_rows,
            "units": n_rows,
            "recent": n_recent,
            "removed": len(layout.FILTERS),
            "marks": n_products,
            "places": n_products,
            "family_marks": n_families,
            "variant_marks": n_groups,
            "category_counts": n_categories,
            "lists": 2,
            **dict.fromkeys(layout.PER_CANDIDATE, n_candidates),
        }
        work = {f"work.{name}": np.zeros(length, MODEL_TABLE.types[f"work.{name}"]) for name, length in lengths.items()}
        self._columns = MODEL_TABLE.at(model | work)
        self.address = self._columns.address
        # A list goes into a memoryview by way of an array in a third of the time that numpy takes for it.
        self.rows = memoryview(work["work.rows"].data).cast("B").cast("q")
        self.units = memoryview(work["work.units"].data).cast("B").cast("d")
        self.request, self.answer = _bytes(work["work.request"]), _bytes(work["work.answer"])
        self.offers = _bytes(work["work.offers"])
        self.removed = work["work.removed"]
        self._refused, self._refused_by = work["work.refused"], work["work.refused_by"]

    def refused(self, n: int) -> tuple[list[int], list[int]]:
        """Return the rows of `n` refused products, and positions in `FILTERS` of what removed each."""
        return self._refused[:n].tolist(), self._refused_by[:n].tolist()


def _bytes(records: np.ndarray[Any, Any]) -> memoryview:
    return memoryview(records.view(np.uint8).data)


def compile_kernel() -> None:
    """Let numba compile the kernel and keep it, which the first start of a server would do else."""
    columns = MODEL_TABLE.at({name: np.zeros(2, kind) for name, kind in MODEL_TABLE.types.items()})
    asked = columns.arrays["work.request"]
    asked["rules"], asked["wants_none"] = NO_RULES.columns.address, True  # no offer: nothing of a model is read
    rank(columns.address, b"")


def usual_pace(orders_in_horizon: Float32) -> float:
    """Return the orders in a horizon of the account that places the average order; 1 where there is no account."""
    pace = np.maximum(orders_in_horizon.astype(np.float64), LEAST_PACE)
    return float(np.square(pace).sum() / pace.sum()) if len(pace) else 1.0


def _model_columns(model: OfferModel, catalogue: LiveCatalogue, config: RankingConfig) -> dict[str, NDArray[Any]]:
    diversity = config.diversity
    settings = np.zeros(1, dtype=layout.SETTINGS)
    settings[0] = (
        config.min_probability,
        config.relevance_floor,
        config.repeat_weight,
        config.repeat_prior_orders,
        config.least_buyers,
        diversity.max_kind_share,
        diversity.max_category_share,
        diversity.free_ranks,
        diversity.least_worth,
        diversity.variant_ranks,
        _relation(np.ones(1), config)[0],
        catalogue.margin_rate or 0.0,
        usual_pace(model.accounts.orders_in_horizon),
    )
    curves, knot_before = _curves(model.cart_curve)
    made: dict[str, NDArray[Any]] = {
        "catalogue.price": catalogue.price,
        "catalogue.price_start": catalogue.price_start,
        "catalogue.price_count": catalogue.price_count,
        "catalogue.cost": catalogue.cost,
        "catalogue.refusal": catalogue.refusal,
        "made.cart_relation": _cart_relations(model, config),
        "made.settings": settings,
        "made.curves": curves,
        "made.knot_before": knot_before,
    }
    names = [name for name in MODEL_TABLE.types if not name.startswith("work.")]
    columns: dict[str, NDArray[Any]] = {name: made[name] if name in made else attrgetter(name)(model) for name in names}
    return {
        name: np.ascontiguousarray(column.view(np.uint8) if column.dtype == np.bool_ else column)
        for name, column in columns.items()
    }


def _cart_relations(model: OfferModel, config: RankingConfig) -> Float64:
    """Return the factor of each link of the cart's products, `(n_links,)`: 1 where two go together often enough.

    A lift is how often orders with the one hold the other, over how often any order does; without a pair that enough
    buyers had it is 1.
    """
    products, rules, n = model.products, model.rules, len(model.products.ids)
    pair = row_of_entry(products.rules_count.astype(np.int64)) * n + rules.consequent
    wanted = row_of_entry(products.cart_count.astype(np.int64)) * n + model.cart.consequent
    lift = np.ones(len(wanted))
    if len(pair):
        rule = np.minimum(np.searchsorted(pair, wanted), len(pair) - 1)
        known = (pair[rule] == wanted) & (rules.n_buyers[rule] >= config.least_buyers)
        rule, usual = rule[known], products.n_orders[model.cart.consequent[known]] / max(model.facts.n_orders, 1)
        expected = (rules.n_antecedent[rule] + _USUAL_WORTH) * np.maximum(usual, 1e-9)
        lift[known] = (rules.n_both[rule] + _USUAL_WORTH * usual) / expected
    return _relation(lift, config)


def _relation(lift: Float64, config: RankingConfig) -> Float64:
    factor: Float64 = (np.clip(lift, 1.0, MOST_LIFT) / MOST_LIFT) ** config.relation_weight
    return factor


def _curves(curve: CartCurve) -> tuple[NDArray[Any], Int32]:
    """Return the record of each size's curve, and the last knot at or below the beginning of each of equal cells."""
    parts = curve.of_sizes()
    found, cells = np.zeros(len(parts), dtype=layout.CURVE), []
    begin = 0
    for row, part in enumerate(parts):
        width = part.score[-1] - part.score[0]
        found[row] = part.lines[0], begin, begin + len(part.score), row * (_CELLS + 1), _CELLS / width if width else 0.0
        begins = np.linspace(part.score[0], part.score[-1], _CELLS + 1)
        last = np.searchsorted(part.score, begins, side="right") - 1
        cells.append(begin + np.clip(last, 0, max(len(part.score) - 2, 0)))
        begin += len(part.score)
    return found, np.concatenate(cells).astype(np.int32)
