"""Relations between products, typed and told apart by evidence: complements, substitutes, variants and follow-ons.

Of a pair the first that holds counts:

1. `judged`: people said so;
2. `variant`: the same thing in another colour or pattern, by names and prices (`recsys.products.variants`, which
   carts and pages of products use too);
3. `complement`: in one order more often than chance, `substitute`: more rarely (`recsys.mining.rules`), or accounts
   alternate between two that are alike (`recsys.mining.alternation`);
4. `follow_on`: bought later, more often than after other purchases and more often than the other way round;
5. by names alone, where nothing else is known (`recsys.mining.name_relations`), learned from judged pairs or, without
   any, from the pairs of this very history for which the orders speak clearly.

Where people judged pairs, a pair whose names they would call substitutes is none of complements, even if it is bought
together: a shop that stocks up buys several of a kind in one order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import Field

from recsys.arrays import FloatArray, IntArray, unique_sorted
from recsys.contracts import columns as c
from recsys.contracts.config import Config, given_config
from recsys.data.dataset import Dataset, as_dataset
from recsys.data.history import History
from recsys.data.sources import DataSource, connect, open_source
from recsys.errors import DataError
from recsys.mining.counting import number_baskets, read_margins, read_product_ids
from recsys.mining.follow_ons import FollowOnConfig
from recsys.mining.name_relations import NameRelations
from recsys.mining.relation_evidence import LEFT_ROW, RIGHT_ROW, PairEvidence, follow_on_steps
from recsys.mining.rules import RuleConfig, rules_frame
from recsys.mining.significance import false_discovery_rate, fit_null
from recsys.mining.similarity import alike_pairs
from recsys.products.name_likeness import NameLikeness
from recsys.products.variants import variant_groups

RELATION_COLUMNS: Final = (
    c.PRODUCT_ID,
    c.OTHER_ID,
    c.RELATION,
    c.SOURCE,
    c.RELATION_STRENGTH,
    c.NAME_CHANCE,
    c.N_PRODUCT,
    c.N_OTHER,
    c.N_BOTH,
    c.EXPECTED_BOTH,
    c.Q_VALUE,
    c.N_ALTERNATING,
    c.EXPECTED_ALTERNATING,
    c.N_FOLLOWED,
    c.EXPECTED_FOLLOWED,
    c.DAYS_UNTIL,
    c.NAME_LIKENESS,
    c.PRICE_RATIO,
    c.N_SHARED_COMPLEMENTS,
)
_PRIOR: Final = 5.0
"""Orders or accounts that a strength is shrunk by."""
_BLOCK: Final = 500
_RULE: Final = "rule"
_NONE: Final = "none"


class RelationConfig(Config):
    """What makes a relation.

    Attributes:
        rules: which pairs are complements or substitutes by orders; its `max_q_value` and `min_excess` hold for
            alternation and follow-ons too.
        follow_ons: the window and the fewest accounts of a follow-on.
        most_per_product: of each relation of a product, the strongest; bounds what is kept and asked for.
        names_per_product: alike names that are asked for by name alone.
        least_chance: that a name must give a relation which nothing else shows.
        taught_by: pairs of each relation, the clearest, from which names are learned where nobody judged any.
    """

    rules: RuleConfig = RuleConfig()
    follow_ons: FollowOnConfig = FollowOnConfig()
    most_per_product: int = Field(20, ge=1)
    names_per_product: int = Field(5, ge=0)
    least_chance: float = Field(0.6, ge=0, le=1)
    taught_by: int = Field(300, ge=10)


@dataclass(frozen=True)
class Relations:
    """Related products, each row from one to another.

    Attributes:
        frame: columns `RELATION_COLUMNS`, sorted by product and relation, the strongest first.
    """

    frame: pd.DataFrame

    def __len__(self) -> int:
        return len(self.frame)

    def to_frame(self) -> pd.DataFrame:
        """Return one row an ordered pair, columns `RELATION_COLUMNS`; the caller may change it."""
        return self.frame.copy()


@dataclass(frozen=True)
class _Catalogue:
    """Products by sorted id, arrays `(n_products,)`; an unknown name is empty, an unknown price NaN."""

    ids: pd.Index
    names: list[str]
    price: FloatArray
    group: IntArray

    @classmethod
    def of(cls, products: pd.DataFrame, history: History) -> _Catalogue:
        known = products.set_index(c.PRODUCT_ID).reindex(history.product_ids)
        paid = pd.Series(history.unit_price).groupby(history.product).median().reindex(range(len(known)))
        price = known[c.PRICE].to_numpy(dtype=np.float64)
        price = np.where(np.isnan(price), paid.to_numpy(), price)
        names = [str(name) if pd.notna(name) else "" for name in known[c.NAME]]
        family = pd.factorize(known[c.FAMILY], sort=True)[0]
        group = variant_groups([name or None for name in names], price, family)
        return cls(pd.Index(history.product_ids), names, price, group.astype(np.int64))


def mine_relations(
    data: Dataset | DataSource, config: RelationConfig | None = None, labels: DataSource | None = None
) -> Relations:
    """Return what each product is to others, and the counts that say why.

    Strengths lie in [0, 1]. With n seen where e is expected by chance, both raised by 5: `1 - e / n` of orders with
    both for complements, of accounts for alternation and follow-ons; `1 - n / e` of orders for substitutes; else the
    probability by names. `name_chance` is that probability for every pair, NaN without names.

    Args:
        data: cleaned purchase history, or order lines in contract columns.
        config: what makes a relation.
        labels: pairs that people judged: `product_id other_id relation` (complement, substitute or none) and, of
            products that the data do not name, `name other_name`; one row a judge, the majority counts.

    Raises:
        DataError: the order lines or labels can't be used.
    """
    known, wanted = as_dataset(data), given_config(config, RelationConfig)
    history = known.history()
    catalogue = _Catalogue.of(known.products, history)
    judged = None if labels is None else _majority(labels, catalogue)
    rules = rules_frame(known.orders, wanted.rules, known.products)
    baskets = number_baskets(known.orders, n_periods=2 * wanted.rules.periods_a_half).cache()
    margins = read_margins(baskets, read_product_ids(known.orders))
    evidence = PairEvidence.of(history, rules, fit_null(margins, wanted.rules.null), margins.product_ids)
    steps = follow_on_steps(history, wanted.follow_ons, wanted.rules)
    near = _keys(*_near_names(catalogue, wanted.names_per_product), len(catalogue.ids))
    drawn = _drawn(evidence, wanted)
    asked = near if judged is None else np.concatenate([near, _said(judged, catalogue).index.to_numpy(dtype=np.int64)])
    key = _candidates(known.products, rules, asked, drawn, catalogue, wanted)
    pairs = evidence.between(key // len(catalogue.ids), key % len(catalogue.ids))
    pairs = _related(pairs.assign(is_near=np.isin(key, near), is_drawn=np.isin(key, drawn)), rules, catalogue, wanted)
    pairs["said"] = None if judged is None else _said(judged, catalogue).reindex(key).to_numpy()
    pairs = _told_by_names(_strongest(pairs, wanted.most_per_product), catalogue, judged, wanted)
    return Relations(_directed(pairs, steps, catalogue, wanted))


def _majority(labels: DataSource, catalogue: _Catalogue) -> pd.DataFrame:
    """Return `product_id other_id name other_name relation` of the pairs that one relation has most judges for."""
    frame: pd.DataFrame = open_source(connect(), labels, name="labels").table.to_pandas()
    if missing := [name for name in (c.PRODUCT_ID, c.OTHER_ID, c.RELATION) if name not in frame]:
        raise DataError(f"labels: columns {missing} are missing; give product_id, other_id and relation")
    if unknown := sorted({*frame[c.RELATION].astype(str)} - {"complement", "substitute", _NONE}):
        raise DataError(f"labels: relation == {unknown[0]!r}, must be complement, substitute or none; map it")
    named = dict(zip(catalogue.ids, catalogue.names, strict=True))
    for key, name in ((c.PRODUCT_ID, c.NAME), (c.OTHER_ID, c.OTHER_NAME)):
        given = frame[name] if name in frame else pd.Series(None, index=frame.index, dtype=object)
        frame[name] = given.where(given.notna(), frame[key].map(named)).fillna("").astype(str)
    names = [c.PRODUCT_ID, c.OTHER_ID, c.NAME, c.OTHER_NAME]
    counts = frame.value_counts([*names, c.RELATION]).reset_index(name="n")
    counts = counts.sort_values([*names, "n", c.RELATION], ascending=[True] * 4 + [False, True], ignore_index=True)
    tied = counts.duplicated([*names, "n"], keep=False)
    first = ~counts.duplicated(names)
    return counts[first & ~(tied & first)].reset_index(drop=True)


def _candidates(
    products: pd.DataFrame,
    rules: pd.DataFrame,
    near: IntArray,
    drawn: IntArray,
    catalogue: _Catalogue,
    config: RelationConfig,
) -> IntArray:
    """Return the keys of the pairs of which anything can be said: together or too rarely, alike, or variants."""
    n = len(catalogue.ids)
    likeness = config.rules.likeness.model_copy(update={"use_category": False})
    alike = alike_pairs(products, catalogue.ids.to_numpy(dtype=object), sp.csr_array((n, n)), likeness)
    grouped = np.flatnonzero(catalogue.group)
    member = sp.csr_array((np.ones(len(grouped)), (catalogue.group[grouped], grouped)), shape=(n + 1, n))
    variants = sp.triu(member.T @ member, k=1).tocoo()
    one, other = (catalogue.ids.get_indexer(pd.Index(rules[name])) for name in (c.ANTECEDENT_ID, c.CONSEQUENT_ID))
    found = [_keys(*alike, n), _keys(variants.row, variants.col, n), _keys(one, other, n), near, drawn]
    return unique_sorted(np.concatenate(found))


def _said(judged: pd.DataFrame, catalogue: _Catalogue) -> pd.Series:
    """Return what was judged of pairs of the catalogue, by key; of a pair given both ways the first counts."""
    one, other = (catalogue.ids.get_indexer(pd.Index(judged[name])) for name in (c.PRODUCT_ID, c.OTHER_ID))
    known = (one >= 0) & (other >= 0) & (one != other)
    said = pd.Series(judged[c.RELATION].to_numpy()[known], _keys(one[known], other[known], len(catalogue.ids)))
    return said[~said.index.duplicated()]


def _keys(one: NDArray[np.integer], other: NDArray[np.integer], n_products: int) -> IntArray:
    """Return a number for each unordered pair of two different rows."""
    low, high = np.minimum(one, other).astype(np.int64), np.maximum(one, other).astype(np.int64)
    return np.asarray((low * n_products + high)[low != high])


def _drawn(evidence: PairEvidence, config: RelationConfig) -> IntArray:
    """Return the keys of pairs drawn from products that are ordered often enough: most have no relation."""
    often = np.flatnonzero(evidence.n_with >= config.rules.min_product_orders)
    drawn = np.random.default_rng(0).choice(often, (2, 2 * config.taught_by)) if len(often) else np.zeros((2, 0), int)
    return unique_sorted(_keys(drawn[0], drawn[1], len(evidence.n_with)))


def _strongest(pairs: pd.DataFrame, most: int) -> pd.DataFrame:
    """Return the pairs that are among the strongest of their relation for one of their products, and those to ask."""
    ranked = pairs.sort_values(
        [c.RELATION_STRENGTH, c.N_BOTH, LEFT_ROW, RIGHT_ROW], ascending=[False, False, True, True]
    )
    first = [
        ranked.groupby([side, c.RELATION]).cumcount().reindex(pairs.index) < most for side in (LEFT_ROW, RIGHT_ROW)
    ]
    is_related = pairs[c.RELATION] != _NONE
    return pairs[
        (is_related & (first[0] | first[1])) | pairs["is_near"] | pairs["is_drawn"] | pairs["said"].notna()
    ].reset_index(drop=True)


def _near_names(catalogue: _Catalogue, n_nearest: int) -> tuple[IntArray, IntArray]:
    """Return each named product with those of the most alike names."""
    named = np.array([row for row, name in enumerate(catalogue.names) if name], dtype=np.int64)
    n_nearest = min(n_nearest, len(named) - 1)
    if n_nearest < 1:
        return named[:0], named[:0]
    names = [catalogue.names[row] for row in named]
    weights = NameLikeness.of(names).weights(names)
    nearest = []
    for start in range(0, len(named), _BLOCK):
        cosine = (weights[start : start + _BLOCK] @ weights.T).toarray()
        rows = np.arange(len(cosine))
        cosine[rows, rows + start] = -1.0
        nearest.append(np.argsort(-cosine, axis=1, kind="stable")[:, :n_nearest])
    return np.repeat(named, n_nearest), named[np.concatenate(nearest).ravel()]


def _related(pairs: pd.DataFrame, rules: pd.DataFrame, catalogue: _Catalogue, config: RelationConfig) -> pd.DataFrame:
    """Add the relation that orders, accounts, or names and prices show, `none` where they show none."""
    one, other = (catalogue.ids.get_indexer(pd.Index(rules[name])) for name in (c.ANTECEDENT_ID, c.CONSEQUENT_ID))
    ruled = pd.DataFrame({LEFT_ROW: one, RIGHT_ROW: other, _RULE: rules[c.RELATION], c.Q_VALUE: rules[c.Q_VALUE]})
    pairs = pairs.merge(ruled[one < other], on=[LEFT_ROW, RIGHT_ROW], how="left", validate="one_to_one")
    rule = pairs[_RULE].fillna(_NONE).to_numpy(dtype=object)
    q_value = false_discovery_rate(pairs.pop("p_alternating").to_numpy(), len(pairs))
    more = pairs[c.N_ALTERNATING] >= config.rules.min_excess * pairs[c.EXPECTED_ALTERNATING]
    alternates = (rule == _NONE) & (q_value <= config.rules.max_q_value) & more.to_numpy()
    group = catalogue.group[pairs[LEFT_ROW]]
    is_variant = (group > 0) & (group == catalogue.group[pairs[RIGHT_ROW]])
    relation = np.select([(rule == "substitute") | alternates, is_variant], ["substitute", "variant"], rule)
    source = np.select([relation == "variant", alternates, rule != _NONE], ["name and price", "accounts", "orders"], "")
    pairs[c.Q_VALUE] = np.where(alternates, q_value, pairs[c.Q_VALUE])
    pairs[c.NAME_LIKENESS] = np.nan
    pairs[c.PRICE_RATIO] = catalogue.price[pairs[RIGHT_ROW]] / catalogue.price[pairs[LEFT_ROW]]
    both, expected = pairs[c.N_BOTH] + _PRIOR, pairs[c.EXPECTED_BOTH] + _PRIOR
    apart, apart_expected = pairs[c.N_ALTERNATING] + _PRIOR, pairs[c.EXPECTED_ALTERNATING] + _PRIOR
    strength = np.select(
        [source == "accounts", relation == "complement", relation == "substitute"],
        [1 - apart_expected / apart, 1 - expected / both, 1 - both / expected],
        np.where(is_variant, 1.0, 0.0),
    )
    pairs = pairs.drop(columns=_RULE).assign(**{c.RELATION: relation, c.SOURCE: source})
    return pairs.assign(**{c.RELATION_STRENGTH: np.clip(strength, 0.0, 1.0)})


def _told_by_names(
    pairs: pd.DataFrame, catalogue: _Catalogue, judged: pd.DataFrame | None, config: RelationConfig
) -> pd.DataFrame:
    """Add what names say of each pair, and take it where nothing else is known or people judged."""
    first, second = ([catalogue.names[row] for row in pairs[side]] for side in (LEFT_ROW, RIGHT_ROW))
    named = np.array([bool(a and b) for a, b in zip(first, second, strict=True)])
    relation, source = (pairs[name].to_numpy(dtype=object).copy() for name in (c.RELATION, c.SOURCE))
    strength, chance = pairs[c.RELATION_STRENGTH].to_numpy(copy=True), np.full(len(pairs), np.nan)
    taught = _taught(pairs[named], catalogue, config) if judged is None else judged[[c.NAME, c.OTHER_NAME, c.RELATION]]
    counts = taught[c.RELATION].value_counts()
    enough = counts[counts > 2 * NameRelations().n_folds].index
    taught = taught[taught[c.RELATION].isin(enough)]
    asked = np.flatnonzero(named)
    if len(enough) > 1 and len(asked):
        known = (taught[c.NAME].to_list(), taught[c.OTHER_NAME].to_list(), taught[c.RELATION].to_list())
        names = NameLikeness.of([*catalogue.names, *known[0], *known[1]])
        model = NameRelations().fit(*known, names=names)
        one, other = [first[row] for row in asked], [second[row] for row in asked]
        says = pd.DataFrame(model.predict_proba(one, other), columns=model.classes_)
        says = says.reindex(columns=["complement", "substitute", _NONE], fill_value=0.0)
        pairs.loc[asked, c.NAME_LIKENESS] = names.between(one, other)[:, 1]
        likeliest = says.columns.to_numpy(dtype=object)[says.to_numpy().argmax(axis=1)]
        highest = says.to_numpy().max(axis=1)
        is_silent = pairs["is_near"].to_numpy()[asked] & (relation[asked] == _NONE)
        silent = is_silent & (likeliest != _NONE) & (highest >= config.least_chance)
        stocked = (relation[asked] == "complement") & (says["substitute"].to_numpy() >= config.least_chance)
        told = silent | stocked if judged is not None and "complement" in model.classes_ else silent
        relation[asked[told]], source[asked[told]], strength[asked[told]] = likeliest[told], "names", highest[told]
        own = np.where(relation[asked] == "variant", "substitute", relation[asked])
        own = pd.Index(says.columns).get_indexer(pd.Index(own))
        chance[asked] = says.to_numpy()[np.arange(len(asked)), own]
    if judged is not None:
        said = pairs["said"].to_numpy(dtype=object)
        is_said = pairs["said"].notna().to_numpy()
        relation[is_said], source[is_said], strength[is_said] = said[is_said], "judged", 1.0
    found = {c.RELATION: relation, c.SOURCE: source, c.RELATION_STRENGTH: strength, c.NAME_CHANCE: chance}
    told_of = pairs.assign(**found)
    return told_of[told_of[c.RELATION] != _NONE].reset_index(drop=True)


def _taught(pairs: pd.DataFrame, catalogue: _Catalogue, config: RelationConfig) -> pd.DataFrame:
    """Return pairs whose relation is clear without names: the clearest of each, and drawn ones that show none."""
    clear = pairs[(pairs[c.RELATION] != _NONE) & (pairs[c.SOURCE] != "names")].copy()
    clear[c.RELATION] = clear[c.RELATION].replace("variant", "substitute")
    quiet = pairs[pairs["is_drawn"] & (pairs[c.RELATION] == _NONE)]
    by = [c.RELATION, c.RELATION_STRENGTH, c.N_BOTH, LEFT_ROW, RIGHT_ROW]
    ranked = pd.concat([clear, quiet]).sort_values(by, ascending=[True, False, False, True, True])
    best = ranked.groupby(c.RELATION, sort=False).head(config.taught_by)
    one, other = ([catalogue.names[row] for row in best[side]] for side in (LEFT_ROW, RIGHT_ROW))
    return pd.DataFrame({c.NAME: one, c.OTHER_NAME: other, c.RELATION: best[c.RELATION].to_numpy()})


def _directed(pairs: pd.DataFrame, steps: pd.DataFrame, catalogue: _Catalogue, config: RelationConfig) -> pd.DataFrame:
    """Return both directions of the pairs and the follow-ons between products that have no relation, the strongest."""
    turned = pairs.rename(
        columns={LEFT_ROW: RIGHT_ROW, RIGHT_ROW: LEFT_ROW, c.N_PRODUCT: c.N_OTHER, c.N_OTHER: c.N_PRODUCT}
    )
    turned[c.PRICE_RATIO] = 1 / turned[c.PRICE_RATIO]
    both = pd.concat([pairs, turned], ignore_index=True)
    both[c.PRODUCT_ID], both[c.OTHER_ID] = (catalogue.ids[both[side]].to_numpy() for side in (LEFT_ROW, RIGHT_ROW))
    later = steps.rename(columns={c.ANTECEDENT_ID: c.PRODUCT_ID, c.CONSEQUENT_ID: c.OTHER_ID})
    keys = [c.PRODUCT_ID, c.OTHER_ID]
    both = both.merge(later, on=keys, how="outer", validate="one_to_one", suffixes=("", "_step"))
    follows = both[c.RELATION].isna().to_numpy()
    both[c.RELATION] = both[c.RELATION].fillna("follow_on")
    both[c.SOURCE] = both[c.SOURCE].fillna("accounts")
    strength = 1 - (both[c.EXPECTED_FOLLOWED] + _PRIOR) / (both[c.N_FOLLOWED] + _PRIOR)
    both[c.RELATION_STRENGTH] = np.where(follows, strength, both[c.RELATION_STRENGTH])
    both[c.Q_VALUE] = np.where(follows, both["q_step"], both[c.Q_VALUE])
    order = [c.PRODUCT_ID, c.RELATION, c.RELATION_STRENGTH, c.N_BOTH, c.OTHER_ID]
    ranked = both.sort_values(order, ascending=[True, True, False, False, True], ignore_index=True)
    strongest = ranked.groupby([c.PRODUCT_ID, c.RELATION], sort=False).head(config.most_per_product)
    counts = [c.N_PRODUCT, c.N_OTHER, c.N_BOTH, c.N_ALTERNATING, c.N_SHARED_COMPLEMENTS, c.N_FOLLOWED]
    kept = strongest[list(RELATION_COLUMNS)].reset_index(drop=True)
    texts = [c.PRODUCT_ID, c.OTHER_ID, c.RELATION, c.SOURCE]
    return kept.astype({**dict.fromkeys(counts, "Int64"), **dict.fromkeys(texts, "str")})
