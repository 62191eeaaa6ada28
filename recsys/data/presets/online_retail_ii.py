"""Online Retail II: the invoices of a UK gift wholesaler, UCI 502 (D. Chen), in GBP."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import ibis

from recsys.contracts import columns as c
from recsys.contracts.tables import CANCELLED, COMPLETED
from recsys.data.report import DropReason

SHEET = "Sheet"
FIRST_SHEET = "Year 2009-2010"
SECOND_SHEET_FROM = "2010-12-01"

OVERLAP = DropReason(
    "sheet_overlap",
    "left_out",
    f"a row of sheet {FIRST_SHEET!r} from {SECOND_SHEET_FROM} on stands in the other sheet too",
    (c.ORDER_ID, c.ORDERED_AT),
)
NOT_A_PRODUCT = DropReason(
    "not_a_product",
    "left_out",
    "the stock code does not start with five digits: postage, fees, samples, adjustments",
    (c.PRODUCT_ID, c.NAME),
)
STOCK_ADJUSTMENT = DropReason(
    "stock_adjustment",
    "left_out",
    "a negative quantity on an invoice that is no cancellation (C...): goods lost, damaged or recounted",
    (c.ORDER_ID, c.QUANTITY, c.NAME),
)
NOT_SOLD = DropReason(
    "zero_price",
    "left_out",
    "a price of zero: given away, found or recounted, not sold",
    (c.PRODUCT_ID, c.UNIT_PRICE, c.NAME),
)


class OnlineRetailII:
    """Account ids are the customer number as text, product ids the upper-case stock code; names come trimmed."""

    name: str = "online-retail-ii"
    mapping: Mapping[str, str] = MappingProxyType(
        {
            c.ORDER_ID: "Invoice",
            c.ACCOUNT_ID: "Customer ID",
            c.PRODUCT_ID: "StockCode",
            c.ORDERED_AT: "InvoiceDate",
            c.QUANTITY: "Quantity",
            c.UNIT_PRICE: "Price",
            c.NAME: "Description",
            c.REGION: "Country",
        }
    )
    kept_columns: tuple[str, ...] = (SHEET,)
    reasons: tuple[DropReason, ...] = (OVERLAP, NOT_A_PRODUCT, STOCK_ADJUSTMENT, NOT_SOLD)

    def refine(self, lines: ibis.Table) -> ibis.Table:
        """Return the lines with ids, names, currency and status put right and `drop_reason` set."""
        cancels = lines[c.ORDER_ID].upper().startswith("C")
        reason = ibis.cases(
            (
                (lines[SHEET].cast("string") == FIRST_SHEET)
                & (lines[c.ORDERED_AT] >= ibis.timestamp(SECOND_SHEET_FROM)),
                OVERLAP.name,
            ),
            (~lines[c.PRODUCT_ID].re_search(r"^[0-9]{5}"), NOT_A_PRODUCT.name),
            (~cancels & (lines[c.QUANTITY] < 0), STOCK_ADJUSTMENT.name),
            (lines[c.UNIT_PRICE] == 0, NOT_SOLD.name),
            else_=lines[c.DROP_REASON],
        )
        name = lines[c.NAME].re_replace(r"\s+", " ")
        return lines.mutate(
            **{
                c.ACCOUNT_ID: lines[c.ACCOUNT_ID].re_replace(r"\.0$", ""),
                c.PRODUCT_ID: lines[c.PRODUCT_ID].upper(),
                c.NAME: name.strip(),
                c.CURRENCY: ibis.literal("GBP"),
                c.STATUS: ibis.ifelse(cancels, CANCELLED, COMPLETED),
                c.DROP_REASON: reason,
            }
        ).drop(SHEET)
