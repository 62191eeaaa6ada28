"""The base of every configuration, and its reading from TOML and from settings of a command line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from recsys.errors import ConfigError

_C = TypeVar("_C", bound="Config")
_SUBJECT = re.compile(r"^\w+ should ")
"""How pydantic begins a rule, as `Input should be less than 1`: the option is named already."""


class Config(BaseModel):
    """A frozen set of options that refuses names it does not know.

    Raises:
        ConfigError: an option is unknown or out of range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, /, **options: Any) -> None:  # noqa: ANN401 - each is checked by its field
        try:
            super().__init__(**options)
        except ValidationError as error:
            raise ConfigError(validation_sentences(error, type(self))) from None


def read_config(path: Path | None, kind: type[_C], settings: Sequence[str] = ()) -> _C:
    """Return the configuration of class `kind` that a TOML file and settings beyond it name.

    Args:
        path: the file; None: the defaults of `kind`.
        kind: the class.
        settings: `section.key=value` each; they count before the file, the later before the earlier. A value is read
            as TOML where it is TOML, else as text: `seed=3`, `next_product.ranker.kind=logistic`.

    Raises:
        ConfigError: the file is missing, is not TOML, or an option is unknown or out of range.
    """
    options = {} if path is None else _read_toml(path)
    for setting in settings:
        options = deep_merge(options, _parse_setting(setting))
    try:
        return kind(**options)
    except ConfigError as error:
        where = " and ".join([*([str(path)] if path else []), *(["settings"] if settings else [])])
        raise ConfigError(f"{where}: {error}") from None


def deep_merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Return `base` with what `over` says, section by section.

    >>> deep_merge({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}, "b": 4})
    {'a': {'x': 1, 'y': 3}, 'b': 4}
    """
    both = dict(base)
    for key, value in over.items():
        known = both.get(key)
        both[key] = deep_merge(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return both


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested mapping as one level with dotted names.

    >>> flatten({"rules": {"min_count": 5}, "seed": 0})
    {'rules.min_count': 5, 'seed': 0}
    """
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def given_config(config: _C | None, kind: type[_C]) -> _C:
    """Return a configuration that Python code gives, or the defaults of `kind`.

    Raises:
        ConfigError: it is something else.
    """
    if config is None:
        return kind()
    if not isinstance(config, kind):
        name = kind.__name__
        raise ConfigError(f"config is a {type(config).__name__}, must be a {name}; give {name}(option=value, ...)")
    return config


def validation_sentences(
    error: ValidationError, kind: type[BaseModel] | None = None, within: tuple[str | int, ...] = ()
) -> str:
    """Return a pydantic error as one line: each option, what was given, and the rule it breaks.

    Args:
        error: of a configuration or a document.
        kind: its class, whose options are listed where one is unknown; None: they are not.
        within: the sections that it stands in.
    """
    parts = []
    for item in error.errors():
        place, message = (*within, *item["loc"]), _SUBJECT.sub("must ", item["msg"].removeprefix("Value error, "))
        where = ".".join(map(str, place))
        # A configuration in another one has already made a sentence of its error, without the place where it stands.
        inner = getattr(item.get("ctx", {}).get("error"), "__context__", None)
        if isinstance(inner, ValidationError):
            parts.append(validation_sentences(inner, _section(kind, item["loc"]), place))
            continue
        if not item["loc"]:  # a rule between options names them itself; the whole input would bury it
            parts.append(f"{where}: {message}" if where else message)
            continue
        given = "" if item["type"] == "missing" else f" == {item['input']!r}"
        section = _section(kind, item["loc"][:-1]) if item["type"] == "extra_forbidden" else None
        known = f"; must be one of {', '.join(section.model_fields)}" if section else ""
        parts.append(f"{where}{given}: {message}{known}")
    return "; ".join(parts)


def _section(kind: type[BaseModel] | None, place: tuple[str | int, ...]) -> type[BaseModel] | None:
    """Return the class of a section of a configuration; None where it is not one class."""
    for name in place:
        field = kind.model_fields.get(str(name)) if kind else None
        found = field.annotation if field else None
        kind = found if isinstance(found, type) and issubclass(found, BaseModel) else None
    return kind


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; name an existing TOML file") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None


def _parse_setting(setting: str) -> dict[str, Any]:
    name, equals, text = setting.partition("=")
    *sections, key = name.strip().split(".")
    if not equals or not key or not all(sections):
        raise ConfigError(f"setting {setting!r}, must be section.key=value; write as next_product.n_classifiers=3")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, KeyError):
        value = text.strip()
    options: dict[str, Any] = {key: value}
    for section in reversed(sections):
        options = {section: options}
    return options
