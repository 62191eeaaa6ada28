"""Business rules: what people decide about offers, in one file, checked when it is read.

    [[rule]]
    name = "no-clearance-for-wholesale"
    action = "block"                    # block, require, pin or boost
    categories = ["Clearance"]          # or products = ["85123A"]
    segments = ["wholesale"]            # only there; also regions, channels, surfaces; none: everywhere
    valid_from = 2026-03-01             # UTC; valid_to is the first moment at which it holds no more
    valid_to = 2026-06-01
    owner = "A. Buyer"
    reason = "they buy it by contract"

`block` never offers the products. `pin` places one at `rank`, a candidate or not. `require` has one of them at `rank`
or before. `boost` multiplies what they are ranked by with `factor`. None of them brings back what the account owns, has
declined, or what is out of stock. `discount_percent` and `text` go out with the offer.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from recsys.contracts.config import Config, validation_sentences
from recsys.contracts.offers import NameKind
from recsys.errors import ConfigError

Action = Literal["block", "require", "pin", "boost"]


def _moment(value: object) -> object:
    """A date is its first moment; a time without a zone is UTC."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return datetime(value.year, value.month, value.day, tzinfo=UTC) if isinstance(value, date) else value


TomlMoment = Annotated[datetime, BeforeValidator(_moment)]
Names = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(max_length=100_000)]


_FIRST_PRINTABLE: Final = 32
"""Below it stand control characters: PostgreSQL reads no JSON with a NUL, and none can be said aloud."""


class BusinessRule(Config):
    """One decision about offers."""

    name: str = Field(min_length=1, max_length=100)
    """Stands in answers, in the log and in why-not."""
    action: Action
    """`block`, `require`, `pin` or `boost`."""
    products: Names = ()
    """Ids of the products that it is about."""
    categories: Names = ()
    """Categories whose products it is about."""
    segments: Names = ()
    """Only accounts of these; empty: all."""
    regions: Names = ()
    """Only requests or accounts of these; empty: all."""
    channels: Names = ()
    """Only requests from these; empty: all."""
    surfaces: Names = ()
    """Only offers for these places, as `cart` or `home`; empty: all."""
    valid_from: TomlMoment | None = None
    """First moment at which it holds, UTC; None: always did."""
    valid_to: TomlMoment | None = None
    """First moment at which it holds no more, UTC; None: for ever."""
    owner: str = Field(min_length=1, max_length=200)
    """Who answers for it."""
    reason: str = Field(min_length=1, max_length=500)
    """Why it is there, for people."""
    factor: float | None = Field(default=None, gt=0, le=1_000)
    """Of a boost: above 1 lifts, below 1 lowers."""
    rank: int | None = Field(default=None, ge=1, le=100)
    """Of a pin: its place, 1 where it is left out. Of a require: the last place that will do, 3 where left out."""
    discount_percent: float | None = Field(default=None, gt=0, lt=100)
    """Percent off the price of the products, taken off their value."""
    text: str | None = Field(default=None, min_length=1, max_length=500)
    """What is to be said with the offer."""

    @model_validator(mode="after")
    def _is_consistent(self) -> BusinessRule:
        if any(ord(letter) < _FIRST_PRINTABLE for letter in f"{self.name}{(self.text or '')}"):
            raise ValueError(
                "name and text hold a control character (NUL, tab, line break), must hold none; take it out"
            )
        if not self.products and not self.categories:
            raise ValueError("products and categories are empty, one must name something; name what it is about")
        if self.valid_from is not None and self.valid_to is not None and self.valid_to <= self.valid_from:
            raise ValueError("valid_to must lie after valid_from")
        if (self.action == "boost") != (self.factor is not None):
            raise ValueError("factor must be given with action = 'boost', and with no other")
        if self.rank is not None and self.action not in {"pin", "require"}:
            raise ValueError("rank must be given with action = 'pin' or 'require' only")
        if self.action == "pin" and (self.categories or len(self.products) != 1):
            raise ValueError("a pin must name one product and no category; use 'require' for a choice")
        if self.action == "block" and (self.discount_percent is not None or self.text is not None):
            raise ValueError("discount_percent and text must not be given with action = 'block': it offers nothing")
        return self

    def holds(self, now: datetime) -> bool:
        """Return whether it is valid at `now`."""
        return (self.valid_from is None or self.valid_from <= now) and (self.valid_to is None or now < self.valid_to)

    def applies(self, segment: str | None, region: str | None, channel: str | None, surface: str | None) -> bool:
        """Return whether it is about an account and request of that segment, region, channel and surface."""
        asked = (
            (self.segments, segment),
            (self.regions, region),
            (self.channels, channel),
            (self.surfaces, surface),
        )
        return all(not names or value in names for names, value in asked)

    @property
    def place(self) -> int:
        """The rank that a pin or require speaks of."""
        return self.rank or (1 if self.action == "pin" else 3)


@dataclass(frozen=True, slots=True)
class BusinessRules:
    """The rules of one file, in its order.

    Attributes:
        version: beginning of the SHA-256 of the file; decisions name it.
    """

    rules: tuple[BusinessRule, ...]
    version: str

    def in_force(self, now: datetime) -> tuple[BusinessRule, ...]:
        """Return the rules that are valid at `now`."""
        return tuple(rule for rule in self.rules if rule.holds(now))


def unknown_in_rules(rules: Iterable[BusinessRule], knows: Callable[[NameKind, str], bool]) -> list[str]:
    """Return what the rules name and nobody knows: a rule about it does nothing until a model does.

    Example:
        >>> rule = BusinessRule(name="tins", action="block", products=("P1", "P2"), owner="A. Buyer", reason="sold out")
        >>> unknown_in_rules([rule], lambda kind, name: name == "P1")
        ["product 'P2' (tins)"]
    """
    fields: dict[NameKind, str] = {"product": "products", "category": "categories", "segment": "segments"}
    return [
        f"{kind} {name!r} ({rule.name})"
        for rule in rules
        for kind, field in fields.items()
        for name in getattr(rule, field)
        if not knows(kind, name)
    ]


def read_rules(path: Path) -> BusinessRules:
    """Return the rules of a TOML file.

    Raises:
        ConfigError: the file is missing, is not TOML, or a rule is wrong; names the rule and its line.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; name the TOML file of the business rules") from None
    return parse_rules(content, str(path))


def parse_rules(content: bytes, where: str) -> BusinessRules:
    """Return the rules in the bytes of a TOML file; `where` names it in errors.

    Raises:
        ConfigError: not TOML, or a rule is wrong; names the rule and its line.
    """
    try:
        text = content.decode("utf-8")
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}: not valid TOML: {error}") from None
    tables = document.pop("rule", [])
    if document or not isinstance(tables, list):
        names = ", ".join(document) or "rule"
        raise ConfigError(
            f"{where}: {names}: a file of rules must hold [[rule]] tables only; see `offers rules --help`"
        )
    lines = [number for number, line in enumerate(text.splitlines(), 1) if line.split("#")[0].strip() == "[[rule]]"]
    rules = tuple(_rule(table, where, position, lines) for position, table in enumerate(tables))
    _refuse_twice(rules, where, lines)
    return BusinessRules(rules, hashlib.sha256(content).hexdigest()[:12])


def _rule(table: object, where: str, position: int, lines: Sequence[int]) -> BusinessRule:
    try:
        return BusinessRule.model_validate(table)
    except ValidationError as error:
        name = table.get("name", "without a name") if isinstance(table, dict) else "not a table"
        raise ConfigError(f"{where}: {_place(position, lines)} ({name}): {validation_sentences(error)}") from None


def _refuse_twice(rules: Sequence[BusinessRule], where: str, lines: Sequence[int]) -> None:
    seen: set[str] = set()
    for position, rule in enumerate(rules):
        if rule.name in seen:
            raise ConfigError(f"{where}: {_place(position, lines)}: name == {rule.name!r} stands twice; rename one")
        seen.add(rule.name)


def _place(position: int, lines: Sequence[int]) -> str:
    line = f", line {lines[position]}" if position < len(lines) else ""
    return f"rule {position + 1}{line}"
