"""The tables that people bring: each column's name, type, whether it must be there, and what it means.

The schemas are written once here. Reading maps other people's columns onto them, cleaning casts to their types, the
messages about missing columns quote them, and `TableSchema.pandera_frame` and `pandera_ibis` check what came out.
"""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from recsys.contracts import columns as c

if TYPE_CHECKING:
    import ibis
    import pandera.ibis
    import pandera.pandas

Dtype = Literal["string", "float64", "boolean", "timestamp"]
OrderStatus = Literal["completed", "cancelled", "returned"]

COMPLETED: OrderStatus = "completed"
CANCELLED: OrderStatus = "cancelled"
RETURNED: OrderStatus = "returned"

_SHOWN_ROWS = 3
_PANDAS_DTYPES = {"string": "str", "float64": "float64", "boolean": "bool", "timestamp": "datetime64[us, UTC]"}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        name: what it is called, from `recsys.contracts.columns`.
        dtype: its type once cleaned; times are UTC.
        required: the source must have it.
        nullable: a cleaned row may have it empty.
        meaning: one line for people.
        minimum: the least value that a cleaned row may have; None without a bound.
    """

    name: str
    dtype: Dtype
    required: bool
    nullable: bool
    meaning: str
    minimum: float | None = None


@dataclass(frozen=True, slots=True)
class TableSchema:
    """One table: its columns in order, and the columns that tell its rows apart.

    Example:
        >>> UPGRADES.required
        ('from_product_id', 'to_product_id')
    """

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all columns, in order."""
        return tuple(column.name for column in self.columns)

    @property
    def required(self) -> tuple[str, ...]:
        """The names of the columns that a source must have."""
        return tuple(column.name for column in self.columns if column.required)

    def __getitem__(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def pandera_frame(self) -> pandera.pandas.DataFrameSchema:
        """Return the check of a cleaned pandas frame; further columns are allowed."""
        import pandera.pandas as pa

        columns = {
            column.name: pa.Column(
                _pandas_dtype(column),
                pa.Check.ge(column.minimum) if column.minimum is not None else None,
                nullable=column.nullable,
            )
            for column in self.columns
        }
        return pa.DataFrameSchema(columns, unique=list(self.key), name=self.name)

    def pandera_ibis(self) -> pandera.ibis.DataFrameSchema:
        """Return the check of a cleaned Ibis table, without the uniqueness of its key (the cleaning ensures it)."""
        import ibis.expr.datatypes as dt
        import pandera.ibis as pa

        dtypes = {"string": dt.string, "float64": dt.float64, "boolean": dt.boolean, "timestamp": dt.Timestamp(scale=6)}
        columns = {column.name: pa.Column(dtypes[column.dtype], nullable=True) for column in self.columns}
        # One query looks at all columns; pandera's own checks of a column would be one or two each.
        allowed = pa.Check(lambda data: self._allowed(data.table), name="allowed_values", n_failure_cases=_SHOWN_ROWS)
        return pa.DataFrameSchema(columns, checks=allowed, strict=True, name=self.name)

    def _allowed(self, table: ibis.Table) -> ibis.ir.BooleanValue:
        """Which rows have a value wherever one must be, and none below its least."""
        rules = [~_is_nothing(table[column.name]) for column in self.columns if not column.nullable]
        for column in self.columns:
            if column.minimum is not None:
                value = table[column.name]
                rules.append(value.isnull() | (value >= column.minimum))
        return functools.reduce(operator.and_, rules)


def _is_nothing(value: ibis.Value) -> ibis.ir.BooleanValue:
    return value.isnull() | value.isnan() if value.type().is_floating() else value.isnull()


def _pandas_dtype(column: Column) -> str:
    return "boolean" if column.dtype == "boolean" and column.nullable else _PANDAS_DTYPES[column.dtype]


ORDERS = TableSchema(
    "orders",
    (
        Column(c.ORDER_ID, "string", required=True, nullable=False, meaning="the order that the line belongs to"),
        Column(c.LINE_ID, "string", required=False, nullable=False, meaning="the line; default: position in the order"),
        Column(c.ACCOUNT_ID, "string", required=True, nullable=True, meaning="who bought; null counts for rules only"),
        Column(c.PRODUCT_ID, "string", required=True, nullable=False, meaning="what was bought"),
        Column(c.ORDERED_AT, "timestamp", required=True, nullable=False, meaning="when, UTC"),
        Column(
            c.QUANTITY, "float64", required=True, nullable=False, meaning="units; below zero: a reversal", minimum=0.0
        ),
        Column(c.UNIT_PRICE, "float64", required=True, nullable=False, meaning="money a unit", minimum=0.0),
        Column(c.CHANNEL, "string", required=False, nullable=True, meaning="where it was bought"),
        Column(c.DISCOUNT, "float64", required=False, nullable=False, meaning="money off the line", minimum=0.0),
        Column(c.CURRENCY, "string", required=False, nullable=True, meaning="of price and discount, as GBP"),
        Column(c.STATUS, "string", required=False, nullable=False, meaning="completed, cancelled or returned"),
    ),
    key=(c.ORDER_ID, c.LINE_ID),
)

PRODUCTS = TableSchema(
    "products",
    (
        Column(c.PRODUCT_ID, "string", required=True, nullable=False, meaning="the product"),
        Column(c.NAME, "string", required=False, nullable=True, meaning="what people call it"),
        Column(c.CATEGORY, "string", required=False, nullable=True, meaning="the shelf it stands on"),
        Column(c.FAMILY, "string", required=False, nullable=True, meaning="versions of one thing"),
        Column(c.TIER, "string", required=False, nullable=True, meaning="its rung within the family"),
        Column(c.PRICE, "float64", required=False, nullable=True, meaning="list price a unit", minimum=0.0),
        Column(c.COST, "float64", required=False, nullable=True, meaning="cost a unit; margin needs it", minimum=0.0),
        Column(c.ACTIVE, "boolean", required=False, nullable=False, meaning="it can be sold; default: true"),
        Column(c.STOCK, "float64", required=False, nullable=True, meaning="units at hand; null: not tracked"),
        Column(c.DO_NOT_OFFER, "boolean", required=False, nullable=False, meaning="never offer it; default: false"),
        Column(c.URL, "string", required=False, nullable=True, meaning="of its page"),
        Column(c.IMAGE_URL, "string", required=False, nullable=True, meaning="of its picture"),
    ),
    key=(c.PRODUCT_ID,),
)

ACCOUNTS = TableSchema(
    "accounts",
    (
        Column(c.ACCOUNT_ID, "string", required=True, nullable=False, meaning="the account"),
        Column(c.NAME, "string", required=False, nullable=True, meaning="what people call it"),
        Column(c.LANGUAGE, "string", required=False, nullable=True, meaning="that it speaks, as de or de-AT"),
        Column(c.SEGMENT, "string", required=False, nullable=True, meaning="what kind of customer"),
        Column(c.REGION, "string", required=False, nullable=True, meaning="where it is"),
        Column(
            c.IS_KEY_ACCOUNT, "boolean", required=False, nullable=True, meaning="one of the accounts that matter most"
        ),
        Column(c.OWNER, "string", required=False, nullable=True, meaning="the sales person in charge"),
        Column(
            c.CREATED_AT, "timestamp", required=False, nullable=True, meaning="since when, UTC; default: first order"
        ),
        Column(c.DO_NOT_OFFER, "boolean", required=False, nullable=False, meaning="never make offers; default: false"),
    ),
    key=(c.ACCOUNT_ID,),
)

UPGRADES = TableSchema(
    "upgrades",
    (
        Column(c.FROM_PRODUCT_ID, "string", required=True, nullable=False, meaning="what is bought now"),
        Column(c.TO_PRODUCT_ID, "string", required=True, nullable=False, meaning="the higher-value version of it"),
        Column(c.REASON, "string", required=False, nullable=True, meaning="why, as a person would say it"),
    ),
    key=(c.FROM_PRODUCT_ID, c.TO_PRODUCT_ID),
)

# A flat export often repeats these on every order line; they complete the tables of products and accounts.
CARRIED_PRODUCT_COLUMNS = (c.NAME, c.CATEGORY, c.FAMILY, c.TIER, c.COST)
CARRIED_ACCOUNT_COLUMNS = (c.SEGMENT, c.REGION)
