"""Names that other systems give to the columns of the orders' contract."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from recsys.contracts import columns as c

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
