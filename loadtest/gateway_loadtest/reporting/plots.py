"""Plots as SVG, drawn here so that a report opens without anything else."""

import math
from collections.abc import Callable, Sequence
from html import escape
from itertools import groupby
from typing import NamedTuple

from gateway_loadtest.results.result import Stage

WIDTH, HEIGHT = 760, 220
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 14, 34
TICKS = 5
# What is smaller was not measured, and would have an axis of nothing: milliseconds.
RESOLUTION = 0.001
# Moments of a plot that have their values shown: more would be narrower than a pointer points.
MOST_MOMENTS = 400
# One class of the style sheet for each curve of a plot.
CURVES = 6


# Pixels: the width of a curve that lies on all others, and by how much each one below is wider.
THIN, THICKER = 1.6, 1.6


class Curve(NamedTuple):
    """Values over time; None where there is none."""

    name: str
    values: Sequence[float | None]


def over_time(
    at: Sequence[float],
    curves: Sequence[Curve],
    stages: Sequence[Stage],
    *,
    unit: str,
    logarithmic: bool = False,
) -> str:
    """Curves over the seconds of a run, its stages as bands. Empty when there is nothing to draw."""
    values = [value for curve in curves for value in curve.values if value is not None and value > 0]
    begin, end = 0.0, max(at, default=0.0)
    if len(at) < 2 or not values or end <= begin:
        return ""
    low, high = _range(values, logarithmic)
    scale = _logarithmic(low, high) if logarithmic else _linear(low, high)

    def x(seconds: float) -> float:
        return LEFT + (seconds - begin) / (end - begin) * (WIDTH - LEFT - RIGHT)

    parts = [_bands(stages, x, end), *_grid(scale, _ticks(low, high, logarithmic))]
    parts += [
        f'<text class="tick" x="{x(second):.1f}" y="{HEIGHT - 8}" text-anchor="middle">{second:g} s</text>'
        for second in _nice(begin, end)
    ]
    # The first on top of the others and the thinnest, so that those that it lies on are seen beside it.
    for number, curve in reversed(list(enumerate(curves))):
        points = [
            None if value is None else f"{x(second):.1f},{scale(max(value, low)):.1f}"
            for second, value in zip(at, curve.values, strict=True)
        ]
        parts += [
            f'<polyline class="curve c{number % CURVES}" stroke-width="{THIN + number % CURVES * THICKER:.1f}" '
            f'points="{" ".join(stretch)}"/>'
            for stretch in _stretches(points)
        ]
    parts += _moments(at, curves, x, unit)
    return _frame("".join(parts), f"{unit} over time: {', '.join(curve.name for curve in curves)}")


def _moments(at: Sequence[float], curves: Sequence[Curve], x: Callable[[float], float], unit: str) -> list[str]:
    """The values at each moment, shown where the pointer is. Of very many moments some are left out."""
    step = math.ceil(len(at) / MOST_MOMENTS)
    shown = range(0, len(at), step)
    parts, left = [], float(LEFT)
    for index, following in zip(shown, [*shown[1:], None], strict=True):
        # Up to the middle between this moment and the next.
        right = float(WIDTH - RIGHT) if following is None else (x(at[index]) + x(at[following])) / 2
        values = (
            f"{escape(curve.name)}: {'none' if (value := curve.values[index]) is None else _precise(value)}"
            for curve in curves
        )
        parts.append(
            f'<rect class="moment" x="{left:.1f}" y="{TOP}" width="{max(right - left, 0):.1f}" '
            f'height="{HEIGHT - TOP - BOTTOM}"><title>{at[index]:.0f} s, {unit}\n{chr(10).join(values)}</title></rect>'
        )
        left = right
    return parts


def _precise(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _stretches(points: Sequence[str | None]) -> list[list[str]]:
    """What hangs together: a line drawn across an outage would hide it."""
    stretches = [list(found) for some, found in groupby(points, key=lambda point: point is not None) if some]
    # A point alone is drawn as a dot, since a line of one point is nothing.
    return [[point for point in stretch if point] * (2 if len(stretch) == 1 else 1) for stretch in stretches]


def legend(curves: Sequence[Curve]) -> str:
    """The names of the curves, in their colours."""
    keys = [f'<span class="key c{number % CURVES}">{escape(each.name)}</span>' for number, each in enumerate(curves)]
    return f'<p class="legend">{"".join(keys)}</p>'


def histogram(bars: Sequence[tuple[float, int]]) -> str:
    """Counts by milliseconds, on a logarithmic axis. Empty when there is nothing to draw."""
    if not bars:
        return ""
    low, high = bars[0][0] / 1.3, max(bars[-1][0] * 1.1, bars[0][0] * 2)
    most = max(count for _, count in bars)
    scale = _linear(0, most)

    def x(milliseconds: float) -> float:
        share = math.log(milliseconds / low) / math.log(high / low)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    parts = _grid(scale, _ticks(0, most, False))
    before = low
    for edge, count in bars:
        # Each bar begins where the one before could have ended.
        start = max(before, edge / 1.25)
        width = max(x(edge) - x(start) - 1, 1)
        top = scale(count)
        parts.append(
            f'<rect class="bar" x="{x(start):.1f}" y="{top:.1f}" width="{width:.1f}" '
            f'height="{HEIGHT - BOTTOM - top:.1f}"><title>up to {edge:.3g} ms: {count:,}</title></rect>'
        )
        before = edge
    parts += [
        f'<text class="tick" x="{x(each):.1f}" y="{HEIGHT - 8}" text-anchor="middle">{each:g}</text>'
        for each in _steps(low, high)
    ]
    return _frame("".join(parts), "deliveries by latency")


def _frame(content: str, label: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">{content}</svg>'


def _bands(stages: Sequence[Stage], x: Callable[[float], float], end: float) -> str:
    parts = []
    for number, stage in enumerate(stages):
        if stage.begin >= end:
            continue
        left, right = x(stage.begin), x(min(stage.end, end))
        parts.append(
            f'<rect class="band b{number % 2}" x="{left:.1f}" y="{TOP}" width="{max(right - left, 0):.1f}" '
            f'height="{HEIGHT - TOP - BOTTOM}"/>'
        )
        if right - left > 7 * len(stage.name):
            parts.append(f'<text class="stage" x="{left + 4:.1f}" y="{TOP + 11}">{escape(stage.name)}</text>')
    return "".join(parts)


def _grid(scale: Callable[[float], float], ticks: Sequence[float]) -> list[str]:
    parts = []
    for tick in ticks:
        y = scale(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_number(tick)}</text>')
    return parts


def _range(values: Sequence[float], logarithmic: bool) -> tuple[float, float]:
    if logarithmic:
        low = 10 ** math.floor(math.log10(max(min(values), RESOLUTION)))
        return low, max(10 ** math.ceil(math.log10(max(values))), low * 10)
    # Room for the names of the stages above the curves.
    return 0.0, max(values) * 1.18


def _linear(low: float, high: float) -> Callable[[float], float]:
    return lambda value: HEIGHT - BOTTOM - (value - low) / (high - low or 1) * (HEIGHT - TOP - BOTTOM)


def _logarithmic(low: float, high: float) -> Callable[[float], float]:
    span = math.log10(high / low)
    return lambda value: HEIGHT - BOTTOM - math.log10(value / low) / span * (HEIGHT - TOP - BOTTOM)


def _ticks(low: float, high: float, logarithmic: bool) -> list[float]:
    return _powers(low, high) if logarithmic else _nice(low, high)


def _powers(low: float, high: float) -> list[float]:
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    return [10.0**power for power in range(first, last + 1)]


def _steps(low: float, high: float) -> list[float]:
    """Powers of ten, and 2 and 5 between them where they are few."""
    if high / low > 1000:
        return _powers(low, high)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)))
    return [factor * 10.0**power for power in powers for factor in (1, 2, 5) if low <= factor * 10.0**power <= high]


def _nice(low: float, high: float) -> list[float]:
    """Round numbers, some TICKS of them."""
    raw = (high - low) / TICKS
    power = 10 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
    return [index * step for index in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _number(value: float) -> str:
    if value >= 1_000_000:
        return f"{value / 1_000_000:g}M"
    return f"{value / 1000:g}k" if value >= 10_000 else f"{value:g}"
