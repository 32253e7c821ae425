"""Line charts as SVG: some panels on a card, readable on light and dark pages. Pure: numbers in, text out.

Colours and dashes of the lines are classes of the style sheet below, so that a system looks the same in every chart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

PANEL_WIDTH, PANEL_HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 70, 24, 74, 56
"""From the edge of a panel to its axes, in pixels."""
TICKS_WANTED = 5
LEGEND_CHARACTER_PX = 6.6
NEARLY = 1e-9

STYLE = """
    .card { fill: #ffffff; stroke: #d0d7de }
    .text { fill: #1f2328 }
    .soft { fill: #59636e }
    .head { font-weight: 600; font-size: 14px }
    .grid { stroke: #d8dee4; stroke-width: 1 }
    .line { fill: none; stroke-width: 2.2; stroke-linejoin: round; stroke-linecap: round }
    .dot { stroke: #ffffff; stroke-width: 1.2 }
    .c0 { stroke: #0969da } .f0 { fill: #0969da }
    .c1 { stroke: #cf222e } .f1 { fill: #cf222e }
    .c2 { stroke: #1a7f37 } .f2 { fill: #1a7f37 }
    .c3 { stroke: #8250df } .f3 { fill: #8250df }
    .c4 { stroke: #bc4c00 } .f4 { fill: #bc4c00 }
    .dashed { stroke-dasharray: 6 5 }
    @media (prefers-color-scheme: dark) {
      .card { fill: #151b23; stroke: #3d444d }
      .text { fill: #f0f6fc }
      .soft { fill: #9198a1 }
      .grid { stroke: #2a313c }
      .dot { stroke: #151b23 }
      .c0 { stroke: #58a6ff } .f0 { fill: #58a6ff }
      .c1 { stroke: #ff7b72 } .f1 { fill: #ff7b72 }
      .c2 { stroke: #3fb950 } .f2 { fill: #3fb950 }
      .c3 { stroke: #bc8cff } .f3 { fill: #bc8cff }
      .c4 { stroke: #f0883e } .f4 { fill: #f0883e }
    }"""


@dataclass(frozen=True, slots=True)
class Line:
    """`colour`: a number of the style sheet. `has_dots`: at each point, where points are few and measured."""

    label: str
    colour: int
    points: Sequence[tuple[float, float]]
    is_dashed: bool = False
    has_dots: bool = True


@dataclass(frozen=True, slots=True)
class Axis:
    """`label` says the unit. `ticks`: where, when it is known better; a linear axis begins with the first."""

    label: str
    is_log: bool = False
    ticks: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart."""

    title: str
    x: Axis
    y: Axis
    lines: Sequence[Line]


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to pixels, and where the ticks are."""

    ticks: list[float]
    low: float
    high: float
    place: Callable[[float], float]


def svg(title: str, panels: Sequence[Panel]) -> str:
    """The panels side by side. `title` is for those who hear the picture."""
    width, height = PANEL_WIDTH * len(panels), PANEL_HEIGHT + TOP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'role="img" aria-labelledby="title" font-size="12"\n'
        "     font-family=\"system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif\">",
        f'  <title id="title">{escape(title)}</title>\n  <style>{STYLE}\n  </style>',
        f'  <rect class="card" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="10"/>',
    ]
    for number, panel in enumerate(panels):
        parts += [f'  <g transform="translate({number * PANEL_WIDTH} 0)">', *_panel(panel), "  </g>"]
    return "\n".join([*parts, "</svg>\n"])


def _panel(panel: Panel) -> Iterator[str]:
    bottom = PANEL_HEIGHT + TOP - BOTTOM
    points = [point for line in panel.lines for point in line.points]
    x = _scale(panel.x, [point[0] for point in points], LEFT, PANEL_WIDTH - RIGHT)
    y = _scale(panel.y, [point[1] for point in points], bottom, TOP)
    yield _text(panel.title, LEFT, 28, "text head", "start")
    yield from _legend(panel.lines)
    for tick in y.ticks:
        at = y.place(tick)
        yield f'    <path class="grid" d="M{LEFT} {at:.1f}H{PANEL_WIDTH - RIGHT}"/>'
        yield _text(number(tick), LEFT - 8, at + 4, "soft", "end")
    for tick in x.ticks:
        yield f'    <path class="grid" d="M{x.place(tick):.1f} {bottom}v5"/>'
        yield _text(number(tick), x.place(tick), bottom + 19, "soft", "middle")
    yield _text(panel.x.label, (LEFT + PANEL_WIDTH - RIGHT) / 2, bottom + 42, "soft", "middle")
    middle = (TOP + bottom) / 2
    upright = f'transform="translate(18 {middle}) rotate(-90)" text-anchor="middle"'
    yield f'    <text class="soft" {upright}>{escape(panel.y.label)}</text>'
    for line in panel.lines:
        places = [(x.place(a), y.place(b)) for a, b in line.points if x.low <= a <= x.high and y.low <= b <= y.high]
        path = "L".join(f"{a:.1f} {b:.1f}" for a, b in places)
        yield f'    <path class="line c{line.colour}{" dashed" if line.is_dashed else ""}" d="M{path}"/>'
        if line.has_dots:
            yield from (f'    <circle class="dot f{line.colour}" cx="{a:.1f}" cy="{b:.1f}" r="4"/>' for a, b in places)


def _legend(lines: Sequence[Line]) -> Iterator[str]:
    at = float(LEFT)
    for line in lines:
        dashed = " dashed" if line.is_dashed else ""
        yield f'    <path class="line c{line.colour}{dashed}" d="M{at:.0f} 48h22"/>'
        yield _text(line.label, at + 28, 52, "text", "start")
        at += 28 + len(line.label) * LEGEND_CHARACTER_PX + 18


def _text(text: str, x: float, y: float, kind: str, anchor: str) -> str:
    return f'    <text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _scale(axis: Axis, values: Sequence[float], begin: float, end: float) -> Scale:
    """`begin` and `end`: in pixels. A logarithmic axis knows no zero: what is not above it is left out."""
    if axis.is_log:
        positive = [value for value in values if value > 0] or [1.0]
        ticks = list(axis.ticks) or _log_ticks(min(positive), max(positive))
        low, high = min(ticks[0], min(positive)), max(ticks[-1], max(positive))
        span = math.log(high / low) or 1.0
        return Scale(ticks, low, high, lambda value: begin + (end - begin) * math.log(value / low) / span)
    ticks = list(axis.ticks) or _linear_ticks(max(values, default=1.0))
    low, high = ticks[0], max(ticks[-1], max(values, default=1.0))
    return Scale(ticks, low, high, lambda value: begin + (end - begin) * (value - low) / (high - low))


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten from the last that is not above all values to the first that is not below; with 2 and 5 between
    where there is no room for more than two of them."""
    first, last = math.floor(math.log10(low) + NEARLY), math.ceil(math.log10(high) - NEARLY)
    steps = (1, 2, 5) if last - first <= 1 else (1,)
    ticks = [step * 10.0**power for power in range(first, max(last, first + 1) + 1) for step in steps]
    below = [tick for tick in ticks if tick <= low * (1 + NEARLY)]
    above = [tick for tick in ticks if tick >= high * (1 - NEARLY)]
    return [tick for tick in ticks if below[-1] <= tick <= above[0]]


def _linear_ticks(high: float) -> list[float]:
    """From zero in steps of 1, 2 or 5 times a power of ten until `high` is reached."""
    rough = (high or 1.0) / TICKS_WANTED
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [step * count for count in range(math.ceil(high / step) + 1)]


def number(value: float) -> str:
    """As short as it can be said: 0.5, 20, 30 k, 1 M."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{unit}"
    return f"{value:.4g}"
