"""Scores cart completion: how often the hidden line stands among the first k suggestions, new and repeat apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.table import Table

from recsys.arrays import RowArray
from recsys.backtesting.cart_task import LINE_KINDS, CartMethod, CartTask, LineKind
from recsys.contracts.offers import CartLine, OfferRequest
from recsys.evaluation.statistics.bootstrap import (
    DEFAULT_BOOTSTRAP,
    BootstrapConfig,
    Interval,
    bootstrap_mean,
)
from recsys.ranking.engine import OfferEngine


@dataclass(frozen=True)
class CartScores:
    """One method.

    Attributes:
        name: as printed.
        hits: whether the hidden product was among the first k, `(n_carts,)`.
        hit_rate: mean over all carts, with its interval over carts.
        by_kind: hit rate for new, repeat and unknown lines; a kind without carts is left out.
    """

    name: str
    hits: NDArray[np.bool_]
    hit_rate: Interval
    by_kind: dict[LineKind, float]


@dataclass(frozen=True)
class CartCompletion:
    """All methods on one task.

    Attributes:
        k: places that are looked at.
        n_carts: carts.
        n_by_kind: carts by kind of the hidden line.
        methods: in the order given.
    """

    k: int
    n_carts: int
    n_by_kind: dict[LineKind, int]
    methods: tuple[CartScores, ...]

    def method(self, name: str) -> CartScores:
        """Return the method of that name."""
        return next(method for method in self.methods if method.name == name)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the single carts as plain values for JSON."""
        methods = [{"name": one.name, "hit_rate": asdict(one.hit_rate), "by_kind": one.by_kind} for one in self.methods]
        return {"k": self.k, "n_carts": self.n_carts, "n_by_kind": self.n_by_kind, "methods": methods}


class EngineCart:
    """The engine's own answer to each cart: cart evidence and account evidence combined, as it is served.

    Args:
        engine: over the bundle's model.
        account_ids: of the history whose rows the task names.
        product_ids: of the same history.
        name: as printed.
        with_account: False asks for every cart as an unknown visitor.
        raw: the ranker's own order: value and diversity off.
    """

    def __init__(
        self,
        engine: OfferEngine,
        account_ids: NDArray[np.object_],
        product_ids: NDArray[np.object_],
        *,
        name: str,
        with_account: bool = True,
        raw: bool = True,
    ) -> None:
        self.engine = engine
        self.account_ids = account_ids
        self.product_ids = product_ids
        self.name = name
        self.with_account = with_account
        self.raw = raw
        self._row_of = {product_id: row for row, product_id in enumerate(product_ids.tolist())}

    def recommend(self, task: CartTask, k: int) -> RowArray:
        """Return the first k offers of each cart as product rows, `(n_carts, k)`, -1 where there are fewer."""
        lists = np.full((len(task), k), -1, dtype=np.int32)
        for row in range(len(task)):
            offers = self.engine.recommend(self._request(task, row, k)).offers
            lists[row, : len(offers)] = [self._row_of[offer.product_id] for offer in offers]
        return lists

    def _request(self, task: CartTask, row: int, k: int) -> OfferRequest:
        products = task.carts.indices[task.carts.indptr[row] : task.carts.indptr[row + 1]]
        account = int(task.account[row])
        known = self.with_account and account >= 0
        return OfferRequest(
            account_id=str(self.account_ids[account]) if known else None,
            cart=tuple(CartLine(str(self.product_ids[product])) for product in products),
            kinds=("cross_sell",),
            limit=k,
            raw=self.raw,
            explain="none",
        )


def complete_carts(
    task: CartTask,
    methods: Sequence[CartMethod],
    k: int,
    rng: np.random.Generator,
    bootstrap: BootstrapConfig = DEFAULT_BOOTSTRAP,
) -> CartCompletion:
    """Return the hit rate at k of each method: the share of carts whose hidden product it names among the first k."""
    kinds = [kind for kind in LINE_KINDS if (task.kind == kind).any()]
    scored = []
    for method in methods:
        hits = (method.recommend(task, k) == task.hidden[:, None]).any(axis=1)
        scored.append(
            CartScores(
                name=method.name,
                hits=hits,
                hit_rate=bootstrap_mean(hits.astype(np.float64), rng, bootstrap),
                by_kind={kind: float(hits[task.kind == kind].mean()) for kind in kinds},
            )
        )
    counts = {kind: int((task.kind == kind).sum()) for kind in kinds}
    return CartCompletion(k, len(task), counts, tuple(scored))


def cart_completion_table(found: CartCompletion, title: str) -> Table:
    """Return one row a method, hit rates of new, repeat and unknown lines apart."""
    table = Table(title=f"{title}: {found.n_carts:,} carts", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("method", no_wrap=True)
    for name in (f"hit rate@{found.k}", "95 %", *found.n_by_kind):
        table.add_column(name, justify="right", no_wrap=True)
    for one in found.methods:
        interval = one.hit_rate
        kinds = [f"{rate:.4f}" for rate in one.by_kind.values()]
        table.add_row(one.name, f"{interval.estimate:.4f}", f"{interval.low:.3f}-{interval.high:.3f}", *kinds)
    counts = ", ".join(f"{n:,} {kind}" for kind, n in found.n_by_kind.items())
    table.caption = f"the hidden line is new to the account or a repeat; unknown: no account; {counts}"
    return table
