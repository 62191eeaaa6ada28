"""Drawing: a few shapes on a plane with two axes, as SVG text that is the same for the same numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

WIDTH = 480
INK = "#1f2933"
FAINT = "#9aa5b1"
GRID = "#e4e7eb"
CONTROL = "#616e7c"
PALETTE = ("#1f5fbf", "#c05621", "#2f855a", "#805ad5", "#b83280")


@dataclass
class Drawing:
    """An SVG that grows by the shapes drawn on it; a template takes it as it is.

    Attributes:
        height: in units.
        title: read aloud by screen readers.
        width: in units; the fewer, the larger the words on a page.
    """

    height: float
    title: str
    width: float = WIDTH
    _parts: list[str] = field(default_factory=list)

    def line(
        self, x1: float, y1: float, x2: float, y2: float, *, colour: str = INK, width: float = 1, dash: str = ""
    ) -> None:
        """Draw a straight line."""
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        self._parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
            f'stroke-width="{width:g}"{dashes}/>'
        )

    def rect(self, x: float, y: float, width: float, height: float, *, colour: str, opacity: float = 1) -> None:
        """Draw a filled rectangle."""
        self._parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{max(height, 0.5):.1f}" '
            f'fill="{colour}" fill-opacity="{opacity:g}"/>'
        )

    def dot(self, x: float, y: float, *, colour: str = INK, radius: float = 3.5, opacity: float = 1) -> None:
        """Draw a filled circle."""
        self._parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{colour}" fill-opacity="{opacity:g}"/>'
        )

    def path(self, points: Sequence[tuple[float, float]], *, colour: str, width: float = 2) -> None:
        """Draw a line through points."""
        shown = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._parts.append(f'<polyline points="{shown}" fill="none" stroke="{colour}" stroke-width="{width:g}"/>')

    def area(self, points: Sequence[tuple[float, float]], *, colour: str, opacity: float) -> None:
        """Fill what lies between points."""
        shown = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._parts.append(f'<polygon points="{shown}" fill="{colour}" fill-opacity="{opacity:g}"/>')

    def text(
        self, x: float, y: float, words: str, *, anchor: str = "start", colour: str = INK, size: float = 12
    ) -> None:
        """Write words; `anchor` is start, middle or end."""
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size:g}" fill="{colour}">'
            f"{escape(words)}</text>"
        )

    def __html__(self) -> str:
        return (
            f'<svg viewBox="0 0 {self.width:g} {self.height:g}" role="img" aria-label={quoteattr(self.title)}>'
            f"{''.join(self._parts)}</svg>"
        )


@dataclass(frozen=True)
class Scale:
    """A linear map of values to places.

    Attributes:
        low: value at `start`.
        high: value at `stop`.
        start: place of `low`.
        stop: place of `high`.
    """

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        """Return the place of a value; values beyond the ends stay at the ends."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.start + share * (self.stop - self.start)


def scale_over(values: Sequence[float], start: float, stop: float, *, with_zero: bool = True) -> Scale:
    """Return a scale that holds all finite values, with a little air."""
    known = [value for value in values if math.isfinite(value)] + ([0.0] if with_zero else [])
    low, high = min(known), max(known)
    air = (high - low) * 0.06 or max(abs(high), 1.0) * 0.06
    return Scale(low - air, high + air, start, stop)


def ticks(scale: Scale, about: int = 5) -> list[float]:
    """Return round values between the ends.

    Example:
        >>> ticks(Scale(0.0, 1.0, 0, 100))
        [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    raw = (scale.high - scale.low) / about
    power = 10 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(scale.low / step - 1e-9)
    last = math.floor(scale.high / step + 1e-9)
    return [round(i * step, 12) + 0.0 for i in range(first, last + 1)]


def percent_ticks(scale: Scale, about: int = 5) -> list[float]:
    """Return logs of one plus round percentages, for a scale of logs.

    Example:
        >>> [round(100 * math.expm1(value)) for value in percent_ticks(Scale(-0.3, 0.8, 0, 100))]
        [-20, 0, 20, 50, 100]
    """
    shares = (-0.9, -0.5, -0.2, -0.1, -0.05, -0.02, -0.01, 0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 9.0)
    gap = (scale.high - scale.low) / (about + 3)
    found = [0.0]
    for side in (1, -1):
        for share in sorted((share for share in shares if share * side > 0), key=abs):
            value = math.log1p(share)
            if scale.low < value < scale.high and abs(value - found[-1 if side > 0 else 0]) >= gap:
                found.insert(len(found) if side > 0 else 0, value)
    return found


def x_axis(
    drawing: Drawing,
    scale: Scale,
    top: float,
    bottom: float,
    shown: Callable[[float], str],
    values: Sequence[float] | None = None,
) -> None:
    """Draw vertical grid lines at `values` (default: round ones) with their values below, zero darker."""
    for value in ticks(scale) if values is None else values:
        at = scale(value)
        drawing.line(at, top, at, bottom, colour=INK if value == 0 else GRID)
        drawing.text(at, bottom + 15, shown(value), anchor="middle", colour=CONTROL, size=11)


def y_axis(
    drawing: Drawing,
    scale: Scale,
    left: float,
    right: float,
    shown: Callable[[float], str],
    values: Sequence[float] | None = None,
) -> None:
    """Draw horizontal grid lines at `values` (default: round ones) with their values at the left, zero darker."""
    for value in ticks(scale) if values is None else values:
        at = scale(value)
        drawing.line(left, at, right, at, colour=INK if value == 0 else GRID)
        drawing.text(left - 5, at + 4, shown(value), anchor="end", colour=CONTROL, size=11)


def x_labels(drawing: Drawing, scale: Scale, y: float, labels: Sequence[str]) -> None:
    """Write the first, the middle and the last label at the place of its position."""
    last = len(labels) - 1
    for i in sorted({0, len(labels) // 2, last}):
        anchor = "start" if i == 0 else "end" if i == last else "middle"
        drawing.text(scale(i), y, labels[i], anchor=anchor, colour=CONTROL, size=11)
