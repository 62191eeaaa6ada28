"""Numbers, intervals, p-values and KPI figures as people read them.

`page_template` is the one set-up of all pages: text is escaped and a misspelt name is an error everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from recsys.reporting.svg import PALETTE

if TYPE_CHECKING:  # a server needs the template alone, and starts in half the time without a readout's libraries
    from recsys.contracts.events import ExperimentDecision
    from recsys.evaluation.kpis.definition import Basis, KpiUnit
    from recsys.evaluation.readout.arm_effects import Effect
    from recsys.evaluation.readout.design import Timing


def number(value: float | None, *, signed: bool = False) -> str:
    """Return a number with about four significant digits.

    Example:
        >>> [number(x) for x in (21306, 113.502, 0.005726, None)], number(0.7674, signed=True)
        (['21,306', '113.5', '0.005726', '–'], '+0.7674')
    """
    if value is None or not math.isfinite(value):
        return "–"
    sign = "+" if signed else ""
    if value == 0:
        return "0"
    if abs(value) >= 1_000:
        return f"{value:{sign},.0f}"
    places = max(0, 3 - math.floor(math.log10(abs(value))))
    text = f"{value:{sign}.{min(places, 8)}f}"
    return text if abs(value) >= 1e-8 else f"{value:{sign}.2e}"


def percent(value: float | None, *, signed: bool = True) -> str:
    """Return a share in percent.

    Example:
        >>> percent(0.1173), percent(-0.0042), percent(None), percent(0.95, signed=False)
        ('+11.7 %', '-0.4 %', '–', '95.0 %')
    """
    if value is None or not math.isfinite(value):
        return "–"
    sign = "+" if signed else ""
    return f"{100 * value:{sign},.1f} %"


def interval(low: float | None, high: float | None) -> str:
    """Return the two limits in brackets.

    Example:
        >>> interval(-0.5, 1.25)
        '[-0.5000, +1.250]'
    """
    return f"[{number(low, signed=True)}, {number(high, signed=True)}]"


def relative_interval(effect: Effect) -> str:
    """Return the relative effect with its limits, or a dash where it makes no sense."""
    if effect.relative is None:
        return "–"
    low, high = percent(effect.relative_low), percent(effect.relative_high)
    return f"{percent(effect.relative)} [{low}, {high}]"


def timing_parts(timing: Timing) -> list[str]:
    """Return as of when a readout judges and how much of its plan is there, as short sentences without a full stop."""
    named = (("as of", timing.as_of), ("last event", timing.last_event), ("decision due", timing.decision_due))
    parts = [f"{name} {moment:%Y-%m-%d %H:%M} UTC" for name, moment in named if moment is not None]
    planned = "" if timing.planned_size is None else f" of {timing.planned_size:,} planned"
    return [*parts, f"smallest arm {timing.smallest_arm:,}{planned}"]


def decision_text(decision: ExperimentDecision) -> str:
    """Return a stored decision in one sentence: what, as of when, who, and why against the rules."""
    arm = f", {decision.arm}" if decision.arm else ""
    when = f"as of {decision.as_of:%Y-%m-%d}, signed by {decision.signed_by} on {decision.decided_at:%Y-%m-%d}"
    if decision.override is None:
        return f"Decided: {decision.verdict}{arm}, {when}."
    against = f"against the rules, which said {decision.verdict}: {decision.override_reason}"
    return f"Decided: {decision.override}{arm}, {when}, {against}"


DASH: Final = "–"
BASIS_WORDS: Final[dict[Basis, str]] = {
    "organic": "organic",
    "attributed": "attributed",
    "history": "all sales",
    "log": "offers",
    "forecast": "forecast",
}


def shown(value: float | None, unit: KpiUnit, currency: str | None = None) -> str:
    """Return a value with its unit.

    Example:
        >>> shown(0.1234, "share"), shown(1234.5, "money", "GBP"), shown(None, "share")
        ('12.3 %', 'GBP 1,234.50', '–')
    """
    if value is None:
        return DASH
    if unit == "share":
        return f"{100 * value:.1f} %"
    if unit == "money":
        sign = "-" if value < 0 else ""
        return f"{sign}{currency} {abs(value):,.2f}" if currency else f"{value:,.2f}"
    return f"{value:,.2f}"


def shown_difference(value: float, unit: KpiUnit, currency: str | None = None) -> str:
    """Return a difference with its sign; shares differ by percentage points.

    Example:
        >>> shown_difference(-0.0123, "share"), shown_difference(2, "products")
        ('-1.2 pp', '+2.00')
    """
    sign = "-" if value < 0 else "+"
    size = abs(value)
    if unit == "share":
        return f"{sign}{100 * size:.1f} pp"
    return f"{sign}{shown(size, unit, currency)}"


def shown_limits(low: float, high: float, unit: KpiUnit) -> str:
    """Return the limits of a difference, in the unit that `shown_difference` writes behind it.

    Example:
        >>> shown_limits(-0.0123, 0.004, "share"), shown_limits(-3.0, 1250, "money")
        ('(-1.2 to +0.4)', '(-3.00 to +1,250.00)')
    """
    if unit == "share":
        return f"({100 * low:+.1f} to {100 * high:+.1f})"
    return f"({low:+,.2f} to {high:+,.2f})"


def counted(value: float) -> str:
    """Return a numerator or denominator: whole where it is whole.

    Example:
        >>> counted(1234.0), counted(12.345)
        ('1,234', '12.35')
    """
    return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"


def page_template(name: str, package: str = "recsys.reporting", **filters: Callable[..., Any]) -> Template:
    """Return the template `NAME.html.j2` in a package's folder `templates`.

    Values are escaped but for those with `__html__`, as a `Drawing` has; `palette` holds the charts' colours.
    """
    environment = Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    environment.globals["palette"] = PALETTE
    return environment.get_template(f"{name}.html.j2")
