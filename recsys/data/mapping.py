"""Other people's column names: which column of a source is which of the contract, by known names of other systems."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from recsys.contracts import columns as c
from recsys.contracts.tables import ACCOUNTS, ORDERS, PRODUCTS, UPGRADES, TableSchema
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
            "company_id", "kunde", "kundennummer", "visitor_id",
        ),
        c.PRODUCT_ID: (
            "product", "sku", "stock_code", "item", "item_id", "item_code", "article", "article_id", "article_no",
            "product_code", "product_no", "product_number", "part_number", "ean", "upc", "asin",
            "artikel", "artikelnummer",
        ),
        c.ORDERED_AT: (
            "order_date", "order_time", "order_datetime", "ordered", "invoice_date", "transaction_date", "date",
            "datetime", "timestamp", "time", "created_at", "created", "purchase_date", "purchased_at",
            "order_timestamp", "sale_date", "sales_date", "t_dat", "datum", "bestelldatum",
        ),
        c.QUANTITY: (
            "qty", "units", "quantity_sold", "amount_sold", "count", "pieces", "order_quantity", "menge", "anzahl",
        ),
        c.UNIT_PRICE: (
            "price", "item_price", "sales_price", "selling_price", "price_per_unit", "net_price",
            "rate", "preis", "einzelpreis", "prix",
        ),
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
        c.SEGMENT: ("customer_segment", "account_segment", "customer_type", "customer_group"),
        c.REGION: ("country", "customer_country", "territory", "state_province", "land"),
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


SCHEMAS: Mapping[str, TableSchema] = {schema.name: schema for schema in (ORDERS, PRODUCTS, ACCOUNTS, UPGRADES)}
_REMEDY = "`offers check --orders PATH --write-map FILE` proposes a mapping"


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
    pairs = _from_text(text_or_path) if "=" in text_or_path else _from_file(Path(text_or_path))
    for name, column in pairs.items():
        _refuse_unknown(name)
        if not isinstance(column, str) or not column:
            raise ConfigError(f"mapping {name} == {column!r}, must be the name of a column, as account_id=customer")
    return pairs


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
    resolved = {}
    missing = []
    for name in (*schema.names, *also):
        qualified = mapping.get(f"{schema.name}.{name}")
        said = qualified or (mapping.get(name) if schema is ORDERS or mapping.get(name) in found else None)
        column = said or name
        if column in found:
            resolved[name] = column
        elif said is not None or (name in schema.names and schema[name].required):
            missing.append(column)
    if missing:
        raise MissingColumnError(_missing_sentence(schema, missing, found, location))
    return resolved


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
        able = [table for table in resolved if name in SCHEMAS[table].names]
        if able and not any(resolved[table].get(name) == column for table in able):
            raise MissingColumnError(f"mapping {name} == {column!r}: no such column in {' or '.join(able)}; {_REMEDY}")


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


def _from_text(text: str) -> dict[str, str]:
    pairs = {}
    for part in text.split(","):
        name, equals, column = part.partition("=")
        if not equals:
            raise ConfigError(f"mapping {part!r}: must be name=column, as account_id=customer,product_id=sku")
        pairs[name.strip()] = column.strip()
    return pairs


def _from_file(path: Path) -> dict[str, str]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such mapping file; give name=column,... or a TOML file; {_REMEDY}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: not a mapping in TOML: {error}; {_REMEDY}") from None
    columns = content.get("columns")
    if not isinstance(columns, dict):
        raise ConfigError(f"{path}: has no section [columns] with lines like account_id = 'customer'; {_REMEDY}")
    flat: dict[str, str] = {}
    for name, value in columns.items():
        flat |= (
            {f"{name}.{inner}": column for inner, column in value.items()} if isinstance(value, dict) else {name: value}
        )
    return flat


def _refuse_unknown(name: str) -> None:
    table, dot, column = name.rpartition(".")
    schemas = [SCHEMAS[table]] if table in SCHEMAS else list(SCHEMAS.values())
    known = sorted({item for schema in schemas for item in schema.names})
    if (dot and table not in SCHEMAS) or column not in known:
        near = difflib.get_close_matches(column, known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(f"mapping: no column is called {name!r}; {hint}the names are {', '.join(known)}")
