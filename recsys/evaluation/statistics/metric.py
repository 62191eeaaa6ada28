"""What is measured: one metric is a mean over units, a ratio of two means, or a quantile of units."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from recsys.errors import ReadoutError
from recsys.experiments.known_metrics import MetricUnit
from recsys.experiments.plan import MetricDirection

Role = Literal["primary", "secondary", "guardrail", "diagnostic"]
UNITS = "__units"
"""Column of the number of units in a cluster: a mean per unit is the ratio of a cluster's sum to it."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """The mean of a column over units, or the ratio of two such means; or, in its place, a quantile of the units.

    Attributes:
        numerator: a column with one value a unit.
        denominator: another; None means 1, so that the ratio is a mean.
        quantile: the quantile of the column's values over units, between 0 and 1; None: the mean.
    """

    numerator: str
    denominator: str | None = None
    quantile: float | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it needs."""
        return (self.numerator,) if self.denominator is None else (self.numerator, self.denominator)

    @property
    def is_mean(self) -> bool:
        """Whether it is a mean over units, of units by themselves or in clusters."""
        return self.denominator in {None, UNITS} and self.quantile is None

    @property
    def formula(self) -> str:
        """How it is worked out, as `revenue / orders`."""
        if self.quantile is not None:
            return f"quantile({self.numerator},{self.quantile:g})"
        return f"{self.numerator} / units" if self.is_mean else " / ".join(self.columns)

    def by_cluster(self) -> Ratio:
        """Return the same figure over sums of clusters: a mean per unit becomes a ratio of two sums."""
        return Ratio(self.numerator, UNITS) if self.denominator is None else self


@dataclass(frozen=True, slots=True)
class Metric:
    """A named ratio, what is known of it from before the start, and what it is for.

    Attributes:
        name: stands in reports.
        value: the ratio itself.
        before: the same from before the start, for CUPED; None leaves it out.
        direction: which way is good.
        role: the primary decides; secondary metrics explain; guardrails may not get worse; a diagnostic's own
            denominator may move with the treatment.
        margin: of a guardrail: how much worse is tolerable; None for other roles.
        margin_is_relative: whether `margin` is a share of the control's mean.
        denominator_metric: the metric that shows whether this ratio's denominator moved.
        unit: of its values.
        currency: of money; None where it is not known.
        direction_is_assumed: nobody said which way is good.
    """

    name: str
    value: Ratio
    before: Ratio | None = None
    direction: MetricDirection = "higher_is_better"
    role: Role = "secondary"
    margin: float | None = None
    margin_is_relative: bool = False
    denominator_metric: str | None = None
    unit: MetricUnit = "number"
    currency: str | None = None
    direction_is_assumed: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it needs, without repetition."""
        found = self.value.columns + (self.before.columns if self.before else ())
        return tuple(dict.fromkeys(found))

    def by_cluster(self) -> Metric:
        """Return the same metric over sums of clusters."""
        return replace(self, value=self.value.by_cluster(), before=self.before and self.before.by_cluster())

    @property
    def sign(self) -> int:
        """1 where higher is better, else -1."""
        return 1 if self.direction == "higher_is_better" else -1


def parse_ratios(option: str, texts: Sequence[str]) -> dict[str, Ratio]:
    """Return the ratios of `NAME=COLUMN`, `NAME=COLUMN/COLUMN` or `NAME=quantile(COLUMN,SHARE)`, in order.

    Raises:
        ReadoutError: a text has another form, or a name stands twice.

    Example:
        >>> parse_ratios("metrics", ["aov=revenue/orders"])
        {'aov': Ratio(numerator='revenue', denominator='orders', quantile=None)}
    """
    found: dict[str, Ratio] = {}
    for text in texts:
        name, _, columns = text.partition("=")
        of_units = parse_quantile(columns)
        parts = [columns] if of_units else [part.strip() for part in columns.split("/")]
        if not name.strip() or len(parts) > 2 or not all(parts):
            raise ReadoutError(
                f"{option} {text!r}, must be NAME=COLUMN or NAME=COLUMN/COLUMN, or NAME=quantile(COLUMN,0.9)"
            )
        if name.strip() in found:
            raise ReadoutError(f"{option} {name.strip()!r} stands twice, each name must be its own")
        _refuse_quantile_parts(f"{option} {name.strip()!r}", parts, of_units)
        found[name.strip()] = of_units or Ratio(parts[0], parts[1] if len(parts) == 2 else None)
    return found


_QUANTILE: Final = re.compile(r"\s*quantile\(\s*(.+?)\s*,\s*([0-9.]+)\s*\)\s*")


def parse_quantile(text: str) -> Ratio | None:
    """Return the quantile of `quantile(COLUMN,SHARE)`; None where the text names a column.

    Raises:
        ReadoutError: the share is none.

    Example:
        >>> parse_quantile("quantile(revenue,0.9)")
        Ratio(numerator='revenue', denominator=None, quantile=0.9)
    """
    found = _QUANTILE.fullmatch(text)
    if found is None:
        return None
    share = _number(found[2])
    if share is None or not 0 < share < 1:
        raise ReadoutError(f"{text.strip()}, must be a share between 0 and 1, as quantile({found[1]},0.9)")
    return Ratio(found[1], quantile=share)


def _refuse_quantile_parts(what: str, parts: Sequence[str], of_units: Ratio | None) -> None:
    if of_units is None and any("quantile(" in part for part in parts):
        raise ReadoutError(
            f"{what} == {'/'.join(parts)}, must be quantile(COLUMN,0.9) by itself: it is no part of a ratio"
        )


def ratios_of(what: str, named: object) -> dict[str, Ratio]:
    """Return the ratios of a mapping: name -> column, a pair of columns, or `quantile(COLUMN,SHARE)`.

    Raises:
        ReadoutError: it has another form.

    Example:
        >>> ratios_of("metrics", {"aov": ("revenue", "orders")})
        {'aov': Ratio(numerator='revenue', denominator='orders', quantile=None)}
    """
    found: dict[str, Ratio] = {}
    for name, given in _items(what, named):
        columns = (given,) if isinstance(given, str) else given
        if not isinstance(columns, Sequence) or len(columns) not in {1, 2} or not all(map(_is_text, columns)):
            raise ReadoutError(
                f"{what} {name!r} == {given!r}, must be a column or a pair of columns; give 'revenue', or "
                "('revenue', 'orders') for a ratio"
            )
        of_units = parse_quantile(columns[0]) if len(columns) == 1 else None
        _refuse_quantile_parts(f"{what} {name!r}", columns, of_units)
        found[name] = of_units or Ratio(*columns)
    return found


def _items(what: str, named: object) -> list[tuple[str, object]]:
    if not isinstance(named, Mapping):
        raise ReadoutError(f"{what} == {named!r}, must be a mapping by the metric's name; give {{'spend': ...}}")
    wrong = [name for name in named if not _is_text(name)]
    if wrong:
        raise ReadoutError(f"{what} has the name {wrong[0]!r}, must be a text; give {{'spend': ...}}")
    return list(named.items())


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


@dataclass(frozen=True, slots=True)
class Margin:
    """How much worse a guardrail may get.

    Attributes:
        amount: in the metric's unit, or a share of the control's mean.
        is_relative: whether it is such a share.
        direction: which way is good; None where it was not said.
        was_locked: it stands in a plan that has started, and is judged as it was locked.
    """

    amount: float
    is_relative: bool = False
    direction: MetricDirection | None = None
    was_locked: bool = False


def parse_margins(texts: Sequence[str]) -> dict[str, Margin]:
    """Return the margins of `NAME=MARGIN[%][:lower|:higher]`, by metric.

    Raises:
        ReadoutError: a text has another form, or a margin is negative.

    Example:
        >>> parse_margins(["attrition=0.01:lower"])["attrition"].direction
        'lower_is_better'
    """
    found: dict[str, Margin] = {}
    for text in texts:
        name, _, rest = text.partition("=")
        margin = _margin(rest)
        if margin is None or not name.strip():
            raise ReadoutError(
                f"guardrail {text!r}, must be NAME=MARGIN or NAME=MARGIN% with :lower or :higher behind it, the margin "
                "0 or more"
            )
        found[name.strip()] = margin
    return found


def margins_of(named: object) -> dict[str, Margin]:
    """Return the margins of a mapping: name -> a number, or `MARGIN[%][:lower|:higher]`.

    Raises:
        ReadoutError: it has another form, or a margin is negative.
    """
    found: dict[str, Margin] = {}
    for name, given in _items("guardrails", named):
        margin = None if isinstance(given, bool) else _margin(str(given))
        if margin is None:
            raise ReadoutError(
                f"guardrails {name!r} == {given!r}, must be a number of 0 or more, or a text as '2%' or '0.01:lower'"
            )
        found[name] = margin
    return found


_DIRECTIONS: Final[Mapping[str, MetricDirection | None]] = {
    "": None,
    "lower": "lower_is_better",
    "higher": "higher_is_better",
}


def _margin(text: str) -> Margin | None:
    amount, _, way = text.partition(":")
    number = _number(amount.strip().removesuffix("%"))
    if number is None or way not in _DIRECTIONS:
        return None
    is_relative = amount.strip().endswith("%")
    return Margin(
        number / 100 if is_relative else number,
        is_relative,
        _DIRECTIONS[way],
    )


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
