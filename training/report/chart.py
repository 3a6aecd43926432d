"""Draw lines over the epochs as SVG: sharp at any size, in the page's colours, with values on hovering."""

from __future__ import annotations

import math
from typing import List, NamedTuple, Optional, Sequence, Tuple

from common.html import Markup, escape

__all__ = ['PALETTE', 'STYLE', 'Series', 'chart', 'key']

# Okabe and Ito's colours, which colour-blind readers tell apart, without black and yellow.
PALETTE = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9')
DASHES = ('', '7 3', '2 3', '9 3 2 3')
WIDTH, HEIGHT = 420, 250
LEFT, RIGHT, TOP, BOTTOM = 48, 412, 10, 216
DOTTED = 30  # lines of so many points or fewer show them
TOLD = 100  # points of a line that tell their value

STYLE = """
svg text { fill: var(--faint); font-size: 12px; }
svg .rule { stroke: var(--line); stroke-width: 1; }
svg .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
svg .hit { fill: transparent; }
.keys { display: flex; flex-wrap: wrap; gap: .1rem 1rem; font-size: .875rem; color: var(--ink); }
.charts.grid { grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); }
svg.key { display: inline-block; width: 1.6em; height: .7em; margin-right: .4em; vertical-align: middle; }
"""


class Series(NamedTuple):
    """A line: where `y` is not finite, or None, it is interrupted. `number` chooses its colour and dashes."""

    name: str
    x: Sequence[float]
    y: Sequence[Optional[float]]
    number: int = 0


def _look(number: int) -> str:
    dashes = DASHES[number // len(PALETTE) % len(DASHES)]
    return f'stroke="{PALETTE[number % len(PALETTE)]}"' + (f' stroke-dasharray="{dashes}"' if dashes else '')


def key(number: int) -> Markup:
    """Return a sample of the line with this number, to precede its name."""
    return Markup(f'<svg class="key" viewBox="0 0 32 12"><path class="line" d="M0 6H32" {_look(number)}/></svg>')


def _known(line: Series) -> List[Tuple[float, float]]:
    return [(x, y) for x, y in zip(line.x, line.y) if y is not None and math.isfinite(y)]


def _ticks(low: float, high: float, whole: bool = False) -> List[float]:
    from matplotlib.ticker import MaxNLocator

    if low == high:
        low, high = (low - 1, high + 1) if whole else (min(low, 0), max(high, 0) or 1)
    return [float(tick) for tick in MaxNLocator(5, integer=whole).tick_values(low, high)]


def _pieces(line: Series) -> List[List[Tuple[float, float]]]:
    pieces: List[List[Tuple[float, float]]] = [[]]
    for x, y in zip(line.x, line.y):
        if y is None or not math.isfinite(y):
            pieces.append([])
        else:
            pieces[-1].append((x, y))
    return [piece for piece in pieces if piece]


def chart(
    title: str,
    lines: Sequence[Series],
    unit: str = '',
    x_label: str = 'epoch',
    zero: bool = True,
    keys: bool = True,
) -> Markup:
    """Return a figure of the lines, with names below it if there are several and `keys`.

    `zero`: the axis begins there.
    """
    points = [point for line in lines for point in _known(line)]
    caption = f'<figcaption>{escape(title)}{f", {escape(unit)}" if unit else ""}</figcaption>'
    if not points:
        return Markup(f'<figure>{caption}<p>There is nothing to draw: no value is finite.</p></figure>')
    xs, ys = [x for x, _ in points], [y for _, y in points]
    down = _ticks(min([0.0, *ys]) if zero else min(ys), max(ys))
    low, high = down[0], down[-1]
    left, right = min(xs), max(xs)

    def across(x: float) -> float:
        return LEFT + (RIGHT - LEFT) * ((x - left) / (right - left) if right > left else 0.5)

    def up(y: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * (y - low) / (high - low)

    parts = []
    for tick in down:
        parts.append(f'<path class="rule" d="M{LEFT} {up(tick):.1f}H{RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{up(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in _ticks(left, right, whole=True):
        if left <= tick <= right:
            parts.append(f'<text x="{across(tick):.1f}" y="{BOTTOM + 16}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<text x="{(LEFT + RIGHT) / 2}" y="{HEIGHT - 3}" text-anchor="middle">{escape(x_label)}</text>')
    for line in lines:
        for piece in _pieces(line):
            path = 'L'.join(f'{across(x):.1f} {up(y):.1f}' for x, y in piece)
            parts.append(f'<path class="line" {_look(line.number)} d="M{path}"/>')
    for line in lines:
        known = _known(line)
        colour = PALETTE[line.number % len(PALETTE)]
        if len(known) <= DOTTED:
            parts += [f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="2.5" fill="{colour}"/>' for x, y in known]
        for x, y in known[:: -(-len(known) // TOLD) or 1]:
            told = escape(f'{line.name}, {x_label} {x:g}: {y:.5g}{" " + unit if unit else ""}')
            parts.append(
                f'<circle class="hit" cx="{across(x):.1f}" cy="{up(y):.1f}" r="7"><title>{told}</title></circle>'
            )
    names = ''
    if keys and len(lines) > 1:
        names = ''.join(f'<span>{key(line.number)}{escape(line.name)}</span>' for line in lines)
        names = f'<div class="keys">{names}</div>'
    drawing = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    return Markup(f'<figure>{caption}{drawing}{names}</figure>')
