"""Charts as SVG inside the page: its own colours in light and dark, sharp on paper, drawn without a library."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from spilegate.records import Float64
from spilegate.report.page.markup import legend, text

WIDTH, HEIGHT = 440, 290
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 12, 44
# Points of a line or a scatter that are drawn at most.
MOST_POINTS = 1500


@dataclass(frozen=True)
class Axis:
    """An axis: what it shows, from where to where; ticks : (place, label) of marks, chosen here if there are none."""

    label: str
    low: float
    high: float
    logarithmic: bool = False
    ticks: tuple[tuple[float, str], ...] = ()

    def part(self, value: float) -> float:
        """Return where a value lies between both ends, 0 to 1 inside."""
        if self.logarithmic:
            value = max(value, self.low * 1e-3)
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def marks(self) -> list[tuple[float, str]]:
        """Return places and labels of the marks."""
        if self.ticks:
            return [mark for mark in self.ticks if -1e-9 <= self.part(mark[0]) <= 1 + 1e-9]
        return [(value, plain(value)) for value in (_decades(self) if self.logarithmic else _steps(self))]


@dataclass(frozen=True)
class Line:
    """A line over an axis, its name and colour ("c1" to "c6", "muted"); dotted : only marks, no line between them."""

    x: Sequence[float] | Float64
    y: Sequence[float] | Float64
    name: str = ""
    colour: str = "c1"
    dashed: bool = False
    thin: bool = False
    dotted: bool = False
    marked: bool = False


@dataclass(frozen=True)
class Level:
    """A line across the chart at a value, named at its right end; upright : along y, at a value of x."""

    value: float
    name: str
    colour: str = "muted"
    upright: bool = False


def chart(
    lines: Sequence[Line],
    x: Axis,
    y: Axis,
    alt: str,
    *,
    levels: Sequence[Level] = (),
    bars: Sequence[Line] = (),
    band: tuple[Sequence[float] | Float64, Sequence[float] | Float64, Sequence[float] | Float64] | None = None,
    top: Axis | None = None,
) -> str:
    """Return a chart with its legend, as HTML.

    bars : stacked, their x being whole numbers; band : x, lower and upper edge of an area behind the lines
    top : what stands along the upper edge, with places of `x`
    """
    above = TOP + (30 if top else 0)
    place = _Frame(x, y, above)
    parts = [*_grid(place), *(_top(place, top) if top else ())]
    if band is not None:
        parts.append(place.area(*band))
    parts += _bars(place, bars)
    parts += [part for line in lines for part in place.line(line)]
    parts += [place.level(level) for level in levels]
    named = [(line.name, line.colour, line.dashed) for line in (*bars, *lines) if line.name]
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text(alt)}" class="chart">'
        f"{''.join(parts)}</svg>{legend(named) if len(named) > 1 else ''}"
    )


def span(*values: Sequence[float] | Float64, low: float | None = None, room: float = 0.06) -> tuple[float, float]:
    """Return where an axis has to begin and end for these values; low : the beginning, if it is known."""
    joined = np.concatenate([np.asarray(value, np.float64).ravel() for value in values] or [np.zeros(1)])
    known = joined[np.isfinite(joined)]
    if not len(known):
        return (0.0 if low is None else low), 1.0 if low is None else low + 1.0
    first, last = (float(known.min()) if low is None else low), float(known.max())
    if last <= first:
        last = first + (abs(first) or 1.0) * 0.1
    return (first - room * (last - first) if low is None else first), last + room * (last - first)


def log_span(*values: Sequence[float] | Float64) -> tuple[float, float]:
    """Return where a logarithmic axis has to begin and end for these values, those above 0."""
    joined = np.concatenate([np.asarray(value, np.float64).ravel() for value in values])
    known = joined[np.isfinite(joined) & (joined > 0)]
    if not len(known):
        return 0.1, 10.0
    first, last = float(known.min()), float(known.max())
    return (first / 1.15, last * 1.15) if last > 1.5 * first else (first / 1.5, last * 1.5)


def plain(value: float) -> str:
    """Return a round number in few letters: 0.02, 5e-5, 20000, 1e6."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:g}"
    mantissa, power = f"{value:e}".split("e")
    return f"{float(mantissa):g}e{int(power)}"


class _Frame:
    """Where values lie in the picture."""

    def __init__(self, x: Axis, y: Axis, above: int) -> None:
        self.x, self.y, self.above = x, y, above

    def across(self, value: float) -> float:
        """Return the place of a value of x."""
        return LEFT + min(max(self.x.part(value), -0.02), 1.02) * (WIDTH - LEFT - RIGHT)

    def up(self, value: float) -> float:
        """Return the place of a value of y."""
        part = min(max(self.y.part(value), -0.02), 1.02)
        return HEIGHT - BOTTOM - part * (HEIGHT - BOTTOM - self.above)

    def line(self, line: Line) -> list[str]:
        """Return a line, or its marks."""
        step = -(-len(line.x) // MOST_POINTS) or 1
        points = [
            (self.across(float(a)), self.up(float(b))) if math.isfinite(a) and math.isfinite(b) else None
            for a, b in zip(line.x[::step], line.y[::step], strict=True)
        ]
        known = dots(point for point in points if point)
        if line.dotted:
            return [_path("dots", known, line.colour)]
        route, pen = [], "M"
        for point in points:
            route.append("" if point is None else f"{pen}{point[0]:.1f} {point[1]:.1f}")
            pen = "M" if point is None else "L"
        kind = "line" + (" dashed" if line.dashed else "") + (" thin" if line.thin else "")
        return [_path(kind, "".join(route), line.colour), *([_path("dots large", known, line.colour)] * line.marked)]

    def level(self, level: Level) -> str:
        """Return a line across, with its name."""
        if level.upright:
            x = self.across(level.value)
            name = _words(x - 4, self.above + 6, level.name, "level", "end", level.colour, turned=True)
            return _path("level", f"M{x:.1f} {self.above}V{HEIGHT - BOTTOM}", level.colour) + name
        y = self.up(level.value)
        name = _words(LEFT + 4, y - 4, level.name, "level", "start", level.colour)
        return _path("level", f"M{LEFT} {y:.1f}H{WIDTH - RIGHT}", level.colour) + name

    def area(
        self, x: Sequence[float] | Float64, low: Sequence[float] | Float64, high: Sequence[float] | Float64
    ) -> str:
        """Return the area between two lines."""
        there = [f"{self.across(float(a)):.1f} {self.up(float(b)):.1f}" for a, b in zip(x, low, strict=True)]
        back = [f"{self.across(float(a)):.1f} {self.up(float(b)):.1f}" for a, b in zip(x, high, strict=True)][::-1]
        return f'<path class="band" d="M{"L".join(there + back)}Z"/>'


def dots(points: Iterable[tuple[float, float]]) -> str:
    """Return the path of dots at places (x, y)."""
    return "".join(f"M{x:.1f} {y:.1f}h0" for x, y in points)


def _path(kind: str, route: str, colour: str = "") -> str:
    """Return a path; kind : its class in the style sheet; colour : its name there."""
    style = f' style="--colour:var(--{colour})"' if colour else ""
    return f'<path class="{kind}"{style} d="{route}"/>'


def _words(
    x: float, y: float, words: str, kind: str = "", anchor: str = "middle", colour: str = "", *, turned: bool = False
) -> str:
    """Return words at a place, which they begin, end or have their middle at; turned : running upwards."""
    style = f' style="--colour:var(--{colour})"' if colour else ""
    where = f'transform="translate({x:.1f} {y:.1f}) rotate(-90)"' if turned else f'x="{x:.1f}" y="{y:.1f}"'
    return f'<text class="{kind}"{style} {where} text-anchor="{anchor}">{text(words)}</text>'


def _bars(place: _Frame, bars: Sequence[Line]) -> list[str]:
    """Return stacked bars."""
    base: dict[float, float] = {}
    width = 0.8 * (place.across(1) - place.across(0))
    parts = []
    for stack in bars:
        for x, y in zip(stack.x, stack.y, strict=True):
            low = base.get(float(x), 0.0)
            base[float(x)] = low + float(y)
            left, top, bottom = place.across(float(x)) - width / 2, place.up(low + float(y)), place.up(low)
            if y > 0:
                parts.append(
                    f'<rect class="bar" style="--colour:var(--{stack.colour})" x="{left:.1f}" y="{top:.1f}" '
                    f'width="{width:.1f}" height="{max(bottom - top, 0.3):.1f}"/>'
                )
    return parts


def _grid(place: _Frame) -> list[str]:
    """Return both axes with marks and labels."""
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for value, label in place.y.marks():
        y = place.up(value)
        parts += [_path("grid", f"M{LEFT} {y:.1f}H{right}"), _words(LEFT - 6, y + 4, label, anchor="end")]
    for value, label in place.x.marks():
        x = place.across(value)
        parts += [_path("tick", f"M{x:.1f} {bottom}v4"), _words(x, bottom + 17, label)]
    parts += [_path("axis", f"M{LEFT} {bottom}H{right}")]
    parts += [_words((LEFT + right) / 2, HEIGHT - 6, place.x.label, "label")]
    return [*parts, _words(13, (place.above + bottom) / 2, place.y.label, "label", turned=True)]


def _top(place: _Frame, top: Axis) -> list[str]:
    """Return what stands along the upper edge."""
    parts = [_path("axis", f"M{LEFT} {place.above}H{WIDTH - RIGHT}")]
    for value, label in top.ticks:
        if 0 <= place.x.part(value) <= 1:
            x = place.across(value)
            parts += [_path("tick", f"M{x:.1f} {place.above}v-4"), _words(x, place.above - 7, label)]
    return [*parts, _words((LEFT + WIDTH - RIGHT) / 2, 11, top.label, "label")]


def _steps(axis: Axis) -> list[float]:
    """Return four to seven round values between the ends of a linear axis."""
    raw = (axis.high - axis.low) / 5
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if raw <= size * factor * 1.001)
    first = math.ceil(axis.low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(axis.high / step + 1e-9) + 1)]


def _decades(axis: Axis) -> list[float]:
    """Return round values between the ends of a logarithmic axis, at most about seven."""
    first, last = math.floor(math.log10(axis.low)), math.ceil(math.log10(axis.high))
    for factors in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 5), (1, 3), (1,)):
        found = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
        found = [value for value in found if axis.low <= value <= axis.high]
        if len(found) <= 7:
            break
    step = -(-len(found) // 7) or 1
    return found[::step]
