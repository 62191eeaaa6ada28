"""Small charts as inline SVG: a KPI over time, with its target, and shares of groups as bars."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

_WIDTH: Final = 420
_HEIGHT: Final = 180
_LEFT: Final = 74
_RIGHT: Final = 12
_TOP: Final = 12
_BOTTOM: Final = 26
_COLOURS: Final = ("#0b5cad", "#c2570c")


@dataclass(frozen=True, slots=True)
class ChartLine:
    """One line of a chart.

    Attributes:
        name: what it is, for the legend and for those who can't see it.
        values: one a period; None leaves a gap.
    """

    name: str
    values: tuple[float | None, ...]


def trend_chart(
    lines: Sequence[ChartLine],
    labels: Sequence[str],
    *,
    text: Callable[[float], str],
    target: float | None = None,
    open_from: int | None = None,
    bars: bool = False,
) -> str:
    """Return an SVG of one or two lines (or of bars) over periods.

    Args:
        lines: what to draw, each with one value a label.
        labels: the periods.
        text: how a value is written at the axis.
        target: drawn as a dashed line.
        open_from: the first period that is not over: it is drawn pale.
        bars: bars instead of lines; the first of `lines` only.
    """
    known = [value for line in lines for value in line.values if value is not None] + (
        [] if target is None else [target]
    )
    if not known or not labels:
        return ""
    low, high = min(0.0, *known), max(0.0, *known)
    scale = _Scale(low, high if high > low else low + 1.0, len(labels))
    parts = [_frame(scale, labels, text)]
    if target is not None:
        y = scale.y(target)
        parts.append(f'<line class="target" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
    if bars:
        parts.append(_bars(lines[0], scale, open_from))
    else:
        parts += [_path(line, scale, colour, open_from) for line, colour in zip(lines, _COLOURS, strict=False)]
    title = escape("; ".join(f"{line.name} {_spoken(line, labels, text)}" for line in lines))
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}">{"".join(parts)}</svg>'


@dataclass(frozen=True, slots=True)
class _Scale:
    low: float
    high: float
    n: int

    def x(self, position: int) -> float:
        return _LEFT + (position + 0.5) * (_WIDTH - _LEFT - _RIGHT) / self.n

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _frame(scale: _Scale, labels: Sequence[str], text: Callable[[float], str]) -> str:
    parts = []
    for step in range(3):
        value = scale.low + step * (scale.high - scale.low) / 2
        y = scale.y(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="axis" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(text(value))}</text>'
        )
    for position in sorted({0, len(labels) // 2, len(labels) - 1}):
        anchor = "start" if position == 0 else "end" if position == len(labels) - 1 else "middle"
        x = scale.x(position)
        parts.append(
            f'<text class="axis" x="{x:.1f}" y="{_HEIGHT - 6}" text-anchor="{anchor}">{escape(labels[position])}</text>'
        )
    return "".join(parts)


def _path(line: ChartLine, scale: _Scale, colour: str, open_from: int | None) -> str:
    points = [(scale.x(at), scale.y(value), at) for at, value in enumerate(line.values) if value is not None]
    drawn, previous = [], None
    for x, y, at in points:
        drawn.append(f"{'L' if previous == at - 1 else 'M'}{x:.1f},{y:.1f}")
        previous = at
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"{_pale(at, open_from)}/>' for x, y, at in points
    )
    return f'<path d="{" ".join(drawn)}" fill="none" stroke="{colour}" stroke-width="2"/>{dots}'


def _bars(line: ChartLine, scale: _Scale, open_from: int | None) -> str:
    width = max(0.7 * (_WIDTH - _LEFT - _RIGHT) / scale.n, 1.0)
    zero = scale.y(0.0)
    parts = []
    for at, value in enumerate(line.values):
        if value is None:
            continue
        y = scale.y(value)
        parts.append(
            f'<rect x="{scale.x(at) - width / 2:.1f}" y="{min(y, zero):.1f}" width="{width:.1f}" '
            f'height="{abs(zero - y):.1f}" fill="{_COLOURS[0]}"{_pale(at, open_from)}/>'
        )
    return "".join(parts)


def _pale(at: int, open_from: int | None) -> str:
    return ' opacity=".35"' if open_from is not None and at >= open_from else ""


def _spoken(line: ChartLine, labels: Sequence[str], text: Callable[[float], str]) -> str:
    said = [f"{label} {text(value)}" for label, value in zip(labels, line.values, strict=True) if value is not None]
    return ", ".join(said[-4:])
