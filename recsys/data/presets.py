"""Well-known layouts of order lines by name: each a mapping of columns and a refinement of what it gives."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Protocol

import ibis

from recsys.contracts import columns as c
from recsys.contracts.tables import CANCELLED, COMPLETED
from recsys.data.report import DropReason
from recsys.errors import ConfigError


class Preset(Protocol):
    """How one well-known layout of order lines is read.

    Attributes:
        name: what `preset` calls it.
        mapping: contract name -> column of the layout.
        kept_columns: further columns of the layout that `refine` needs, under their own names.
        reasons: why `refine` drops rows.
    """

    name: str
    mapping: Mapping[str, str]
    kept_columns: tuple[str, ...]
    reasons: tuple[DropReason, ...]

    def refine(self, lines: ibis.Table) -> ibis.Table:
        """Return the lines with values put right and `drop_reason` set where a row is not a line of an order.

        Every expression may look at its own row only: what a later row says must not change an earlier one.

        Args:
            lines: the columns of `mapping` with the types of the contract, `kept_columns`, and `drop_reason`, which
                says what could not be read and is null otherwise.
        """
        ...


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
    """The invoices of a UK gift wholesaler, UCI 502 (D. Chen), in GBP.

    Account ids are the customer number as text, product ids the upper-case stock code; names come trimmed.
    """

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


PRESETS: tuple[Preset, ...] = (OnlineRetailII(),)


def find_preset(name: str) -> Preset:
    """Return the preset of a name.

    Raises:
        ConfigError: no preset is called so.
    """
    known = {preset.name: preset for preset in PRESETS}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ConfigError(
        f"preset == {name!r}, must be one of {', '.join(sorted(known))}; {hint}"
        "for another layout map its columns (`offers check` proposes how)"
    )


def matching_preset(columns: Collection[str]) -> str | None:
    """Return the name of a preset all of whose columns a source has, None without one."""
    for preset in PRESETS:
        if set(columns) >= {*preset.mapping.values(), *preset.kept_columns}:
            return preset.name
    return None
