"""What goes out with a product beside its numbers: addresses, names by language, further columns of its table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final, NamedTuple

from recsys.offer_model.tables import OfferModel

AttributeValue = str | float | int | bool


class Details(NamedTuple):
    """What the products table says of a product for people.

    Attributes:
        url: of its page.
        image_url: of its picture.
        names: by language.
        attributes: further columns, by name.
    """

    url: str | None = None
    image_url: str | None = None
    names: Mapping[str, str] = {}
    attributes: dict[str, AttributeValue] = {}  # noqa: RUF012 - never changed


NO_DETAILS: Final = Details()


class ProductDetails:
    """Reads the details of a model's products when they are first asked for."""

    def __init__(self, model: OfferModel) -> None:
        self._model = model
        self._texts = model.products.details if len(model.products.details.data) else None
        self._read: dict[int, Details] = {}  # at most one entry a product

    def of(self, product: int) -> Details:
        """Return the details of the product in row `product`."""
        if self._texts is None:
            return NO_DETAILS
        found = self._read.get(product)
        if found is None:
            text = self._texts[product]
            found = self._read[product] = Details(**json.loads(text)) if text else NO_DETAILS
        return found

    def name(self, product: int, tag: str) -> str | None:
        """Return a product's name in a language, else its usual one, None where it has none."""
        return self.of(product).names.get(tag) or self._model.products.names[product] or None
