"""The tables of products, accounts and upgrades: read, checked, and completed by what the order lines tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import reduce

import ibis
import pandas as pd
from ibis.backends.duckdb import Backend

from recsys.contracts import columns as c
from recsys.contracts.tables import (
    ACCOUNTS,
    CARRIED_ACCOUNT_COLUMNS,
    CARRIED_PRODUCT_COLUMNS,
    PRODUCTS,
    Column,
    TableSchema,
)
from recsys.data.checks import read_field
from recsys.data.mapping import resolve_columns, with_derived_columns
from recsys.data.numbers import DecimalMark, detect_decimals
from recsys.data.rejects import ReadResult
from recsys.data.report import DropReason
from recsys.data.sources import DataSource, open_source, reading
from recsys.data.times import ISO, detect_time_format, naive_utc

RowCheck = tuple[DropReason, ibis.ir.BooleanValue]

_DEFAULTS = {c.ACTIVE: True, c.DO_NOT_OFFER: False}


@dataclass(frozen=True)
class CleanTable:
    """One table as it was read.

    Attributes:
        frame: the rows that stay, the contract's columns that the source has, and its further ones: of accounts as
            features, of products for offers to show.
        outcome: what became of its rows.
    """

    frame: pd.DataFrame
    outcome: ReadResult


def read_entity_table(
    connection: Backend,
    schema: TableSchema,
    given: DataSource,
    mapping: Mapping[str, str],
    *,
    as_of: datetime,
    decimal: DecimalMark | None = None,
    encoding: str | None = None,
) -> CleanTable:
    """Return the rows of a table that its contract allows; of rows with one key the first stays.

    Args:
        connection: where to read it.
        schema: its contract.
        given: what it is read from.
        mapping: contract name -> column of the source; see `parse_map`.
        as_of: accounts that were created at or after it are left out.
        decimal: what stands before the decimals; default: found out.
        encoding: of a text file; default: UTF-8, or found out.

    Raises:
        DataError: the source can't be read, or a required column is not there.
    """
    source = open_source(connection, given, name=schema.name, encoding=encoding)
    columns = resolve_columns(schema, source.columns, mapping, location=source.location)
    source = replace(source, table=with_derived_columns(source.table, columns))
    keeps_further = schema is ACCOUNTS or schema is PRODUCTS
    further = [name for name in source.columns if name not in columns.values()] if keeps_further else []
    with reading(source.location):
        numbers = [theirs for name, theirs in columns.items() if schema[name].dtype == "float64"]
        decimals = detect_decimals(source.table, numbers, source.location, chosen=decimal)
        values, checks = _read_columns(source.table, schema, columns, as_of, decimals)
        expression = _judged(source.table, schema, values, further, checks)
        checked = connection.create_table(f"checked_{schema.name}", expression, temp=True)
    stays = checked.filter(checked[c.DROP_REASON].isnull()).order_by(c.SOURCE_ROW)
    frame = stays.drop(c.SOURCE_ROW, c.DROP_REASON).to_pandas()
    for name in further if schema is ACCOUNTS else ():
        frame[name] = _feature(frame[name])
    dropped = checked.filter(checked[c.DROP_REASON].notnull()).select(c.SOURCE_ROW, c.DROP_REASON)
    reasons = (*(reason for reason, _ in checks), _duplicate(schema))
    return CleanTable(frame, ReadResult(schema.name, source, columns, len(frame), dropped, reasons))


def conform(frame: pd.DataFrame, schema: TableSchema) -> pd.DataFrame:
    """Return a frame with all columns of a contract, in its order and types, sorted by key; further columns follow.

    Columns that the frame lacks are empty, or hold the contract's default (`active`: true, `do_not_offer`: false).
    """
    further = [name for name in frame.columns if name not in schema.names]
    columns: dict[str, object] = {}
    for column in schema.columns:
        values = frame[column.name] if column.name in frame else pd.Series([None] * len(frame), dtype=object)
        columns[column.name] = _as_dtype(values.reset_index(drop=True), column)
    conformed = pd.DataFrame(columns | {name: frame[name].reset_index(drop=True) for name in further})
    return conformed.sort_values(list(schema.key), ignore_index=True)


def complete(frame: pd.DataFrame | None, derived: pd.DataFrame, key: str) -> pd.DataFrame:
    """Return the rows of `frame` with its gaps filled from `derived`, and the rows that only `derived` has."""
    if frame is None:
        return derived
    merged = frame.merge(derived, on=key, how="outer", suffixes=("", "__derived"), validate="one_to_one")
    for name in derived.columns:
        twin = f"{name}__derived"
        if twin in merged:
            merged[name] = merged[name].astype(object).where(merged[name].notna(), merged[twin].astype(object))
            merged = merged.drop(columns=twin)
    return merged


def _duplicate(schema: TableSchema) -> DropReason:
    return DropReason("duplicate_row", "rejected", f"an earlier row has its {' and '.join(schema.key)}", schema.key)


def _read_columns(
    table: ibis.Table,
    schema: TableSchema,
    columns: Mapping[str, str],
    as_of: datetime,
    decimals: Mapping[str, DecimalMark],
) -> tuple[dict[str, ibis.Value], list[RowCheck]]:
    """The typed columns, and what a row must not be, the first reason first."""
    values: dict[str, ibis.Value] = {}
    checks: list[RowCheck] = []
    for name, theirs in columns.items():
        column = schema[name]
        times = detect_time_format(table, theirs) if column.dtype == "timestamp" else ISO
        field = read_field(table[theirs], column, times, decimals.get(theirs))
        values[name] = field.value
        if name in schema.key:
            checks.append((DropReason(f"no_{name}", "rejected", f"the {name} is empty", (name,)), field.missing))
        if column.dtype != "string":
            why = f"the {name} is not a {column.dtype.replace('float64', 'finite number')}"
            checks.append((DropReason(f"unreadable_{name}", "rejected", why, (name,)), field.unreadable))
        if column.minimum is not None:
            reason = DropReason(f"negative_{name}", "rejected", f"the {name} is below {column.minimum:g}", (name,))
            checks.append((reason, field.value < column.minimum))
    if c.CREATED_AT in values:
        late = values[c.CREATED_AT] >= naive_utc(as_of)
        checks.append(
            (DropReason("created_after_as_of", "left_out", "created at or after as_of", (c.CREATED_AT,)), late)
        )
    if c.FROM_PRODUCT_ID in values:
        same = values[c.FROM_PRODUCT_ID] == values[c.TO_PRODUCT_ID]
        checks.append((DropReason("same_product", "rejected", "an upgrade to the same product", schema.key), same))
    return values, checks


def _judged(
    table: ibis.Table,
    schema: TableSchema,
    values: Mapping[str, ibis.Value],
    further: Sequence[str],
    checks: Sequence[RowCheck],
) -> ibis.Table:
    failed = ibis.cases(*((condition, reason.name) for reason, condition in checks), else_=ibis.null("string"))
    read = table.select(
        table[c.SOURCE_ROW], **values, **{name: table[name] for name in further}, **{c.DROP_REASON: failed}
    )
    window = ibis.window(group_by=[*schema.key, read[c.DROP_REASON].isnull()], order_by=c.SOURCE_ROW)
    repeated = ibis.ifelse(ibis.row_number().over(window) > 0, _duplicate(schema).name, ibis.null("string"))
    return read.mutate(**{c.DROP_REASON: read[c.DROP_REASON].fill_null(repeated)})


def _feature(values: pd.Series) -> pd.Series:
    """A further column of accounts; text that is all numbers becomes numbers."""
    if values.dtype != "str" and values.dtype != object:
        return values
    numbers = pd.to_numeric(values, errors="coerce")
    said = values.notna()
    return numbers if said.any() and bool(numbers[said].notna().all()) else values


def _as_dtype(values: pd.Series, column: Column) -> pd.Series:
    if column.dtype == "timestamp":
        return pd.to_datetime(values, utc=True).astype("datetime64[us, UTC]")
    if column.dtype == "float64":
        return values.astype("float64")
    if column.dtype == "string":
        return values.astype("str")
    truth = values.astype("boolean")
    return truth if column.nullable else truth.fillna(_DEFAULTS[column.name]).astype("bool")


def derive_products(lines: ibis.Table) -> pd.DataFrame:
    """Return one row a product of the lines: `product_id` and those of the carried columns that lines have.

    The cost is that of the last line which says one; of each text the most frequent spelling counts, of equally
    frequent ones the first in the alphabet. What is paid is no list price: see `recsys.fitting.prices`.

    Args:
        lines: cleaned lines, stored in the order of time.
    """
    at = lines.rowid()
    if c.COST in lines.columns:
        values = {c.COST: lines[c.COST].argmax(at, where=lines[c.COST].notnull())}
        last = lines.group_by(c.PRODUCT_ID).agg(**values)
    else:
        last = lines.select(c.PRODUCT_ID).distinct()
    return _with_most_frequent(lines, last, c.PRODUCT_ID, [name for name in CARRIED_PRODUCT_COLUMNS if name != c.COST])


def derive_accounts(lines: ibis.Table) -> pd.DataFrame:
    """Return one row an account of the lines: `account_id created_at` (the first order) and carried columns."""
    known = lines.filter(lines[c.ACCOUNT_ID].notnull())
    first = known.group_by(c.ACCOUNT_ID).agg(**{c.CREATED_AT: known[c.ORDERED_AT].min()})
    return _with_most_frequent(known, first, c.ACCOUNT_ID, CARRIED_ACCOUNT_COLUMNS)


def _with_most_frequent(lines: ibis.Table, rows: ibis.Table, key: str, texts: Sequence[str]) -> pd.DataFrame:
    parts = [rows, *(_most_frequent(lines, key, name) for name in texts if name in lines.columns)]
    joined = reduce(lambda left, right: left.left_join(right, key).drop(f"{key}_right"), parts)
    frame: pd.DataFrame = joined.order_by(key).to_pandas()
    return frame


def _most_frequent(lines: ibis.Table, key: str, name: str) -> ibis.Table:
    said = lines.filter(lines[name].notnull())
    counted = said.group_by([key, name]).agg(n=said.count())
    best = ibis.row_number().over(ibis.window(group_by=key, order_by=[counted["n"].desc(), counted[name]]))
    ranked = counted.mutate(place=best)
    return ranked.filter(ranked["place"] == 0).select(key, name)
