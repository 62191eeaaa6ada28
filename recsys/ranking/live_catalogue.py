"""What has changed since the model was built: products' prices and flags, and an account's latest purchases."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from recsys.contracts.offers import PriceBreak, ProductChange
from recsys.offer_model.tables import EVERYONE, Float64, Int64, OfferModel

OFFERABLE, INACTIVE, REFUSAL_DO_NOT_OFFER, OUT_OF_STOCK = 0, 1, 2, 3
REFUSALS = ("offerable", "inactive", "do_not_offer", "out_of_stock")


class LiveCatalogue:
    """Prices and flags in force now: the model's, and the changes since.

    The arrays have shape `(n_products,)`. A change is a few writes of single elements, so that a reader in another
    thread sees the old value or the new one.
    """

    def __init__(self, model: OfferModel) -> None:
        products = model.products
        self.ids = list(products.ids)
        self._rows = {product_id: row for row, product_id in enumerate(self.ids)}
        self.price: Float64 = np.array(products.price)
        self.cost: Float64 = np.array(products.cost)
        self._prices = model.prices
        every = np.arange(len(self.price))
        self.price_start: Int64 = np.searchsorted(model.prices.product, every).astype(np.int64)
        self.price_count: Int64 = np.searchsorted(model.prices.product, every, side="right") - self.price_start
        self._active = np.array(products.active)
        self._do_not_offer = np.array(products.do_not_offer)
        self._stock: Float64 = np.array(products.stock)
        refusal = np.zeros(len(self.price), dtype=np.int8)
        refusal[self._stock <= 0] = OUT_OF_STOCK  # NaN, stock that nobody tracks, is not below zero
        refusal[self._do_not_offer] = REFUSAL_DO_NOT_OFFER
        refusal[~self._active] = INACTIVE
        self.refusal: NDArray[np.int8] = refusal
        self.margin_rate = _median_margin_rate(self.price, self.cost)

    def row(self, product_id: str) -> int:
        """Return the row of a product, -1 where the model does not know it."""
        return self._rows.get(product_id, -1)

    def apply(self, change: ProductChange) -> bool:
        """Put a change in force; return whether the model knows the product."""
        row = self.row(change.product_id)
        if row < 0:
            return False
        for array, value in (
            (self.price, change.price),
            (self.cost, change.cost),
            (self._active, change.active),
            (self._do_not_offer, change.do_not_offer),
            (self._stock, change.stock),
        ):
            if value is not None:
                array[row] = value
        if change.price is not None:
            self.price_count[row] = 0  # a posted price holds for everybody, at any quantity
        self.refusal[row] = self._refusal(row)
        return True

    def values(self, row: int) -> dict[str, float | bool | None]:
        """Return the values of a product that are in force; a number that is not known is None."""
        numbers = {"price": self.price[row], "cost": self.cost[row], "stock": self._stock[row]}
        known = {name: None if np.isnan(value) else float(value) for name, value in numbers.items()}
        return {**known, "active": bool(self._active[row]), "do_not_offer": bool(self._do_not_offer[row])}

    def price_breaks(self, product: int, segment: int) -> tuple[PriceBreak, ...]:
        """Return every price of a product for a segment; none where it does not depend on the quantity."""
        rows = self._price_rows(product, segment)
        if not rows:
            return ()
        least = sorted({0.0, *(float(self._prices.least_quantity[row]) for row in rows)})
        prices = [self.price_at(product, segment, units) for units in least]
        kept = [place for place, price in enumerate(prices) if place == 0 or price != prices[place - 1]]
        found = tuple(PriceBreak(max(least[place], 1.0), prices[place]) for place in kept)
        return found if len(found) > 1 else ()

    def price_at(self, product: int, segment: int, quantity: float) -> float:
        """Return the price of a product for a segment at a quantity; NaN where it is not known."""
        reached = [row for row in self._price_rows(product, segment) if quantity >= self._prices.least_quantity[row]]
        return float(self._prices.price[reached[-1]] if reached else self.price[product])

    def _price_rows(self, product: int, segment: int) -> list[int]:
        count = int(self.price_count[product])
        if not count:
            return []
        begin = int(self.price_start[product])
        return [row for row in range(begin, begin + count) if self._prices.segment[row] in (EVERYONE, segment)]

    def money(self, product: int, from_product: int, segment: int, quantity: float) -> float:
        """Return the money that units of a product bring by price, less what an upgrade displaces (-1: nothing).

        It is 0 where a price is not known.
        """
        value = self.price_at(product, segment, quantity)
        if from_product >= 0:
            value -= self.price_at(from_product, segment, quantity)
        value *= quantity
        return 0.0 if math.isnan(value) else value

    def _refusal(self, row: int) -> int:
        if not self._active[row]:
            return INACTIVE
        if self._do_not_offer[row]:
            return REFUSAL_DO_NOT_OFFER
        return OUT_OF_STOCK if self._stock[row] <= 0 else OFFERABLE


def _median_margin_rate(price: Float64, cost: Float64) -> float | None:
    known = ~np.isnan(cost) & (price > 0)
    return float(np.median(1.0 - cost[known] / price[known])) if known.any() else None
