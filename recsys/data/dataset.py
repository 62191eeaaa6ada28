"""From files or a database to cleaned data, in one call."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import ibis
import pandas as pd
from ibis.backends.duckdb import Backend
from pandera.errors import SchemaError
from pydantic import Field

from recsys.contracts import columns as c
from recsys.contracts.config import Config
from recsys.contracts.tables import (
    ACCOUNTS,
    CARRIED_ACCOUNT_COLUMNS,
    CARRIED_PRODUCT_COLUMNS,
    ORDERS,
    PRODUCTS,
    UPGRADES,
    TableSchema,
)
from recsys.data.clean_data import CleanData
from recsys.data.cleaning import ORDER_REASONS, CleanLines, clean_lines
from recsys.data.derive import derive_accounts, derive_products
from recsys.data.entities import CleanTable, complete, conform, read_table
from recsys.data.fingerprint import digest_of, fingerprint_rows
from recsys.data.mapping import refuse_unused, resolve_columns
from recsys.data.presets import Preset, find_preset
from recsys.data.rejects import Outcome, check_rejects_path, write_rejects
from recsys.data.report import DataReport, TableReport
from recsys.data.sources import Source, connect, open_source
from recsys.data.times import as_utc
from recsys.errors import DataError, EmptyDataError, MissingColumnError

if TYPE_CHECKING:
    import pandera.ibis
    import pandera.pandas

CARRIED_NAMES = (*CARRIED_PRODUCT_COLUMNS, *CARRIED_ACCOUNT_COLUMNS)


class ReadSpec(Config):
    """What to read and how.

    Attributes:
        orders: a .csv, .csv.gz or .parquet file, a folder of them, or a database table `URL#table`.
        products: the same for products; default: derived from the orders.
        accounts: the same for accounts; default: derived from the orders.
        upgrades: the same for curated upgrades; default: none.
        preset: name of a well-known layout of the orders.
        mapping: contract name -> column of the source; see `parse_map`.
        as_of: nothing at or after it is used; without a zone it is UTC; default: the day after the last order.
        currency: the currency to keep where there are several.
        time_format: how the orders write their times, as `%d/%m/%Y %H:%M`; default: found out.
        rejects: a .csv or .parquet file to write the rejected rows to; default: none is written.
    """

    orders: str
    products: str | None = None
    accounts: str | None = None
    upgrades: str | None = None
    preset: str | None = None
    mapping: dict[str, str] = Field(default_factory=dict)
    as_of: datetime | None = None
    currency: str | None = None
    time_format: str | None = None
    rejects: Path | None = None


def read_data(spec: ReadSpec) -> CleanData:
    """Return everything before `as_of`, cleaned, with a report on every row that was not kept.

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
    source = open_source(connection, spec.orders, name=ORDERS.name)
    preset = find_preset(spec.preset) if spec.preset is not None else None
    mapping = _order_columns(source, spec.mapping, preset)
    clean = clean_lines(
        connection,
        source,
        mapping,
        preset=preset,
        as_of=as_utc(spec.as_of) if spec.as_of is not None else None,
        currency=spec.currency,
        time_format=spec.time_format,
    )
    outcome = _order_outcome(clean, source, mapping, preset)
    tables = _side_tables(connection, spec, clean.as_of)
    refuse_unused(
        spec.mapping, {ORDERS.name: mapping} | {name: table.outcome.mapping for name, table in tables.items()}
    )
    outcomes = [outcome, *(table.outcome for table in tables.values())]
    if spec.rejects is not None:
        write_rejects(outcomes, spec.rejects)
    report = DataReport(
        tuple(item.report() for item in outcomes), clean.as_of, clean.currency, preset.name if preset else None
    )
    _refuse_nothing_left(report.orders)
    return _assemble(connection, clean, tables, report)


def _order_columns(source: Source, mapping: Mapping[str, str], preset: Preset | None) -> dict[str, str]:
    said = {**(preset.mapping if preset else {}), **mapping}
    columns = resolve_columns(ORDERS, source.columns, said, location=source.location, also=CARRIED_NAMES)
    missing = [name for name in (preset.kept_columns if preset else ()) if name not in source.columns]
    if preset and missing:
        raise MissingColumnError(
            f"{source.location}: no column {', '.join(missing)}, which preset {preset.name!r} needs; "
            f"found {', '.join(source.columns)}; map the columns instead of using the preset"
        )
    return columns


def _order_outcome(clean: CleanLines, source: Source, mapping: Mapping[str, str], preset: Preset | None) -> Outcome:
    kept = int(clean.lines.count().to_pyarrow().as_py())
    unknown = int(clean.lines.filter(clean.lines[c.ACCOUNT_ID].isnull()).count().to_pyarrow().as_py())
    notes = []
    if unknown:
        notes.append(f"{unknown:,} of the kept lines have no account: they count for rules, not for accounts.")
    if clean.n_shortened:
        notes.append(f"{clean.n_shortened:,} of the kept lines have fewer units than were sold: reversals took some.")
    reasons = (*(preset.reasons if preset else ()), *ORDER_REASONS)
    return Outcome(ORDERS.name, source, mapping, kept, clean.dropped, reasons, tuple(notes))


def _side_tables(connection: Backend, spec: ReadSpec, as_of: datetime) -> dict[str, CleanTable]:
    locations: dict[str, tuple[TableSchema, str | None]] = {
        PRODUCTS.name: (PRODUCTS, spec.products),
        ACCOUNTS.name: (ACCOUNTS, spec.accounts),
        UPGRADES.name: (UPGRADES, spec.upgrades),
    }
    return {
        name: read_table(connection, schema, location, spec.mapping, as_of=as_of)
        for name, (schema, location) in locations.items()
        if location is not None
    }


def _assemble(
    connection: Backend, clean: CleanLines, tables: Mapping[str, CleanTable], report: DataReport
) -> CleanData:
    frames = {name: table.frame for name, table in tables.items()}
    products = conform(complete(frames.get(PRODUCTS.name), derive_products(clean.lines), c.PRODUCT_ID), PRODUCTS)
    accounts = conform(complete(frames.get(ACCOUNTS.name), derive_accounts(clean.lines), c.ACCOUNT_ID), ACCOUNTS)
    upgrades = conform(frames[UPGRADES.name], UPGRADES) if UPGRADES.name in frames else None
    orders = clean.orders
    _validate(ORDERS.pandera_ibis(), orders)
    _validate(PRODUCTS.pandera_frame(), products)
    _validate(ACCOUNTS.pandera_frame(), accounts)
    digests = [fingerprint_rows(orders, [name for name in ORDERS.names if name != c.LINE_ID])]
    digests += [
        fingerprint_rows(_loaded(connection, frame), list(frame.columns))
        for frame in (products, accounts, upgrades)
        if frame is not None
    ]
    return CleanData(orders, products, accounts, upgrades, report, clean.currency, clean.as_of, digest_of(digests))


def _validate(
    schema: pandera.ibis.DataFrameSchema | pandera.pandas.DataFrameSchema, table: ibis.Table | pd.DataFrame
) -> None:
    """The cleaning's own promise: what leaves this room keeps the contract."""
    try:
        schema.validate(table)
    except SchemaError as error:
        raise DataError(f"the cleaned {schema.name} break their contract: {error}; report it with the data") from None


def _loaded(connection: Backend, frame: pd.DataFrame) -> ibis.Table:
    zoned = {str(name): frame[name].dt.tz_convert(None) for name in frame.select_dtypes("datetimetz")}
    return connection.create_table(ibis.util.gen_name("entities"), ibis.memtable(frame.assign(**zoned)), temp=True)


def _refuse_nothing_left(report: TableReport) -> None:
    if report.rows_kept:
        return
    first = report.dropped[0]
    raise EmptyDataError(
        f"{report.location}: none of its {report.rows_read:,} rows can be used; "
        f"{first.rows:,} x {first.reason.why} ({first.examples[0]}); repair the source, the mapping or as_of"
    )
