"""The base of every configuration and its reading from TOML."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from recsys.errors import ConfigError

_C = TypeVar("_C", bound="Config")


class Config(BaseModel):
    """A frozen set of options that refuses names it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def read_config(path: Path, kind: type[_C]) -> _C:
    """Return the configuration of class `kind` that stands in a TOML file.

    Raises:
        ConfigError: the file is missing, is not TOML, or holds an option that is unknown or out of range.
    """
    try:
        return kind.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; name an existing TOML file") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    except ValidationError as error:
        raise ConfigError(f"{path}: {validation_sentences(error)}") from None


def validation_sentences(error: ValidationError) -> str:
    """Return a pydantic error as one line: each option, what was given, and the rule it breaks."""
    parts = []
    for item in error.errors():
        message = item["msg"].removeprefix("Value error, ")
        if not item["loc"]:  # a rule between options names them itself; the whole input would bury it
            parts.append(message)
            continue
        where = ".".join(str(part) for part in item["loc"])
        given = "" if item["type"] == "missing" else f" == {item['input']!r}"
        parts.append(f"{where}{given}: {message}")
    return "; ".join(parts)
