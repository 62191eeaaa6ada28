from __future__ import annotations

from datetime import datetime

import ibis
import pandas as pd
import pytest
from pandera.errors import SchemaError

from recsys.contracts import columns as c
from recsys.contracts.tables import ACCOUNTS, ORDERS, PRODUCTS, UPGRADES

SCHEMAS = (ORDERS, PRODUCTS, ACCOUNTS, UPGRADES)


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.name)
def test_a_key_is_never_empty_and_columns_are_named_once(schema) -> None:
    assert len(set(schema.names)) == len(schema.names)
    assert all(not schema[name].nullable for name in schema.key)
    assert all(column.meaning for column in schema.columns)
    with pytest.raises(KeyError):
        schema["absent"]


def test_the_required_columns_are_those_of_the_contract() -> None:
    assert ORDERS.required == (c.ORDER_ID, c.ACCOUNT_ID, c.PRODUCT_ID, c.ORDERED_AT, c.QUANTITY, c.UNIT_PRICE)
    assert [schema.required for schema in SCHEMAS[1:3]] == [(c.PRODUCT_ID,), (c.ACCOUNT_ID,)]
    assert UPGRADES.required == (c.FROM_PRODUCT_ID, c.TO_PRODUCT_ID)


def test_the_check_of_a_table_of_order_lines_has_teeth() -> None:
    texts = dict.fromkeys([column.name for column in ORDERS.columns if column.dtype == "string"], "x")
    numbers = dict.fromkeys([column.name for column in ORDERS.columns if column.dtype == "float64"], 1.0)
    right = texts | numbers | {c.ORDERED_AT: datetime(2024, 1, 1), c.ACCOUNT_ID: None}  # noqa: DTZ001

    def lines(**changed: object) -> ibis.Table:
        types = {
            column.name: "timestamp(6)" if column.dtype == "timestamp" else column.dtype for column in ORDERS.columns
        }
        return ibis.memtable([{name: (right | changed)[name] for name in ORDERS.names}], schema=ibis.schema(types))

    check = ORDERS.pandera_ibis()
    assert check.validate(lines()) is not None
    for wrong in ({c.ORDER_ID: None}, {c.ORDERED_AT: None}, {c.QUANTITY: float("nan")}, {c.UNIT_PRICE: -1.0}):
        with pytest.raises(SchemaError, match="allowed_values"):
            check.validate(lines(**wrong))


def upgrades(**columns: list[str | None]) -> pd.DataFrame:
    whole = {c.FROM_PRODUCT_ID: ["a", "b"], c.TO_PRODUCT_ID: ["b", "c"], c.REASON: [None, "it lasts"]} | columns
    return pd.DataFrame(whole).astype("str")


def test_the_check_of_a_frame_has_teeth() -> None:
    check = UPGRADES.pandera_frame()
    assert len(check.validate(upgrades())) == 2
    with pytest.raises(SchemaError, match="non-nullable"):
        check.validate(upgrades(from_product_id=["a", None]))
    with pytest.raises(SchemaError, match="not unique"):
        check.validate(upgrades(from_product_id=["a", "a"], to_product_id=["b", "b"]))
    with pytest.raises(SchemaError, match="not in dataframe"):
        check.validate(upgrades().drop(columns=c.REASON))
