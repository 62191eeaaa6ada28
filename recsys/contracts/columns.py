"""The one place where a column is named.

Use as ``from recsys.contracts import columns as c`` and then ``frame[c.ACCOUNT_ID]``.
"""

from __future__ import annotations

from typing import Final

# orders, one row a line
ORDER_ID: Final = "order_id"
LINE_ID: Final = "line_id"
ACCOUNT_ID: Final = "account_id"
PRODUCT_ID: Final = "product_id"
ORDERED_AT: Final = "ordered_at"
QUANTITY: Final = "quantity"
UNIT_PRICE: Final = "unit_price"
CHANNEL: Final = "channel"
DISCOUNT: Final = "discount"
CURRENCY: Final = "currency"
STATUS: Final = "status"
# what a source of orders may have in place of a price and a cost a unit
LINE_TOTAL: Final = "line_total"
LINE_COST: Final = "line_cost"

# products
NAME: Final = "name"
CATEGORY: Final = "category"
FAMILY: Final = "family"
TIER: Final = "tier"
PRICE: Final = "price"
COST: Final = "cost"
ACTIVE: Final = "active"
STOCK: Final = "stock"
DO_NOT_OFFER: Final = "do_not_offer"
URL: Final = "url"
IMAGE_URL: Final = "image_url"

# accounts
SEGMENT: Final = "segment"
REGION: Final = "region"
IS_KEY_ACCOUNT: Final = "is_key_account"
OWNER: Final = "owner"
LANGUAGE: Final = "language"
CREATED_AT: Final = "created_at"

# upgrades
FROM_PRODUCT_ID: Final = "from_product_id"
TO_PRODUCT_ID: Final = "to_product_id"
REASON: Final = "reason"

# where a row came from, and why it was not kept
SOURCE_TABLE: Final = "source_table"
SOURCE_FILE: Final = "source_file"
SOURCE_ROW: Final = "source_row"
DROP_REASON: Final = "drop_reason"

# pairs and rules: antecedent -> consequent
ANTECEDENT_ID: Final = "antecedent_id"
CONSEQUENT_ID: Final = "consequent_id"
N_ORDERS: Final = "n_orders"
N_ANTECEDENT: Final = "n_antecedent"
N_CONSEQUENT: Final = "n_consequent"
N_BOTH: Final = "n_both"
SUPPORT: Final = "support"
CONFIDENCE: Final = "confidence"
CONFIDENCE_LOW: Final = "confidence_low"
CONFIDENCE_HIGH: Final = "confidence_high"
LIFT: Final = "lift"
LEVERAGE: Final = "leverage"
CONVICTION: Final = "conviction"
ZHANG: Final = "zhang"
JACCARD: Final = "jaccard"
CERTAINTY: Final = "certainty"
KULCZYNSKI: Final = "kulczynski"
COSINE: Final = "cosine"
EXPECTED_BOTH: Final = "expected_both"
P_VALUE: Final = "p_value"
Q_VALUE: Final = "q_value"
HOLDS_IN_BOTH_HALVES: Final = "holds_in_both_halves"
RELATION: Final = "relation"

# relations: product -> another
OTHER_ID: Final = "other_id"
RELATION_STRENGTH: Final = "strength"
SOURCE: Final = "source"
N_PRODUCT: Final = "n_product"
N_OTHER: Final = "n_other"
N_ALTERNATING: Final = "n_alternating"
EXPECTED_ALTERNATING: Final = "expected_alternating"
N_SHARED_COMPLEMENTS: Final = "n_shared_complements"
N_FOLLOWED: Final = "n_followed"
EXPECTED_FOLLOWED: Final = "expected_followed"
DAYS_UNTIL: Final = "days_until"
NAME_LIKENESS: Final = "name_likeness"
NAME_CHANCE: Final = "name_chance"
OTHER_NAME: Final = "other_name"

# follow-ons and itemsets
BASE_RATE: Final = "base_rate"
ITEMSET: Final = "itemset"
LENGTH: Final = "length"
N_HOLDING: Final = "n_holding"

# ladder edges
ORIGIN: Final = "origin"
PRICE_RATIO: Final = "price_ratio"
N_STANDING: Final = "n_standing"
N_CLIMBED: Final = "n_climbed"
CLIMB_RATE: Final = "climb_rate"
PACK_RATIO: Final = "pack_ratio"
FROM_NAME: Final = "from_name"
TO_NAME: Final = "to_name"

# offers
RANK: Final = "rank"
KIND: Final = "kind"
PROBABILITY: Final = "probability"
HORIZON_DAYS: Final = "horizon_days"
EXPECTED_QUANTITY: Final = "expected_quantity"
EXPECTED_VALUE: Final = "expected_value"
SCORE: Final = "score"
RANK_PROBABILITY: Final = "rank_probability"
BOOST: Final = "boost"
MOVED_BY: Final = "moved_by"
DECISION_ID: Final = "decision_id"

# what a training run measures
METHOD: Final = "method"
NDCG: Final = "ndcg"
MODEL: Final = "model"
FEATURE: Final = "feature"
IMPORTANCE: Final = "importance"
