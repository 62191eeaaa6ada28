"""From files, a database or frames to a cleaned `Dataset` with a digest of its rows, which all other rooms take."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import ibis
import ibis.expr.datatypes as dt
import pandas as pd
from ibis.backends.duckdb import Backend
from pandera.errors import SchemaError
from pydantic import Field, PlainValidator

from recsys.contracts import columns as c
from recsys.contracts.config import Config
from recsys.contracts.tables import (
    ACCOUNTS,
    ORDERS,
    PRODUCTS,
    UPGRADES,
    TableSchema,
)
from recsys.data.cleaning import ORDER_REASONS, CleanLines, clean_lines
from recsys.data.entities import CleanTable, complete, conform, derive_accounts, derive_products, read_entity_table
from recsys.data.files.texts import parse_encoding
from recsys.data.history import History
from recsys.data.mapping import BESIDE_ORDERS, checked_map, refuse_unused, resolve_columns, with_derived_columns
from recsys.data.numbers import DecimalMark
from recsys.data.presets import Preset, find_preset
from recsys.data.rejects import ReadResult, check_rejects_path, write_rejects
from recsys.data.report import DataReport, TableReport
from recsys.data.sources import DataSource, TableSource, connect, open_source, reading
from recsys.data.suspicions import find_lost_zeros
from recsys.data.times import as_utc, parse_moment
from recsys.engines.databases import is_database_url
from recsys.errors import DataError, EmptyDataError, MissingColumnError

if TYPE_CHECKING:
    import pandera.ibis
    import pandera.pandas


_log = logging.getLogger(__name__)
_SEPARATOR = "\x1f"
_NULL = "\x1e"


def fingerprint_rows(connection: Backend, table: ibis.Table, columns: Sequence[str]) -> str:
    """Return a SHA-256 over the rows of a table of the connection or of memory, whatever their order.

    Each row's MD5 gives a 64-bit number; the sum over all rows, their number and the column names are hashed. MD5
    stands here because its value, unlike that of DuckDB's own hash, is the same in every version; it tells data
    apart, it does not guard against forgery.
    """
    texts = [table[name].cast("string").fill_null(_NULL) for name in columns]
    digests = table.select(number=_md5_number_lower(ibis.literal(_SEPARATOR).join(texts)))
    sums = digests.agg(rows=digests.count(), total=digests["number"].sum().cast("string"))
    item = connection.to_pyarrow(sums).to_pylist()[0]
    return digest_of([*columns, str(item["rows"]), str(item["total"])])


def digest_of(parts: Sequence[str]) -> str:
    """Return the SHA-256 of some texts in order."""
    return hashlib.sha256(_SEPARATOR.join(parts).encode()).hexdigest()


@ibis.udf.scalar.builtin(name="md5_number_lower", signature=((dt.string,), dt.uint64))  # type: ignore[untyped-decorator]
def _md5_number_lower(text: str) -> int: ...  # type: ignore[empty-body]


@dataclass(frozen=True)
class Dataset:
    """Everything before `as_of`, cleaned.

    Attributes:
        orders: the contract's columns of completed sale lines, on its own DuckDB; quantities are above zero and
            without what was taken back; `account_id` may be null; `ordered_at` is UTC without a zone mark.
        products: one row a product id of the orders or of the products table, all columns of the contract.
        accounts: one row an account, all columns of the contract and any further ones of the accounts table.
        upgrades: curated upgrades, None without such a table.
        report: what became of every row.
        currency: of all money; None if the source does not say.
        as_of: UTC; nothing at or after it was used.
        fingerprint: SHA-256 of the data, whatever the order of rows.
        spec: the sources, files by their whole paths, from which `at` reads again.
    """

    orders: ibis.Table
    products: pd.DataFrame
    accounts: pd.DataFrame
    upgrades: pd.DataFrame | None
    report: DataReport
    currency: str | None
    as_of: datetime
    fingerprint: str
    spec: ReadSpec = field(repr=False)

    @classmethod
    def read(
        cls,
        orders: DataSource,
        *,
        products: DataSource | None = None,
        accounts: DataSource | None = None,
        upgrades: DataSource | None = None,
        preset: str | None = None,
        columns: Mapping[str, str | float] | None = None,
        as_of: str | date | None = None,
        currency: str | None = None,
        time_format: str | None = None,
        decimal: DecimalMark | None = None,
        encoding: str | None = None,
    ) -> Dataset:
        """Return everything before `as_of`, cleaned, with a report on every row that was not kept.

        Args:
            orders: a file (.csv, .tsv, .jsonl, .xlsx, .parquet), a folder of them, a database table `URL#table`, a
                pandas frame, an Arrow table or an Ibis table; the other tables likewise.
            products: default: derived from the orders.
            accounts: default: derived from the orders.
            upgrades: curated upgrades; default: none.
            preset: name of a well-known layout of the orders.
            columns: contract name -> column of the source, as `{"account_id": "customer"}`.
            as_of: nothing at or after it is used; without a zone it is UTC; default: the day after the last order.
            currency: the one to keep where there are several; where the orders say none, that of their money.
            time_format: how the orders write their times, as `%d/%m/%Y %H:%M` or `epoch_ms`; default: found out.
            decimal: what stands before the decimals, "." or ","; default: found out.
            encoding: of text files, as latin-1; default: UTF-8, or found out.

        Raises:
            DataError: a source can't be read, lacks a required column, or nothing is left.
            ConfigError: the preset, the mapping or the moment is wrong.
        """
        options = {
            "orders": orders,
            "products": products,
            "accounts": accounts,
            "upgrades": upgrades,
            "preset": preset,
            "mapping": checked_map(columns or {}),
            "as_of": None if as_of is None else parse_moment(as_of),
            "currency": currency,
            "time_format": time_format,
            "decimal": decimal,
            "encoding": parse_encoding(encoding),
        }
        return read_dataset(ReadSpec(**options))

    def at(self, moment: str | date) -> Dataset:
        """Return what the same sources held before a moment, read and cleaned again."""
        return read_dataset(self.spec.model_copy(update={"as_of": parse_moment(moment), "rejects": None}), warn=False)

    def lines(self) -> pd.DataFrame:
        """Return the order lines as a frame in the order of time, order and line; `ordered_at` is marked as UTC."""
        frame: pd.DataFrame = self.orders.to_pandas()
        frame[c.ORDERED_AT] = frame[c.ORDERED_AT].dt.tz_localize("UTC")
        return frame

    def history(self) -> History:
        """Return the order lines as arrays over the vocabularies of accounts and products."""
        needed = [c.ORDER_ID, c.ACCOUNT_ID, c.PRODUCT_ID, c.ORDERED_AT, c.QUANTITY, c.UNIT_PRICE, c.DISCOUNT]
        return History.from_frame(
            self.orders.select(*needed).to_pandas(),
            account_ids=self.accounts[c.ACCOUNT_ID].to_numpy(dtype=object),
            product_ids=self.products[c.PRODUCT_ID].to_numpy(dtype=object),
        )


def _held(source: DataSource) -> DataSource:
    """A frame as it is now: what its owner changes later is not read (pandas copies only then)."""
    return source.copy(deep=False) if isinstance(source, pd.DataFrame) else source


def _placed(source: DataSource | None) -> DataSource | None:
    """A file by its whole path, so that it is found again from another working folder."""
    if not isinstance(source, str | Path) or is_database_url(str(source)):
        return source
    return Path(source).expanduser().absolute()


_Source = Annotated[DataSource, PlainValidator(_held)]


class ReadSpec(Config):
    """What to read and how.

    Attributes:
        orders: a file (.csv, .tsv, .jsonl, .xlsx, .parquet), a folder of them, a database table `URL#table`, or a table
            in memory.
        products: the same for products; default: derived from the orders.
        accounts: the same for accounts; default: derived from the orders.
        upgrades: the same for curated upgrades; default: none.
        preset: name of a well-known layout of the orders.
        mapping: contract name -> column of the source; see `parse_map`.
        as_of: nothing at or after it is used; without a zone it is UTC; default: the day after the last order.
        currency: the currency to keep where there are several.
        time_format: how the orders write their times, as `%d/%m/%Y %H:%M` or `epoch_ms`; default: found out.
        decimal: what stands before the decimals, "." or ","; default: found out for each column.
        encoding: of text files, as latin-1; default: UTF-8, or found out.
        rejects: a .csv or .parquet file to write the rejected rows to; default: none is written.
    """

    orders: _Source
    products: _Source | None = None
    accounts: _Source | None = None
    upgrades: _Source | None = None
    preset: str | None = None
    mapping: dict[str, str] = Field(default_factory=dict)
    as_of: datetime | None = None
    currency: str | None = None
    time_format: str | None = None
    decimal: DecimalMark | None = None
    encoding: str | None = None
    rejects: Path | None = None


def read_dataset(spec: ReadSpec, *, warn: bool = True) -> Dataset:
    """Return everything before `as_of`, cleaned, with a report on every row that was not kept.

    Args:
        spec: what to read and how.
        warn: log the report's warnings, so that they are seen before anything is learned.

    Raises:
        SourceNotFoundError: nothing is at a location.
        MissingColumnError: a required column is not there.
        EmptyDataError: no line is left.
        CurrencyError: several currencies and none chosen.
        DataError: a source can't be read.
        ConfigError: the preset, the mapping or the rejects file is wrong.
    """
    if spec.rejects is not None:
        check_rejects_path(spec.rejects)
    connection = connect()
    source = open_source(connection, spec.orders, name=ORDERS.name, encoding=spec.encoding)
    preset = find_preset(spec.preset) if spec.preset is not None else None
    mapping = _order_columns(source, spec.mapping, preset)
    with reading(source.location):
        source = replace(source, table=with_derived_columns(source.table, mapping, spec.time_format))
    clean = clean_lines(
        connection,
        source,
        mapping,
        preset=preset,
        as_of=as_utc(spec.as_of) if spec.as_of is not None else None,
        currency=spec.currency,
        time_format=spec.time_format,
        decimal=spec.decimal,
    )
    outcome = _order_outcome(clean, source, mapping, preset)
    tables = _side_tables(connection, spec, clean.as_of)
    refuse_unused(
        spec.mapping, {ORDERS.name: mapping} | {name: table.outcome.mapping for name, table in tables.items()}
    )
    outcome = replace(outcome, warnings=(*outcome.warnings, *_lost_zeros(clean, source, mapping, tables)))
    outcomes = [outcome, *(table.outcome for table in tables.values())]
    if spec.rejects is not None:
        write_rejects(outcomes, spec.rejects)
    report = DataReport(
        tuple(item.report() for item in outcomes), clean.as_of, clean.currency, preset.name if preset else None
    )
    if warn:
        for sentence in (sentence for table in report.tables for sentence in table.warnings):
            _log.warning("%s", sentence)
    _refuse_nothing_left(report.orders)
    places = {name: _placed(getattr(spec, name)) for name in ("orders", "products", "accounts", "upgrades")}
    return _assemble(connection, clean, tables, report, spec.model_copy(update=places))


def _order_columns(source: TableSource, mapping: Mapping[str, str], preset: Preset | None) -> dict[str, str]:
    said = {**(preset.mapping if preset else {}), **mapping}
    columns = resolve_columns(ORDERS, source.columns, said, location=source.location, also=BESIDE_ORDERS)
    missing = [name for name in (preset.kept_columns if preset else ()) if name not in source.columns]
    if preset and missing:
        raise MissingColumnError(
            f"{source.location}: no column {', '.join(missing)}, which preset {preset.name!r} needs; "
            f"found {', '.join(source.columns)}; map the columns instead of using the preset"
        )
    return columns


def _order_outcome(
    clean: CleanLines, source: TableSource, mapping: Mapping[str, str], preset: Preset | None
) -> ReadResult:
    counted = clean.lines.agg(kept=clean.lines.count(), known=clean.lines[c.ACCOUNT_ID].count())
    kept, known = counted.to_pyarrow().to_pylist()[0].values()
    unknown = kept - known
    notes = []
    if unknown:
        notes.append(f"{unknown:,} of the kept lines have no account: they count for rules, not for accounts.")
    if clean.n_shortened:
        notes.append(f"{clean.n_shortened:,} of the kept lines have fewer units than were sold: reversals took some.")
    reasons = (*(preset.reasons if preset else ()), *ORDER_REASONS)
    return ReadResult(ORDERS.name, source, mapping, kept, clean.dropped, reasons, tuple(notes), clean.warnings)


def _lost_zeros(
    clean: CleanLines, source: TableSource, mapping: Mapping[str, str], tables: Mapping[str, CleanTable]
) -> list[str]:
    keys = {schema.name: schema.key[0] for schema in (PRODUCTS, ACCOUNTS)}
    zeros = clean.lines.agg(**{key: clean.lines[key].startswith("0").any() for key in keys.values()})
    begins = zeros.to_pyarrow().to_pylist()[0]
    found = []
    for name, key in keys.items():
        others = tables[name].frame[key].tolist() if name in tables else []
        if begins[key] or any(other.startswith("0") for other in others):
            found += find_lost_zeros(source, mapping[key], clean.lines, key, others)
    return found


def _side_tables(connection: Backend, spec: ReadSpec, as_of: datetime) -> dict[str, CleanTable]:
    locations: dict[str, tuple[TableSchema, DataSource | None]] = {
        PRODUCTS.name: (PRODUCTS, spec.products),
        ACCOUNTS.name: (ACCOUNTS, spec.accounts),
        UPGRADES.name: (UPGRADES, spec.upgrades),
    }
    return {
        name: read_entity_table(
            connection, schema, location, spec.mapping, as_of=as_of, decimal=spec.decimal, encoding=spec.encoding
        )
        for name, (schema, location) in locations.items()
        if location is not None
    }


def _assemble(
    connection: Backend, clean: CleanLines, tables: Mapping[str, CleanTable], report: DataReport, spec: ReadSpec
) -> Dataset:
    frames = {name: table.frame for name, table in tables.items()}
    products = conform(complete(frames.get(PRODUCTS.name), derive_products(clean.lines), c.PRODUCT_ID), PRODUCTS)
    accounts = conform(complete(frames.get(ACCOUNTS.name), derive_accounts(clean.lines), c.ACCOUNT_ID), ACCOUNTS)
    upgrades = conform(frames[UPGRADES.name], UPGRADES) if UPGRADES.name in frames else None
    orders = clean.orders
    _validate(ORDERS.pandera_ibis(), orders)
    _validate(PRODUCTS.pandera_frame(), products)
    _validate(ACCOUNTS.pandera_frame(), accounts)
    digests = [fingerprint_rows(connection, orders, [name for name in ORDERS.names if name != c.LINE_ID])]
    digests += [
        fingerprint_rows(connection, _without_zones(frame), list(frame.columns))
        for frame in (products, accounts, upgrades)
        if frame is not None
    ]
    return Dataset(orders, products, accounts, upgrades, report, clean.currency, clean.as_of, digest_of(digests), spec)


def _validate(
    schema: pandera.ibis.DataFrameSchema | pandera.pandas.DataFrameSchema, table: ibis.Table | pd.DataFrame
) -> None:
    """The cleaning's own promise: what leaves this room keeps the contract."""
    try:
        schema.validate(table)
    except SchemaError as error:
        raise DataError(f"the cleaned {schema.name} break their contract: {error}; report it with the data") from None


def _without_zones(frame: pd.DataFrame) -> ibis.Table:
    zoned = {str(name): frame[name].dt.tz_convert(None) for name in frame.select_dtypes("datetimetz")}
    return ibis.memtable(frame.assign(**zoned))


def _refuse_nothing_left(report: TableReport) -> None:
    if report.rows_kept:
        return
    first = report.dropped[0]
    raise EmptyDataError(
        f"{report.location}: none of its {report.rows_read:,} rows can be used; "
        f"{first.rows:,} x {first.reason.why} ({first.examples[0]}); repair the source, the mapping or as_of"
    )


def as_dataset(data: Dataset | DataSource) -> Dataset:
    """Return a dataset as it is, or that of order lines in contract columns."""
    return data if isinstance(data, Dataset) else Dataset.read(data)
