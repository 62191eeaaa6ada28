"""Offers from Python: one estimator that learns, recommends, explains, and keeps what it learned as a bundle."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self, get_args

import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from recsys.bundle.arrow import lifetime_value_table
from recsys.bundle.load import load_bundle
from recsys.bundle.resolve import DEFAULT_TRACKING_URI, resolve_model
from recsys.bundle.save import BundleDetails, save_bundle
from recsys.contracts.answers import CallList
from recsys.contracts.config import given_config
from recsys.contracts.offers import (
    EMPTY_STATE,
    KINDS,
    CartLine,
    Mix,
    Objective,
    OfferKind,
    OfferRequest,
    Slate,
    Variants,
)
from recsys.data.dataset import Dataset, as_dataset
from recsys.data.sources import DataSource
from recsys.errors import BundleVersionError, ConfigError
from recsys.fitting.pipeline import FitConfig, FittedModels, bundle_details, fit
from recsys.fitting.steps import logged_step
from recsys.ladder.edges import TEXT_COLUMNS, Ladder
from recsys.mining.rules import Rules
from recsys.models.next_product.model import NextProductModel
from recsys.models.next_product.pair_features import FeatureMaker
from recsys.models.next_product.ranker import PairRanker
from recsys.models.retrieval.retriever import Retriever
from recsys.models.upgrade.model import UpgradeModel
from recsys.offer_model.tables import OfferModel
from recsys.ranking.batch import answers, offers_table
from recsys.ranking.engine import OfferEngine
from recsys.ranking.explorer import Explanation, ModelExplorer, explain
from recsys.ranking.white_space import WhiteSpace


class Recommender(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Learns offers from purchase history as `offers train` does, and answers as the server does.

    It keeps scikit-learn's conventions, with three exceptions: `fit` takes a `Dataset`, `save` and `load` stand for
    pickling, and `recsys.backtest` stands for `score`.

    Args:
        config: every option; None: the defaults.
        retrievers: what proposes candidates, as `[*default_retrievers(), SameBrand()]`; None: what `config` names.
        ranker: what orders them, any scikit-learn classifier, cloned for each fold; None: what `config` names.
        features: what describes them beside the engine's own features.
        ladder: upgrade edges to use; None: built from the data.
        random_state: seed of everything drawn at random; None: that of `config`. The same data, configuration and seed
            give the same bundle.

    Attributes:
        model_: the tables that answer.
        rules_: mined pairs of products.
        ladder_: upgrade edges.
        engine_: answers from the tables.
        next_product_: who buys which new product next; only after `fit`.
        upgrades_: who climbs which rung next; only after `fit`.
    """

    model_: OfferModel
    rules_: Rules
    ladder_: Ladder
    engine_: OfferEngine
    next_product_: NextProductModel
    upgrades_: UpgradeModel

    def __init__(
        self,
        config: FitConfig | None = None,
        *,
        retrievers: Sequence[Retriever] | None = None,
        ranker: PairRanker | None = None,
        features: Sequence[FeatureMaker] | None = None,
        ladder: Ladder | None = None,
        random_state: int | None = None,
    ) -> None:
        self.config = config
        self.retrievers = retrievers
        self.ranker = ranker
        self.features = features
        self.ladder = ladder
        self.random_state = random_state

    @property
    def fit_config(self) -> FitConfig:
        """Every option of the fit, with the seed.

        Raises:
            ConfigError: the seed is below 0 or no whole number.
        """
        config = given_config(self.config, FitConfig)
        if self.random_state is None:
            return config
        return type(config)(**dict(config) | {"seed": self.random_state})

    def fit(self, data: Dataset | DataSource, y: None = None) -> Self:  # noqa: ARG002 - scikit-learn's signature
        """Learn from purchase history, of which nothing is later than its `as_of`.

        The logger `recsys.fitting.steps` tells each step at level INFO as it begins.

        Args:
            data: cleaned purchase history, or order lines in contract columns.
            y: not used.

        Raises:
            ConfigError: an option is wrong.
            DataError: the order lines can't be read, or none has an account.
            PluginError: a retriever, the ranker or a feature maker is not what it must be.
        """
        if self.ladder is not None and not isinstance(self.ladder, Ladder):
            raise ConfigError(f"ladder is a {type(self.ladder).__name__}, must be a Ladder; give Ladder.build(data)")
        known = as_dataset(data)
        self._fitted = fit(
            known,
            self.fit_config,
            step=logged_step,
            ladder=self.ladder,
            retrievers=self.retrievers,
            ranker=self.ranker,
            features=self.features,
        )
        self.next_product_, self.upgrades_ = self._fitted.models.next_product, self._fitted.models.upgrades
        details = bundle_details(known, self._fitted.config)
        return self._hold(self._fitted.model, Rules(self._fitted.rules), self._fitted.ladder, details)

    def recommend(
        self,
        account_id: str | None = None,
        *,
        cart: Iterable[str | CartLine] = (),
        k: int = 10,
        kinds: Sequence[OfferKind] = KINDS,
        objective: Objective = "conversion",
        new_only: bool = False,
        exclude: Iterable[str] = (),
        mix: Mix | None = None,
        variants: Variants | None = None,
        language: str | None = None,
    ) -> Slate:
        """Return exactly k offers, or fewer and why.

        The `evidence` of its offers is empty, as in any answer that is not asked for it: `explain` gives one product's.

        Args:
            account_id: the account; None: an anonymous visitor.
            cart: product ids in the cart, or lines with quantities.
            k: how many offers.
            kinds: `cross_sell`, `upsell` or both.
            objective: what the order maximises: `conversion`, `revenue` or `margin`.
            new_only: leave out everything the account has ever bought.
            exclude: product ids that must not be offered.
            mix: of what no more than a share of the ranks is filled; None: as configured.
            variants: what becomes of products that differ in a colour or pattern alone; None: as configured.
            language: of the reasons, a tag such as `de`; None: the account's, else English.

        Raises:
            ConfigError: an argument is out of range.
        """
        engine = self._engine()
        return engine.recommend(
            _request(
                account_id,
                cart,
                k=k,
                kinds=kinds,
                objective=objective,
                new_only=new_only,
                exclude=exclude,
                mix=mix,
                variants=variants,
                language=language,
            )
        )

    def recommend_all(
        self,
        account_ids: Sequence[str] | None = None,
        *,
        k: int = 10,
        kinds: Sequence[OfferKind] = KINDS,
        objective: Objective = "conversion",
        new_only: bool = False,
        exclude: Iterable[str] = (),
        mix: Mix | None = None,
        variants: Variants | None = None,
        language: str | None = None,
    ) -> pd.DataFrame:
        """Return the offers of some accounts, one row an offer; None: of all that the model knows.

        The other arguments, and what they raise, are those of `recommend`.
        """
        ids = None if account_ids is None else _ids("account_ids", account_ids)
        pattern = _request(
            None,
            (),
            k=k,
            kinds=kinds,
            objective=objective,
            new_only=new_only,
            exclude=exclude,
            mix=mix,
            variants=variants,
            language=language,
        )
        blocks = answers(self._engine(), pattern, ids)
        tables = [offers_table([]), *(offers_table(block) for block in blocks)]
        found: pd.DataFrame = pa.concat_tables(tables).to_pandas()
        return found

    def explain(
        self, account_id: str | None, product_id: str, *, cart: Iterable[str | CartLine] = (), k: int = 10
    ) -> Explanation:
        """Return why a product is among the k offers, with the counts behind it, or the first rule that removed it."""
        return explain(self._engine(), _request(account_id, cart, k=k), _id("product_id", product_id))

    def call_list(self, product_id: str, capacity: int, *, language: str | None = None) -> CallList:
        """Return the accounts that most likely take a product, `capacity` at the most, and why they are no more.

        Args:
            product_id: the product.
            capacity: how many calls can be made.
            language: of the reasons, a tag such as `de`; None: English.

        Raises:
            ConfigError: the model does not know the product, or there is no call to make.
        """
        explorer, product = ModelExplorer(self._engine()), _id("product_id", product_id)
        if not explorer.knows(product):
            raise ConfigError(f"product_id == {product!r}, the model does not know it; give a product of the orders")
        takers, n = explorer.takers_of(product), _count("capacity", capacity)
        return explorer.call_list(takers, n, lambda _: EMPTY_STATE, language)

    def white_space(self, account_id: str, *, products_per_category: int = 20) -> WhiteSpace:
        """Return what an account owns, would be offered, and could still buy, category by category.

        Args:
            account_id: the account.
            products_per_category: how many of a category are listed beside those that are owned or offered.

        Raises:
            ConfigError: an argument is out of range.
        """
        limit = _count("products_per_category", products_per_category)
        return ModelExplorer(self._engine()).board(_id("account_id", account_id), EMPTY_STATE, limit)

    def lifetime_values(self) -> pd.DataFrame:
        """Return what each account is expected to spend in the twelve months after the model's moment, with limits.

        Columns `account_id lifetime_value lifetime_value_low lifetime_value_high`, money; no value without an order.
        `kpis` takes it as `lifetime_values`.
        """
        self._engine()
        values: pd.DataFrame = lifetime_value_table(self.model_).to_pandas()
        return values

    def save(self, path: str | Path) -> Path:
        """Write a bundle to a folder, whole or not at all, and return it; the server answers from such a folder.

        Raises:
            BundleError: there is something else at `path`.
        """
        self._engine()
        frames = {"rules": self.rules_.frame, "ladder": self.ladder_.edges}
        save_bundle(Path(path), self.model_, frames=frames, details=self._details)
        return Path(path)

    @classmethod
    def load(cls, reference: str | Path, *, tracking_uri: str = DEFAULT_TRACKING_URI) -> Self:
        """Return the recommender of a bundle: a folder, `models:/NAME@ALIAS` or `models:/NAME/VERSION`.

        Args:
            reference: what `save` or `offers train` wrote, or what the model registry keeps.
            tracking_uri: where MLflow keeps its registry.

        Raises:
            ModelNotFoundError: no such folder, model, version or alias.
            BundleError: the bundle is damaged or of another version.
        """
        bundle = load_bundle(resolve_model(str(reference), tracking_uri=tracking_uri))
        said = {name: value for name, value in bundle.manifest.config.items() if name in FitConfig.model_fields}
        try:
            loaded = cls(FitConfig(**said))
        except ConfigError as error:
            raise BundleVersionError(f"{bundle.path}: {error}; train again") from None
        details = BundleDetails(
            data_fingerprint=bundle.manifest.data_fingerprint,
            config=bundle.manifest.config,
            ranking=bundle.manifest.ranking,
            metrics=bundle.manifest.metrics,
            warm_up=bundle.manifest.warm_up,
        )
        edges = bundle.frame("ladder").astype(dict.fromkeys(TEXT_COLUMNS, object))
        return loaded._hold(bundle.model, Rules(bundle.frame("rules")), Ladder(edges), details)

    def learned(self) -> FittedModels:
        """Return all that the last `fit` learned, its models and candidates included; `load` brings tables alone."""
        check_is_fitted(self, "next_product_")
        return self._fitted

    def _hold(self, model: OfferModel, rules: Rules, ladder: Ladder, details: BundleDetails) -> Self:
        self.model_, self.rules_, self.ladder_, self._details = model, rules, ladder, details
        self.engine_ = OfferEngine(model, details.ranking)
        return self

    def _engine(self) -> OfferEngine:
        check_is_fitted(self, "engine_")
        return self.engine_


def _request(
    account_id: str | None,
    cart: Iterable[str | CartLine],
    *,
    k: int,
    kinds: Sequence[OfferKind] = KINDS,
    objective: Objective = "conversion",
    new_only: bool = False,
    exclude: Iterable[str] = (),
    mix: Mix | None = None,
    variants: Variants | None = None,
    language: str | None = None,
) -> OfferRequest:
    for name, several in (("cart", cart), ("kinds", kinds), ("exclude", exclude)):
        _refuse_single(name, several)
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise ConfigError(f"kinds has {unknown[0]!r}, must name {' or '.join(KINDS)}; leave it out for both")
    if objective not in get_args(Objective):
        raise ConfigError(f"objective == {objective!r}, must be one of {', '.join(get_args(Objective))}")
    _refuse_unknown("mix", mix, Mix)
    _refuse_unknown("variants", variants, Variants)
    return OfferRequest(
        account_id=None if account_id is None else _id("account_id", account_id),
        cart=tuple(line if isinstance(line, CartLine) else CartLine(_id("cart", line)) for line in cart),
        kinds=tuple(kinds),
        limit=_count("k", k),
        exclude=frozenset(_ids("exclude", exclude)),
        new_only=new_only,
        objective=objective,
        mix=mix,
        variants=variants,
        language=language,
    )


def _refuse_unknown(name: str, value: object, known: object) -> None:
    if value is not None and value not in get_args(known):
        raise ConfigError(
            f"{name} == {value!r}, must be one of {', '.join(get_args(known))}; leave it out for the default"
        )


def _refuse_single(name: str, several: object) -> None:
    if isinstance(several, str) or not isinstance(several, Iterable):
        raise ConfigError(f"{name} == {several!r}, must be several; give [{several!r}]")


def _id(name: str, value: object) -> str:
    """Return an id as text, as the cleaning makes it of a column of numbers: 1003123.0 is `1003123`."""
    if value is None or value != value:
        raise ConfigError(f"{name} has no value, must be an id; leave out what has none")
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _ids(name: str, values: Iterable[object]) -> list[str]:
    _refuse_single(name, values)
    return [_id(name, value) for value in values]


def _count(name: str, value: object) -> int:
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"{name} == {value!r}, must be a whole number of 1 or more")
    return int(value)
