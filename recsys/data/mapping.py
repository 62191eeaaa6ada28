"""Other people's column names: which column of a source is which of the contract, by known names of other systems.

A map has a line a column. Its right side is a column of the source, a constant (`unit_price=1`, `currency='EUR'`) where
the source has none, or, for an order id, what to make one of (`account+day`).
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

import ibis
import ibis.expr.datatypes as dt

from recsys.contracts import columns as c
from recsys.contracts.tables import (
    ACCOUNTS,
    CARRIED_ACCOUNT_COLUMNS,
    CARRIED_PRODUCT_COLUMNS,
    ORDERS,
    PRODUCTS,
    UPGRADES,
    TableSchema,
)
from recsys.data.times import as_time, detect_time_format
from recsys.errors import ConfigError, MissingColumnError

# Normalised as by `normalise`; within a row the likeliest first.
SYNONYMS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        c.ORDER_ID: (
            "order", "order_number", "order_no", "order_nr", "invoice", "invoice_no", "invoice_id", "invoice_number",
            "transaction_id", "transaction", "basket_id", "basket", "receipt_id", "receipt", "ticket_id", "sales_order",
            "bill_no", "document_number", "bestellung", "bestellnummer", "commande",
        ),
        c.LINE_ID: ("line", "line_no", "line_number", "order_line", "order_line_id", "item_no", "position", "row_id"),
        c.ACCOUNT_ID: (
            "account", "customer", "customer_id", "customer_no", "customer_number", "customer_key", "cust_id", "client",
            "client_id", "user_id", "user", "member_id", "buyer_id", "buyer", "shopper_id", "household_key",
            "household_id", "company_id", "kunde", "kundennummer", "visitor_id",
        ),
        c.PRODUCT_ID: (
            "product", "sku", "stock_code", "item", "item_id", "item_code", "article", "article_id", "article_no",
            "product_code", "product_no", "product_number", "part_number", "ean", "upc", "asin",
            "artikel", "artikelnummer",
        ),
        c.ORDERED_AT: (
            "order_date", "order_time", "order_datetime", "ordered", "invoice_date", "transaction_date",
            "transaction_dt", "transaction_timestamp", "transaction_time", "date",
            "datetime", "timestamp", "time", "created_at", "created", "purchase_date", "purchased_at",
            "order_timestamp", "sale_date", "sales_date", "t_dat", "datum", "bestelldatum",
        ),
        c.QUANTITY: (
            "qty", "units", "amount", "quantity_sold", "amount_sold", "count", "pieces", "order_quantity", "menge",
            "anzahl",
        ),
        c.UNIT_PRICE: (
            "price", "item_price", "sales_price", "selling_price", "price_per_unit", "net_price",
            "rate", "preis", "einzelpreis", "prix",
        ),
        c.LINE_TOTAL: (
            "total", "total_price", "sales_value", "line_amount", "line_value", "extended_price", "sales_amount",
            "gesamtpreis", "betrag", "umsatz",
        ),
        c.LINE_COST: ("total_cost", "total_product_cost"),
        c.CHANNEL: ("sales_channel", "sales_channel_id", "source", "order_channel", "medium", "kanal"),
        c.DISCOUNT: ("discount_amount", "rebate", "money_off", "rabatt"),
        c.CURRENCY: ("currency_code", "curr", "iso_currency", "waehrung"),
        c.STATUS: ("order_status", "state", "line_status", "fulfilment_status", "fulfillment_status"),
        c.NAME: (
            "description", "product_name", "item_name", "product_description", "title", "product_title", "article_name",
            "bezeichnung", "product_label",
        ),
        c.CATEGORY: ("product_category", "department", "product_type", "category_name", "product_group", "warengruppe"),
        c.FAMILY: ("product_family", "product_line", "model_family"),
        c.TIER: ("grade", "level", "edition", "product_tier"),
        c.COST: ("unit_cost", "cost_price", "purchase_price", "cogs"),
        c.SEGMENT: ("customer_segment", "account_segment", "customer_type", "customer_group", "business_type"),
        c.REGION: ("country", "customer_country", "territory", "state_province", "land"),
        c.PRICE: ("list_price", "retail_price", "unit_price", "catalogue_price", "msrp", "preis", "listenpreis"),
        c.ACTIVE: ("is_active", "available", "sellable", "aktiv"),
        c.STOCK: ("stock_level", "inventory", "on_hand", "quantity_on_hand", "in_stock", "bestand", "lagerbestand"),
        c.URL: ("link", "product_url", "product_link"),
        c.IMAGE_URL: ("image", "image_link", "picture", "picture_url"),
        c.LANGUAGE: ("lang", "locale", "customer_language", "sprache"),
        c.IS_KEY_ACCOUNT: ("key_account", "is_key"),
        c.OWNER: ("salesperson", "sales_person", "sales_rep", "account_manager", "account_owner", "betreuer"),
        c.CREATED_AT: ("created", "customer_since", "member_since", "registered_at", "signup_date", "kunde_seit"),
    }
)  # fmt: skip


def normalise(name: str) -> str:
    """Return a column name in lower case with one underscore between its words.

    Example:
        >>> normalise("Customer ID"), normalise("InvoiceDate"), normalise("unit-price")
        ('customer_id', 'invoice_date', 'unit_price')
    """
    split = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name.strip())
    return re.sub(r"[^0-9a-z]+", "_", split.lower()).strip("_")


INSTEAD: Mapping[str, str] = MappingProxyType({c.UNIT_PRICE: c.LINE_TOTAL, c.COST: c.LINE_COST})
"""What a source of orders may have in place of a value a unit: that of the whole line."""
BESIDE_ORDERS: Final = (*CARRIED_PRODUCT_COLUMNS, *CARRIED_ACCOUNT_COLUMNS, *INSTEAD.values())
"""What a source of orders may have beside the columns of its contract."""
ACCOUNT_AND_DAY: Final = "account+day"
ACCOUNT_AND_TIME: Final = "account+time"
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?")
_QUOTED = re.compile(r"'(.*)'|\"(.*)\"")

SCHEMAS: Mapping[str, TableSchema] = {schema.name: schema for schema in (ORDERS, PRODUCTS, ACCOUNTS, UPGRADES)}
_REMEDY = "`offers check --orders PATH --write-map FILE` proposes a mapping"


def derived_names(schema: TableSchema, mapping: Mapping[str, str], found: Sequence[str]) -> tuple[str, ...]:
    """Return what the map says of a table that is no column of it: constants, and what an order id is made of."""
    made = (ACCOUNT_AND_DAY, ACCOUNT_AND_TIME) if schema is ORDERS else ()
    said = {name.removeprefix(f"{schema.name}."): value for name, value in mapping.items()}
    return tuple(
        name
        for name, value in said.items()
        if value not in found
        and (_NUMBER.fullmatch(value) or _QUOTED.fullmatch(value) or (name == c.ORDER_ID and value in made))
    )


def with_derived_columns(table: ibis.Table, columns: Mapping[str, str], time_format: str | None = None) -> ibis.Table:
    """Return a table with a column for each constant of the map and for an order id that is made, named by the map.

    An order id that is made is empty where the account is, or where the time can't be read.

    Args:
        table: the source.
        columns: contract name -> column, constant, or what the order id is made of.
        time_format: how times are written; default: found out.
    """
    made: dict[str, ibis.Value] = {}
    for name, value in columns.items():
        if value in table.columns:
            continue
        if name == c.ORDER_ID and value in (ACCOUNT_AND_DAY, ACCOUNT_AND_TIME):
            made[value] = _order_of(table, columns, value, time_format)
        else:
            quoted = _QUOTED.fullmatch(value)
            made[value] = ibis.literal(quoted[1] or quoted[2] or "" if quoted else float(value))
    return table.mutate(**made)


def _order_of(table: ibis.Table, columns: Mapping[str, str], value: str, time_format: str | None) -> ibis.Value:
    theirs = columns[c.ORDERED_AT]
    moment = as_time(table[theirs], time_format or detect_time_format(table, theirs))
    account = table[columns[c.ACCOUNT_ID]].cast("string")
    if isinstance(table[columns[c.ACCOUNT_ID]].type(), dt.String):
        account = account.strip().nullif("")
    return account + " " + moment.strftime("%Y-%m-%d" if value == ACCOUNT_AND_DAY else "%Y-%m-%d %H:%M:%S")


def parse_map(text_or_path: str) -> dict[str, str]:
    """Return a mapping, contract name -> column of the source, from `name=column,...` or a TOML file.

    A name may say its table (`products.price=List price`); without one it is meant for every table that has such a
    column. A TOML file has the pairs in its section `[columns]`.

    Raises:
        ConfigError: no such file, not readable, or a name that no contract knows.

    Example:
        >>> parse_map("account_id=customer, products.price=List price")
        {'account_id': 'customer', 'products.price': 'List price'}
    """
    return checked_map(_from_text(text_or_path) if "=" in text_or_path else _from_file(Path(text_or_path)))


def checked_map(pairs: Mapping[str, object]) -> dict[str, str]:
    """Return a mapping whose names are known and whose values are text: a column, or a constant.

    Raises:
        ConfigError: a name that no contract knows, a value that is neither text nor number, or two names for one thing.
    """
    checked: dict[str, str] = {}
    for name, column in pairs.items():
        _refuse_unknown(name)
        if isinstance(column, bool) or not isinstance(column, str | int | float) or column == "":
            raise ConfigError(
                f"mapping {name} == {column!r}, must be the name of a column, as account_id=customer, or a constant, "
                "as unit_price=1"
            )
        checked[name] = str(column)
    for unit, line in INSTEAD.items():
        if unit in checked and line in checked and unit != c.COST:
            raise ConfigError(f"mapping {unit} and {line}: must be one of them; leave out the one that is not true")
    return checked


def resolve_columns(
    schema: TableSchema,
    found: Sequence[str],
    mapping: Mapping[str, str],
    *,
    location: str,
    also: Sequence[str] = (),
) -> dict[str, str]:
    """Return contract name -> column of the source for every column of the contract that the source has.

    Args:
        schema: the table's contract.
        found: the columns of the source.
        mapping: what the user said; a column that it does not name goes by its contract name.
        location: of the source, for the message.
        also: further contract names to look for, never required.

    Raises:
        MissingColumnError: a required column, or one that the mapping names for this table, is not there.
    """
    resolved: dict[str, str] = {}
    missing = []
    derived = derived_names(schema, mapping, found)
    # What a flat export repeats on its lines may stand in the table of products or accounts instead.
    strict = {*schema.names, *INSTEAD.values()} if schema is ORDERS else set()
    for name in (*schema.names, *also):
        qualified = mapping.get(f"{schema.name}.{name}")
        said = qualified or (
            mapping.get(name) if name in strict or mapping.get(name) in found or name in derived else None
        )
        column = said or _own_name(name, found)
        if column in found or name in derived:
            resolved[name] = column
        elif said is not None or (name in schema.names and schema[name].required):
            missing.append(column)
    missing = _without_replaced(resolved, missing, mapping)
    if missing:
        raise MissingColumnError(_missing_sentence(schema, missing, found, location))
    return resolved


def _own_name(name: str, found: Sequence[str]) -> str:
    """The column that has the contract's name, if need be written otherwise, as `Unit Price`."""
    alike = [column for column in found if normalise(column) == name]
    return name if name in found or len(alike) != 1 else alike[0]


def _without_replaced(resolved: dict[str, str], missing: Sequence[str], mapping: Mapping[str, str]) -> list[str]:
    """Settle on a value a unit or a value a line; what the user said counts before what the source has."""
    for unit, line in INSTEAD.items():
        if unit in resolved and line in resolved:
            del resolved[unit if line in mapping else line]
    return [name for name in missing if not (name in INSTEAD and INSTEAD[name] in resolved)]


def write_map_file(mapping: Mapping[str, str], path: Path) -> None:
    """Write a mapping as the TOML file that `parse_map` reads, whole or not at all.

    Raises:
        ConfigError: its folder does not exist.
    """
    if not path.parent.is_dir():
        raise ConfigError(f"mapping file {path}: no folder {path.parent}; make it first")
    lines = [f"{name} = {json.dumps(column, ensure_ascii=False)}" for name, column in mapping.items()]
    absent = [f"# {name}: {ORDERS[name].meaning}" for name in ORDERS.required if name not in mapping]
    head = "# Which column of the source is which of the contract: contract name = column of the source."
    remark = ["# Required and not found, fill in as name = column:", *absent] if absent else []
    beside = path.with_name(f".{path.name}.partial")
    beside.write_text("\n".join([head, "[columns]", *lines, *remark, ""]), encoding="utf-8")
    beside.replace(path)


def refuse_unused(mapping: Mapping[str, str], resolved: Mapping[str, Mapping[str, str]]) -> None:
    """Refuse a pair that no table can take, or that none of those that were read took although one of them could.

    Args:
        mapping: what the user said.
        resolved: for each table that was read, contract name -> column.

    Raises:
        ConfigError: the contract has no such column.
        MissingColumnError: no table has the column that a pair names.
    """
    for name, column in mapping.items():
        _refuse_unknown(name)
        able = [table for table in resolved if name in _names_of(SCHEMAS[table])]
        if able and not any(resolved[table].get(name) == column for table in able):
            raise MissingColumnError(f"mapping {name} == {column!r}: no such column in {' or '.join(able)}; {_REMEDY}")


def _names_of(schema: TableSchema) -> tuple[str, ...]:
    """What a source of a table may have."""
    return (*schema.names, *BESIDE_ORDERS) if schema is ORDERS else schema.names


def _missing_sentence(schema: TableSchema, missing: Sequence[str], found: Sequence[str], location: str) -> str:
    hints = [f"{name}: {', '.join(near)}" for name in missing if (near := _nearest(name, found))]
    optional = ", ".join(name for name in schema.names if name not in schema.required)
    return (
        f"{location}: no column {', '.join(missing)}. "
        f"Expected {', '.join(schema.required)} (and, where known, {optional}); found {', '.join(found)}. "
        + (f"Nearest to {'; to '.join(hints)}. " if hints else "")
        + f"Map other names in columns= or the map, as {missing[0]}=...; {_REMEDY}"
    )


def _nearest(name: str, found: Sequence[str]) -> list[str]:
    """What other systems call the column, then what is spelt like it."""
    spelt = {normalise(column): column for column in found}
    known = [spelt[word] for word in SYNONYMS.get(name, ()) if word in spelt]
    alike = [spelt[word] for word in difflib.get_close_matches(normalise(name), spelt, n=2, cutoff=0.5)]
    return list(dict.fromkeys([*known, *alike]))[:3]


def _from_text(text: str) -> dict[str, object]:
    pairs: dict[str, object] = {}
    for part in text.split(","):
        name, equals, column = part.partition("=")
        if not equals:
            raise ConfigError(f"mapping {part!r}: must be name=column, as account_id=customer,product_id=sku")
        pairs[name.strip()] = column.strip()
    return pairs


def _from_file(path: Path) -> dict[str, object]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such mapping file; give name=column,... or a TOML file; {_REMEDY}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: not a mapping in TOML: {error}; {_REMEDY}") from None
    columns = content.get("columns")
    if not isinstance(columns, dict):
        raise ConfigError(f"{path}: has no section [columns] with lines like account_id = 'customer'; {_REMEDY}")
    flat: dict[str, object] = {}
    for name, value in columns.items():
        flat |= (
            {f"{name}.{inner}": column for inner, column in value.items()} if isinstance(value, dict) else {name: value}
        )
    return flat


def _refuse_unknown(name: str) -> None:
    table, dot, column = name.rpartition(".")
    schemas = [SCHEMAS[table]] if table in SCHEMAS else list(SCHEMAS.values())
    known = sorted({item for schema in schemas for item in _names_of(schema)})
    if (dot and table not in SCHEMAS) or column not in known:
        near = difflib.get_close_matches(column, known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(f"mapping: no column is called {name!r}; {hint}the names are {', '.join(known)}")
