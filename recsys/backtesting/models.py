"""Whole models through the backtest: each is cloned and fitted at every cutoff, its answers scored beside baselines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from typing import Any, Protocol, Self, cast, runtime_checkable

import numpy as np
import pandas as pd
from sklearn.base import clone

from recsys.arrays import RowArray
from recsys.backtesting.backtest import BacktestConfig, fitted_lists, score_cutoffs
from recsys.backtesting.baselines import BacktestModel, default_baselines
from recsys.backtesting.results import Backtest
from recsys.backtesting.trainer import over_history
from recsys.contracts import columns as c
from recsys.contracts.offers import OfferKind
from recsys.contracts.plugins import check_plugin, check_several, fitted_plugin
from recsys.data.dataset import Dataset, as_dataset
from recsys.data.history import History, codes_of
from recsys.data.sources import DataSource
from recsys.data.times import parse_moment
from recsys.errors import ConfigError
from recsys.fitting.pipeline import FitConfig, FittedModels, with_horizon
from recsys.fitting.time_scales import TimeScales, with_time_scales
from recsys.ladder.edges import Ladder
from recsys.ladder.file import fixed_ladder, ladder_from_data
from recsys.models.candidates import Candidates


@runtime_checkable
class EngineModel(Protocol):
    """A model that learns everything an engine needs, as `recsys.recommender.Recommender` does."""

    @property
    def fit_config(self) -> FitConfig:
        """Every option of its fit."""
        ...

    @property
    def ladder(self) -> Ladder | None:
        """A parameter: upgrade edges to use; None: built from the data."""
        ...

    def set_params(self, **params: object) -> Self:
        """Set parameters, of which `ladder` and `config` are two."""
        ...

    def fit(self, data: Dataset) -> Self:
        """Learn from a dataset, of which nothing is later than its `as_of`."""
        ...

    def learned(self) -> FittedModels:
        """Return what the last fit learned."""
        ...

    def recommend_all(self, account_ids: Sequence[str], *, k: int, kinds: Sequence[OfferKind]) -> pd.DataFrame:
        """Return each account's offers, columns `account_id rank product_id` at least."""
        ...


@dataclass(frozen=True)
class ModelTrained:
    """A model that was fitted at a cutoff, over the vocabularies of the whole history.

    Attributes:
        raw: its cross-sell candidates; None where it gives lists alone.
        upgrades: its upgrade candidates; None likewise.
        answer: returns its lists, `(n, k)`.
    """

    raw: Candidates | None
    upgrades: Candidates | None
    answer: Callable[[RowArray, int], RowArray]

    def served(self, accounts: RowArray, k: int) -> RowArray:
        """Return the cross-sell that the model answers, `(n, k)`, -1 where there is less."""
        return self.answer(accounts, k)


def backtest(
    data: Dataset | DataSource,
    models: Mapping[str, EngineModel | BacktestModel],
    *,
    cutoffs: Sequence[str | date] | str | date,
    k: int = 10,
    baselines: Sequence[BacktestModel] | None = None,
    **options: Any,  # noqa: ANN401 - each is checked by the configuration
) -> Backtest:
    """Return how models and baselines would have done at each cutoff, on what accounts bought after it.

    A clone of each model is fitted on what the sources held before the cutoff. The upgrade ladder is that of the first
    cutoff, by the first engine's configuration; calibration and upgrades are those of the first engine.

    Args:
        data: purchase history before and after the cutoffs, read from sources that can be read again.
        models: what is tried, by name: a `Recommender`, or any model of a history's rows.
        cutoffs: where the past ends, ascending, or one moment; without a zone they are UTC.
        k: places of a list that are scored.
        baselines: what models are compared with; default: `default_baselines()`.
        options: further fields of `BacktestConfig`, as `horizon_days` (default: the models' own) or `max_accounts`.

    Raises:
        ConfigError: an option is wrong, a name stands twice, or a model learns another horizon than is scored.
        EmptyDataError: nobody bought anything new after a cutoff.
        PluginError: a model or a baseline is not what it must be.
    """
    rivals = default_baselines() if baselines is None else baselines
    moments = _moments(cutoffs)
    _check_parts(models, rivals)
    known = as_dataset(data)
    engines = {name: model for name, model in models.items() if isinstance(model, EngineModel)}
    engine = next(iter(engines.values()), None)
    first = FitConfig() if engine is None else engine.fit_config
    history = known.history()
    scales = TimeScales.of(history.before(moments[0]) if moments else history)
    horizons = {name: with_time_scales(model.fit_config, scales).horizon_days for name, model in engines.items()}
    given = {"horizon_days": next(iter(horizons.values()), first.horizon_days), "climbs": first.ladder.climbs}
    asked = BacktestConfig(**given | options | {"cutoffs": moments, "k": k})
    _refuse_other_horizons(horizons, asked)
    _refuse_doubled_names([*models, *(rival.name for rival in rivals)])
    ladder = None if engine is None else _frozen_ladder(engine, known.at(asked.cutoffs[0]))
    return score_cutoffs(
        history,
        asked,
        trainers={
            name: partial(_trained, model, known, history, ladder, asked.horizon_days) for name, model in models.items()
        },
        ladder=ladder,
        baselines=lambda: tuple(clone(rival, safe=False) for rival in rivals),
    )


def _moments(cutoffs: object) -> tuple[datetime, ...]:
    several = [cutoffs] if isinstance(cutoffs, str | date) else cutoffs
    if not isinstance(several, Iterable):
        raise ConfigError(f"cutoffs == {cutoffs!r}, must be several moments; give ['2025-06-01']")
    return tuple(parse_moment(cutoff) for cutoff in several)


def _check_parts(models: object, rivals: object) -> None:
    if not isinstance(models, Mapping):
        raise ConfigError(f"models is a {type(models).__name__}, must be a mapping by name; give {{'engine': model}}")
    for name, model in models.items():
        if not isinstance(model, EngineModel) or isinstance(model, type):
            check_plugin("baselines", model, f"models[{name!r}]")
    check_several("baselines", rivals)
    for place, rival in enumerate(cast("Sequence[object]", rivals)):
        check_plugin("baselines", rival, f"baselines[{place}]")


def _trained(
    model: EngineModel | BacktestModel,
    data: Dataset,
    history: History,
    ladder: Ladder | None,
    horizon_days: int,
    cutoff: datetime,
) -> ModelTrained:
    fresh = clone(model, safe=False)
    if not isinstance(fresh, EngineModel):
        return ModelTrained(None, None, fitted_lists(fresh, history, cutoff))
    config = with_horizon(fresh.fit_config, horizon_days)  # every cutoff's, whatever the pace of the data before it
    fresh.set_params(ladder=ladder, config=config)
    fitted = fitted_plugin(f"model {type(model).__name__}", fresh.fit(data.at(cutoff)))
    learned: FittedModels = fitted.learned()
    return ModelTrained(
        raw=over_history(learned.cross, learned.history, history),
        upgrades=over_history(learned.up, learned.history, history),
        answer=partial(_lists, fitted, history),
    )


def _lists(model: EngineModel, history: History, accounts: RowArray, k: int) -> RowArray:
    ids = history.account_ids[accounts]
    offers = model.recommend_all(ids.tolist(), k=k, kinds=("cross_sell",))
    lists = np.full((len(accounts), k), -1, dtype=np.int32)
    rows = codes_of(offers[c.ACCOUNT_ID].to_numpy(dtype=object), ids)
    lists[rows, offers[c.RANK].to_numpy() - 1] = codes_of(
        offers[c.PRODUCT_ID].to_numpy(dtype=object), history.product_ids
    )
    return lists


def _frozen_ladder(engine: EngineModel, early: Dataset) -> Ladder:
    config = engine.fit_config.ladder
    ladder_of = ladder_from_data(config) if engine.ladder is None else fixed_ladder(engine.ladder, config)
    return ladder_of(early, early.history())


def _refuse_other_horizons(horizons: Mapping[str, int], asked: BacktestConfig) -> None:
    for name, learned in horizons.items():
        if learned != asked.horizon_days:
            raise ConfigError(
                f"horizon_days == {asked.horizon_days}, but model {name!r} learns {learned} days, must be equal; leave "
                "it out, or set next_product.horizon_days and upgrades.horizon_days of its configuration"
            )


def _refuse_doubled_names(names: Sequence[str]) -> None:
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise ConfigError(f"model {twice[0]!r} is called as a baseline is, names must differ; give it another name")
