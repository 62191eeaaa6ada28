"""One policy let loose on a scene: who sees what, who accepts, what is moved, displaced or lost, who leaves."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from recsys.arrays import FloatArray, IntArray
from recsys.simulation.responses.scenario import N_WISHES, NO_ORDER_LEFT, OfferPolicy, ResponseConfig, Scene

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class PolicyRun:
    """What happened under one policy to every account.

    Attributes:
        placed: visits that became an order, `(n_visits,)`; before the run every organic order.
        ordinary: visits whose ordinary basket was bought, `(n_visits,)`.
        displaced: visits at which the first ordinary line was left out, `(n_visits,)`.
        bought_visit: the visit at which a wish was bought, -1 for not, `(n_accounts, N_WISHES)`.
        accepted: it was an accepted offer, `(n_accounts, N_WISHES)`.
        moved: an accepted offer that would have been bought in the run anyway, `(n_accounts, N_WISHES)`.
        attributed: bought within the window of an exposure, `(n_accounts, N_WISHES)`.
        left: the account left for good, `(n_accounts,)`.
        offer_visit: visit of each offer that the policy returned, `(n_offers,)`.
        offer_wish: column of the wish.
        offer_rank: 1 first.
        offer_accepted: whether it was accepted.
    """

    placed: Bools
    ordinary: Bools
    displaced: Bools
    bought_visit: IntArray
    accepted: Bools
    moved: Bools
    attributed: Bools
    left: Bools
    offer_visit: IntArray
    offer_wish: IntArray
    offer_rank: IntArray
    offer_accepted: Bools


def planned_purchases(scene: Scene, config: ResponseConfig) -> IntArray:
    """Return the visit at which each wish is bought without offers, -1 for never, `(n_accounts, N_WISHES)`."""
    return run_policy(scene, OfferPolicy(limit=0), config, None).bought_visit


def run_policy(scene: Scene, policy: OfferPolicy, config: ResponseConfig, planned: IntArray | None) -> PolicyRun:
    """Return what a policy leads to; `planned` is what happens without offers, None to find just that."""
    state = _State(scene, policy, config, planned)
    step = scene.visits.step
    by_step = np.argsort(step, kind="stable")
    edges = np.searchsorted(step[by_step], np.arange(int(step.max(initial=-1)) + 2))
    for first, last in pairwise(edges):
        state.visit(by_step[first:last])
    return state.finish()


class _State:
    """The accounts on their way through the run, all accounts' n-th visit at once."""

    def __init__(self, scene: Scene, policy: OfferPolicy, config: ResponseConfig, planned: IntArray | None) -> None:
        self._scene, self._policy, self._config = scene, policy, config
        shape = scene.wishes.product.shape
        self._planned = np.full(shape, -1) if planned is None else planned
        self._score = policy.relevance * scene.wishes.need + (1 - policy.relevance) * scene.luck.taste
        self._appeal = self._appeals()
        self._seen = np.zeros(shape[0])
        self._last_shown = np.full(shape, -NO_ORDER_LEFT)
        self._gone = np.zeros(shape[0], dtype=bool)
        self._placed = scene.visits.is_order & (scene.visits.day < 0)
        self._ordinary = self._placed.copy()
        self._displaced = np.zeros(len(scene.visits), dtype=bool)
        self._bought = np.full(shape, -1)
        self._accepted, self._moved, self._attributed = (np.zeros(shape, dtype=bool) for _ in range(3))
        self._offers: list[tuple[IntArray, IntArray, IntArray, Bools]] = []

    def visit(self, rows: IntArray) -> None:
        """Let the accounts of some visits (one an account) come in."""
        rows = rows[~self._gone[self._scene.visits.account[rows]]]
        account, is_order = self._scene.visits.account[rows], self._scene.visits.is_order[rows]
        rank = self._ranks(account)
        meets = (rank > 0) & self._policy.shown
        met = np.asarray(meets.any(axis=1), dtype=bool)
        accepts = self._accepts(rows, account, rank) & meets
        lost = is_order & met & (self._scene.luck.loses[rows] < self._config.lost_share)
        accepts &= ~lost[:, None]
        self._show(rows, account, rank, meets, accepts)
        self._buy(rows, account, accepts, is_order & ~lost)
        self._leave(rows, account, is_order & ~lost, met)

    def finish(self) -> PolicyRun:
        """Return what happened."""
        empty = (np.empty(0, dtype=np.int64),) * 3 + (np.empty(0, dtype=bool),)
        visit, wish, rank, yes = (np.concatenate(part) for part in zip(*(self._offers or [empty]), strict=True))
        return PolicyRun(
            placed=self._placed,
            ordinary=self._ordinary,
            displaced=self._displaced,
            bought_visit=self._bought,
            accepted=self._accepted,
            moved=self._moved,
            attributed=self._attributed,
            left=self._gone,
            offer_visit=visit,
            offer_wish=wish,
            offer_rank=rank,
            offer_accepted=yes,
        )

    def _appeals(self) -> FloatArray:
        """The logit of accepting, before rank and fatigue, `(n_accounts, N_WISHES)`."""
        wishes, config = self._scene.wishes, self._config
        price = np.log(self._scene.world.catalogue.price)
        relative = price[wishes.product] + np.log1p(-self._policy.discount) - price.mean()
        return np.asarray(config.base_logit + config.need_effect * wishes.need + config.price_effect * relative)

    def _ranks(self, account: IntArray) -> IntArray:
        """Rank of each wish in the answer at a visit, 0 where it is not in it, `(n_rows, N_WISHES)`."""
        if self._policy.limit == 0:
            return np.zeros((len(account), N_WISHES), dtype=np.int64)
        free = self._scene.wishes.offerable[account] & (self._bought[account] == -1)
        score = np.where(free, self._score[account], -NO_ORDER_LEFT)
        rank = np.argsort(np.argsort(-score, axis=1, kind="stable"), axis=1, kind="stable") + 1
        return np.where(free & (rank <= self._policy.limit), rank, 0)

    def _accepts(self, rows: IntArray, account: IntArray, rank: IntArray) -> Bools:
        config = self._config
        logit = self._appeal[account] + config.rank_effect * np.log2(np.maximum(rank, 1))
        chance = expit(logit + config.fatigue_effect * self._seen[account][:, None])
        chance *= np.where(self._planned[account] >= 0, 1.0, config.adds)
        return np.asarray(self._scene.luck.accepts[rows] < chance)

    def _show(self, rows: IntArray, account: IntArray, rank: IntArray, meets: Bools, accepts: Bools) -> None:
        row, wish = np.nonzero(rank)
        self._offers.append((rows[row], wish, rank[row, wish], accepts[row, wish]))
        day = self._scene.visits.day[rows]
        self._last_shown[account] = np.where(meets, day[:, None], self._last_shown[account])
        self._seen[account] += meets.sum(axis=1)

    def _buy(self, rows: IntArray, account: IntArray, accepts: Bools, orders: Bools) -> None:
        scene, config = self._scene, self._config
        day = scene.visits.day[rows]
        free = scene.wishes.offerable[account] & (self._bought[account] == -1)
        due = free & ~accepts & orders[:, None] & (scene.wishes.wish_day[account] <= day[:, None])
        now = accepts | due
        near = day[:, None] - self._last_shown[account] < config.window_days
        self._bought[account] = np.where(now, rows[:, None], self._bought[account])
        self._accepted[account] |= accepts
        self._moved[account] |= accepts & (self._planned[account] >= 0)
        self._attributed[account] |= now & near
        added = (accepts & (self._planned[account] == -1)).any(axis=1)
        self._displaced[rows] = added & orders & (scene.luck.displaces[rows] < config.displaced_share)
        self._ordinary[rows] = orders
        self._placed[rows] = orders | accepts.any(axis=1)

    def _leave(self, rows: IntArray, account: IntArray, orders: Bools, met: Bools) -> None:
        chance = self._config.lapse_share * self._scene.accounts.lapse[account] * orders
        chance = chance + self._config.leaves_share * met
        self._gone[account] = self._scene.luck.leaves[rows] < chance
