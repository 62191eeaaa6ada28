"""Fields that several requests share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, get_type_hints

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from recsys.contracts.offers import LANGUAGE_TAG

_NAMES_SOMETHING = r"^[^\x00-\x1f\x7f]*[^\x00-\x1f\x7f\s][^\x00-\x1f\x7f]*$"
"""Text without control characters that is not all white space; the length that is left is what the server counts."""

Id = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=_NAMES_SOMETHING)]
"""An opaque id: any text without control characters. Blanks around it are taken off, as where models are trained."""

Label = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100, pattern=_NAMES_SOMETHING)]
"""A short name of a channel or a place."""


def _whole(value: object) -> object:
    """JSON has one kind of number: 10.0 is an integer there."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
"""Beside `int` in a JSON body; last, so that the bounds before it stay in the OpenAPI document."""

Money = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
Quantity = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]

LanguageTag = Annotated[str, StringConstraints(max_length=35, pattern=LANGUAGE_TAG)]
"""BCP 47, as `de` or `de-AT`."""

Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
"""ISO 4217."""


class StrictBody(BaseModel):
    """A body that takes what the document says and nothing else: a text is no number, 0 is no boolean."""

    model_config = ConfigDict(extra="forbid", strict=True)


def answered_fields(declaration: type, names: Sequence[str] | None = None) -> dict[str, Any]:
    """Return the fields of a dataclass, those of `names` or all, as `create_model` takes them: each always there."""
    hints = get_type_hints(declaration, include_extras=True)
    return {name: (hints[name], ...) for name in names or hints}
