"""What compiled code reads and writes: each column declared once and read by its name, as in `price(t)[product]`.

`t` is the address of one thread's columns of `MODEL_TABLE`, `r` that of the business rules in force for a request.
Products, accounts, segments and mined rules are rows of the model's tables; -1 (`NO_ROW`) means none.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from recsys.contracts.offers import CandidateSources, MovedBy, Objective
from recsys.ranking.kernel.native import Columns

NO_ROW: Final = -1

CROSS_SELL, UPSELL = 0, 1
"""The kinds of offer, as they number the two lists."""
OBJECTIVE_CONVERSION, OBJECTIVE_REVENUE, OBJECTIVE_MARGIN = 0, 1, 2
OBJECTIVES: Final[dict[Objective, int]] = {
    "conversion": OBJECTIVE_CONVERSION,
    "revenue": OBJECTIVE_REVENUE,
    "margin": OBJECTIVE_MARGIN,
}
ALL_SOURCES, ONLY_EVIDENCE, ONLY_POPULAR = 0, 1, 2
SOURCES: Final[dict[CandidateSources, int]] = {
    "all": ALL_SOURCES,
    "evidence": ONLY_EVIDENCE,
    "popular": ONLY_POPULAR,
}
TIER_ACCOUNT, TIER_RECENT, TIER_CART, TIER_SEGMENT, TIER_POPULAR = range(5)

FILTERS: Final = (
    *("offerable", "inactive", "do_not_offer", "out_of_stock", "blocked", "filtered", "in_cart", "excluded"),
    *("withheld", "owned", "not_credible", "worth_less", "near_duplicate", "substitute"),
)
"""What removes a candidate, in the order of asking; the first four are `live_catalogue.REFUSALS`."""
(
    FILTER_BLOCKED,
    FILTER_BOUNDS,
    FILTER_IN_CART,
    FILTER_EXCLUDED,
    FILTER_SUPPRESSED,
    FILTER_OWNED,
    FILTER_NOT_CREDIBLE,
    FILTER_WORTH_LESS,
    FILTER_NEAR_DUPLICATE,
    FILTER_SUBSTITUTE,
) = range(4, 14)
PASSED: Final = 0

MOVERS: Final[tuple[MovedBy | None, ...]] = (
    None,
    "kinds",
    "categories",
    "rule",
    "relevance",
    "exploration",
    "variants",
)
"""Why an offer does not stand where its score would have it, by number."""
NOT_MOVED, BY_KINDS, BY_CATEGORIES, BY_RULE, BY_RELEVANCE, BY_EXPLORATION, BY_VARIANTS = range(7)

LATER_OF_CARTS: Final = 1.3
"""Times the chance of this very order that a cart's probabilities are: they count later orders within the horizon too.

What is bought in the rest of real orders or within 30 days, over what is in the rest: 1.25 to 1.3 for carts of one line
and of half an order at three moments (Online Retail II).
"""

OPTED_OUT: Final = -1
"""What `rank` returns for an account that wants no offers."""
TOO_LARGE: Final = -2
"""What it returns where the working memory holds fewer than `n_needed` candidates."""

NOT_A_CANDIDATE, WAS_FILTERED, WAS_PASSED_OVER, WAS_OUTRANKED, WAS_NOT_REACHED, WAS_OFFERED = range(6)
"""What became of a watched product, in `watched_state`; `watched_filter` names what removed it or let it be passed."""

MARK_CART, MARK_EXCLUDED, MARK_SUPPRESSED, MARK_OWNED = 1, 2, 4, 8
MARKS_OF_FILTERS: Final = MARK_CART | MARK_EXCLUDED | MARK_SUPPRESSED | MARK_OWNED
MARK_CHOSEN, MARK_REPLACED, MARK_REPLACED_IN_CART, MARK_COUNTED = 16, 32, 64, 128
FAMILY_CHOSEN, FAMILY_IN_CART = 1, 2


def _record(**fields: Any) -> np.dtype[Any]:  # noqa: ANN401 - whatever numpy takes for a type
    return np.dtype(list(fields.items()), align=True)


_I, _F = np.int64, np.float64

SETTINGS: Final = _record(
    min_probability=_F,
    relevance_floor=_F,
    repeat_weight=_F,
    repeat_prior_orders=_F,
    least_buyers=_F,
    max_kind_share=_F,
    max_category_share=_F,
    free_ranks=_F,
    least_worth=_F,
    variant_ranks=_F,
    unrelated_boost=_F,  # of what no link of the cart speaks for, see `RankingConfig.relation_weight`
    margin_rate=_F,  # of products without a cost
    usual_pace=_F,  # orders in a horizon of who places the average order
)
CURVE: Final = _record(
    lines=_I,  # of a cart, from which on the curve holds
    begin=_I,  # of its knots
    end=_I,
    first_cell=_I,  # of `knot_before`
    cells_per_score=_F,
)
REQUEST: Final = _record(
    rules=_I,  # address of a table of `RULES_TABLE`
    has_rules=_I,  # any of them is about this request
    has_account=_I,
    wants_none=_I,  # no offer, whatever the model says of the account
    obeys_opt_out=_I,
    segment=_I,  # NO_ROW: the account's
    limit=_I,
    wants_cross_sell=_I,
    wants_upsell=_I,
    new_only=_I,
    objective=_I,
    is_raw=_I,
    mixes_kinds=_I,
    mixes_categories=_I,
    leaves_variants_out=_I,
    sources=_I,
    watched=_I,  # the product of which it is asked what became of it
    has_bounds=_I,  # on categories or prices
    min_price=_F,  # NaN: none
    max_price=_F,
    n_cart=_I,  # of each list, in this order in `rows`
    n_excluded=_I,
    n_suppressed=_I,
    n_bought=_I,
    n_categories=_I,  # NO_ROW: any
    n_unknown=_I,  # lines of the cart that the model does not know
    n_posted=_I,  # products bought since the model, known to it or not
)
ANSWER: Final = _record(
    account=_I,
    segment=_I,
    n_recent=_I,
    n_considered=_I,
    n_refused=_I,
    n_needed=_I,
    watched_state=_I,
    watched_filter=_I,
    watched_place=_I,
    n_eligible=_I,
    watched_utility=_F,
    watched_probability=_F,
)
CANDIDATE: Final = _record(
    product=np.int32,
    from_product=np.int32,  # the rung that an upgrade starts from; NO_ROW: a cross-sell
    evidence=np.int32,  # row of the evidence table, of the fallback table in the tiers segment and popular
    tier=np.int8,
    removed_by=np.int8,  # position in `FILTERS`
    is_relevant=np.int8,  # reaches `relevance_floor` times the best of its kind
    is_open=np.int8,  # may still be taken
    moved_by=np.int8,  # position in `MOVERS`
    probability=_F,  # within the model's horizon
    rank_score=_F,  # `rank_probability` times `boost`, once it has passed the filters
    rank_probability=_F,  # beside a cart what speaks for this very order, else `probability`
    boost=_F,  # of business rules, times `relation`, or what is not held back of a product that too many would be shown
    relation=_F,  # beside a cart: of the line that it goes with best, see `RankingConfig.relation_weight`
    quantity=_F,  # expected units
    score=_F,  # of the model that proposed it, comparable within one kind
    utility=_F,  # what the order goes by
)
LIST: Final = _record(
    begin=_I,
    end=_I,
    listed_end=_I,  # of what is in order so far
    first=_I,  # all before it are closed
    n_taken=_I,
    best_irrelevant=_F,  # utility of those below the floor
)
"""The candidates of one kind, ordered as far as they are read: see `selection`."""
OFFER: Final = _record(
    product=np.int32,
    from_product=np.int32,
    evidence=np.int32,
    tier=np.int32,
    rule=np.int32,  # row of the mined rule that explains it
    antecedent=np.int32,  # of that rule
    price=_F,
    probability=_F,
    quantity=_F,
    expected_value=_F,
    utility=_F,
    rank_probability=_F,
    boost=_F,
    moved_by=_I,
)
"""The fields of `ranked.RankedOffer`."""
SLOT: Final = _record(rank=_I, begin=_I, end=_I, or_before=_I)
"""A rank that a business rule speaks of: one of `slot_products[begin:end]` stands there, or before."""

MODEL_TABLE: Final = Columns()
price = MODEL_TABLE.column("catalogue.price", np.float64)
price_start = MODEL_TABLE.column("catalogue.price_start", np.int64)
price_count = MODEL_TABLE.column("catalogue.price_count", np.int64)
cost = MODEL_TABLE.column("catalogue.cost", np.float64)
refusal = MODEL_TABLE.column("catalogue.refusal", np.int8)
family = MODEL_TABLE.column("products.family", np.int32)
category = MODEL_TABLE.column("products.category", np.int32)
variant_group = MODEL_TABLE.column("products.variant_group", np.int32)
held_back = MODEL_TABLE.column("products.held_back", np.float32)
usual_units = MODEL_TABLE.column("products.usual_quantity", np.float32)
cart_prior = MODEL_TABLE.column("products.cart_prior", np.float32)
cart_start = MODEL_TABLE.column("products.cart_start", np.int64)
cart_count = MODEL_TABLE.column("products.cart_count", np.int32)
ladder_start = MODEL_TABLE.column("products.ladder_start", np.int64)
ladder_count = MODEL_TABLE.column("products.ladder_count", np.int32)
rules_start = MODEL_TABLE.column("products.rules_start", np.int64)
rules_count = MODEL_TABLE.column("products.rules_count", np.int32)
substitutes_start = MODEL_TABLE.column("products.substitutes_start", np.int64)
substitutes_count = MODEL_TABLE.column("products.substitutes_count", np.int32)
id_offsets = MODEL_TABLE.column("accounts.ids.offsets", np.int64)
id_bytes = MODEL_TABLE.column("accounts.ids.data", np.uint8)
segment_of = MODEL_TABLE.column("accounts.segment", np.int32)
opted_out = MODEL_TABLE.column("accounts.do_not_offer", np.uint8)
n_orders = MODEL_TABLE.column("accounts.n_orders", np.int32)
orders_in_horizon = MODEL_TABLE.column("accounts.orders_in_horizon", np.float32)
own_start = MODEL_TABLE.column("accounts.candidates_start", np.int64)
own_count = MODEL_TABLE.column("accounts.candidates_count", np.int32)
owned_start = MODEL_TABLE.column("accounts.owned_start", np.int64)
owned_count = MODEL_TABLE.column("accounts.owned_count", np.int32)
own_product = MODEL_TABLE.column("candidates.product", np.int32)
own_from_product = MODEL_TABLE.column("candidates.from_product", np.int32)
own_score = MODEL_TABLE.column("candidates.score", np.float32)
own_probability = MODEL_TABLE.column("candidates.probability", np.float32)
own_quantity = MODEL_TABLE.column("candidates.expected_quantity", np.float32)
own_evidence = MODEL_TABLE.column("candidates.evidence", np.int32)
owned_product = MODEL_TABLE.column("owned.product", np.int32)
is_owned = MODEL_TABLE.column("owned.owned", np.uint8)
owned_orders = MODEL_TABLE.column("owned.n_orders", np.int32)
rule_consequent = MODEL_TABLE.column("rules.consequent", np.int32)
rule_n_both = MODEL_TABLE.column("rules.n_both", np.int32)
rule_n_antecedent = MODEL_TABLE.column("rules.n_antecedent", np.int32)
rule_n_buyers = MODEL_TABLE.column("rules.n_buyers", np.int32)
substitute = MODEL_TABLE.column("substitutes.product", np.int32)
cart_consequent = MODEL_TABLE.column("cart.consequent", np.int32)
cart_weight = MODEL_TABLE.column("cart.weight", np.float32)
cart_lift = MODEL_TABLE.column("cart.lift", np.float32)
curve_score = MODEL_TABLE.column("cart_curve.score", np.float64)
curve_probability = MODEL_TABLE.column("cart_curve.probability", np.float64)
curve_of_new = MODEL_TABLE.column("cart_curve.of_new", np.float64)
curve_of_bought = MODEL_TABLE.column("cart_curve.of_bought", np.float64)
curve_of_unlinked = MODEL_TABLE.column("cart_curve.of_unlinked", np.float64)
rung = MODEL_TABLE.column("ladder.to_product", np.int32)
rung_rate = MODEL_TABLE.column("ladder.climb_rate", np.float32)
rung_evidence = MODEL_TABLE.column("ladder.evidence", np.int32)
popular_start = MODEL_TABLE.column("segments.fallback_start", np.int64)
popular_count = MODEL_TABLE.column("segments.fallback_count", np.int32)
popular_product = MODEL_TABLE.column("fallback.product", np.int32)
popular_probability = MODEL_TABLE.column("fallback.probability", np.float32)
listed_segment = MODEL_TABLE.column("prices.segment", np.int32)
listed_least = MODEL_TABLE.column("prices.least_quantity", np.float64)
listed_price = MODEL_TABLE.column("prices.price", np.float64)

cart_relation = MODEL_TABLE.column("made.cart_relation", np.float64)
settings = MODEL_TABLE.column("made.settings", SETTINGS)
curves = MODEL_TABLE.column("made.curves", CURVE)
knot_before = MODEL_TABLE.column(
    "made.knot_before", np.int32
)  # by cell of equal width of each curve: its last knot at or below it

request = MODEL_TABLE.column("work.request", REQUEST)  # one record
rows = MODEL_TABLE.column(
    "work.rows", np.int64
)  # of the cart, excluded, suppressed, bought products; then of categories
units = MODEL_TABLE.column("work.units", np.float64)  # of each product of the cart
recent = MODEL_TABLE.column("work.recent", np.int64)  # purchases that speak for an account without candidates
answer = MODEL_TABLE.column("work.answer", ANSWER)  # one record
offers = MODEL_TABLE.column("work.offers", OFFER)
removed = MODEL_TABLE.column("work.removed", np.int64)  # candidates that each of `FILTERS` was the first to remove
refused = MODEL_TABLE.column("work.refused", np.int64)  # products that stock, flags or a business rule removed
refused_by = MODEL_TABLE.column("work.refused_by", np.int64)  # position in `FILTERS` of what removed each
marks = MODEL_TABLE.column("work.marks", np.int16)  # of each product; this and the next four are zero between two calls
places = MODEL_TABLE.column("work.places", np.int32)  # of each product among the candidates, plus one
family_marks = MODEL_TABLE.column("work.family_marks", np.int8)
variant_marks = MODEL_TABLE.column("work.variant_marks", np.int8)  # of each group of variants
category_counts = MODEL_TABLE.column("work.category_counts", np.int32)  # offers taken of each
candidates = MODEL_TABLE.column("work.candidates", CANDIDATE)
lists = MODEL_TABLE.column("work.lists", LIST)  # one of each kind
line = MODEL_TABLE.column("work.line", np.int32)  # candidates of both lists that are not listed yet, a heap each
listed = MODEL_TABLE.column("work.listed", np.int32)  # candidates in order
levels = MODEL_TABLE.column("work.levels", np.float64)  # of each of `listed`: the least rank score of its kind up to it
taken = MODEL_TABLE.column("work.taken", np.int32)  # candidates by rank
waiting = MODEL_TABLE.column("work.waiting", np.int32)  # candidates that are pinned to a rank

PER_CANDIDATE: Final = (
    *("candidates", "line", "listed", "levels", "taken", "waiting"),
    *("offers", "refused", "refused_by"),
)
"""The columns of `work` that have room for as many as there may be candidates."""

RULES_TABLE: Final = Columns()
blocked = RULES_TABLE.column("blocked", np.int32)  # products, sorted, as the next two
pinned = RULES_TABLE.column("pinned", np.int32)
boosted = RULES_TABLE.column("boosted", np.int32)
factors = RULES_TABLE.column("factors", np.float64)  # of each of `boosted`
discounted = RULES_TABLE.column("discounted", np.int32)
shares = RULES_TABLE.column("shares", np.float64)  # of the price, off each of `discounted`
slots = RULES_TABLE.column("slots", SLOT)  # by rank
slot_products = RULES_TABLE.column("slot_products", np.int32)  # sorted within each slot
