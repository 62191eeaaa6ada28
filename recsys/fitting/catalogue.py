"""What of the products table goes out with an offer as it stands: addresses, names by language, further columns."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from recsys.contracts import columns as c
from recsys.contracts.offers import LANGUAGE_TAG
from recsys.errors import ConfigError, DataError
from recsys.fitting.products import Vocabulary

_NAME_COLUMN: Final = re.compile(rf"{c.NAME}[._]([a-z]{{2,3}})")
"""A name in another language: `name_de` or `name.de`."""
_ADDRESS: Final = re.compile(r"(https?://|/)\S+", re.IGNORECASE)
"""What a page may put into a link; `javascript:` would be run there."""
_TAG: Final = re.compile(LANGUAGE_TAG)


def check_catalogue(products: pd.DataFrame, accounts: pd.DataFrame, attributes: Sequence[str]) -> None:
    """Refuse what could not go out with an offer, before anything is learned.

    Raises:
        ConfigError: an attribute is no column of the products table.
        DataError: an address is none that a page can link to, or a language of an account is no tag.
    """
    for name in attributes:
        if name not in products:
            raise ConfigError(
                f"offers.attributes has {name!r}, must name columns of the products table, which has "
                f"{', '.join(map(str, products.columns))}; add the column, or leave it out"
            )
    for name in (c.URL, c.IMAGE_URL):
        rule = "must begin with https://, http:// or / and have no blank"
        _refuse(products, c.PRODUCT_ID, name, _ADDRESS, rule)
    _refuse(accounts, c.ACCOUNT_ID, c.LANGUAGE, _TAG, "must be a tag such as 'de' or 'de-AT'")


def product_details(products: Vocabulary, frame: pd.DataFrame, attributes: Sequence[str]) -> list[str | None]:
    """Return what goes out with each product as JSON, None where that is nothing: `url image_url names attributes`."""
    columns: list[tuple[str | None, str, str]] = [(None, name, name) for name in (c.URL, c.IMAGE_URL) if name in frame]
    matches = [_NAME_COLUMN.fullmatch(str(name)) for name in frame.columns]
    columns += [("names", matched[1], matched[0]) for matched in matches if matched]
    columns += [("attributes", name, name) for name in attributes]
    details: list[dict[str, Any]] = [{} for _ in range(len(products))]
    for group, key, name in columns:
        for detail, value in zip(details, products.column(frame, name, None), strict=True):
            if value is not None:
                (detail if group is None else detail.setdefault(group, {}))[key] = _plain(value)
    return [json.dumps(detail, ensure_ascii=False) if detail else None for detail in details]


def _refuse(frame: pd.DataFrame, key: str, name: str, pattern: re.Pattern[str], rule: str) -> None:
    if name not in frame:
        return
    for owner, value in frame.loc[frame[name].notna(), [key, name]].itertuples(index=False):
        if not pattern.fullmatch(str(value)):
            raise DataError(f"{name} of {key} {owner!r} is {value!r}, {rule}; repair it, or leave it empty")


def _plain(value: object) -> object:
    """A value that JSON has; a time becomes text."""
    plain = value.item() if isinstance(value, np.generic) else value
    return plain if isinstance(plain, (str, bool, int, float)) else str(plain)
