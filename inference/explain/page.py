"""Explanations as a single HTML page that works offline."""

from __future__ import annotations

from typing import Any, List, Sequence, Tuple

import numpy as np

from common.html import Markup, escape, image, page, section
from inference.explain.explanation import Explanation, overlay, scaled

__all__ = ['chart', 'explanations_page']

TILE = 192
STYLE = """
.sides { display: grid; gap: 0 2rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); }
.strip { display: grid; gap: .35rem; grid-template-columns: repeat(auto-fit, minmax(4.2rem, 1fr));
  max-width: calc(var(--tiles) * 11rem); }
.strip small { color: var(--faint); }
.charts { display: grid; gap: 1.5rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); }
.answers { max-width: 26rem; margin: .5rem 0 1.4rem; font-size: .875rem; }
.answers div { position: relative; margin: 2px 0; padding: 1px .4rem; display: flex; justify-content: space-between;
  gap: 1rem; overflow: hidden; border-radius: 3px; background: var(--card); }
.answers i { position: absolute; left: 0; top: 0; bottom: 0; background: rgba(120, 160, 210, .45); }
.answers .explained i { background: rgba(var(--heat), .45); }
.answers span { position: relative; overflow-wrap: anywhere; }
h3 { font-size: 1rem; margin: .8rem 0 .3rem; font-weight: 600; }
img.chart { background: #fff; min-width: 27rem; max-width: 46rem; }
"""


def _tile(pixels: np.ndarray, name: str, alt: str) -> str:
    return f'<div>{image(pixels, alt, lossy=True)}<small>{escape(name)}</small></div>'


def _answers(explanation: Explanation) -> str:
    rows = []
    for name, probability in explanation.answers:
        kind = ' class="explained"' if name == explanation.explained[0] else ''
        bar = f'<i style="width: {100 * probability:.1f}%"></i>'
        rows.append(f'<div{kind}>{bar}<span>{escape(name)}</span><span>{100 * probability:.1f} %</span></div>')
    return f'<div class="answers">{"".join(rows)}</div>'


def _explained(network: str, explanation: Explanation) -> str:
    what = f'{explanation.image}, {network}'
    tiles = [_tile(scaled(explanation.pixels, TILE), 'input', explanation.image)]
    for stage, heat in explanation.maps.items():
        tiles.append(_tile(overlay(explanation.pixels, heat, TILE), stage, f'{what}: heat map of {stage}'))
    name, probability = explanation.explained
    title = f'{escape(network)} <span class="faint">heat for {escape(name)}, {100 * probability:.1f} %</span>'
    strip = f'<div class="strip" style="--tiles: {len(tiles)}">{"".join(tiles)}</div>'
    return f'<div><h3>{title}</h3>{strip}{_answers(explanation)}</div>'


def chart(figure: Any, alt: str) -> Markup:
    """Return a Matplotlib figure, for a page."""
    canvas = figure.canvas
    canvas.draw()
    return image(np.asarray(canvas.buffer_rgba())[..., :3].copy(), alt, css='chart')


def explanations_page(
    title: str,
    networks: Sequence[str],
    images: Sequence[Sequence[Explanation]],
    charts: Sequence[Tuple[str, str, Sequence[Tuple[str, Any]]]] = (),
) -> bytes:
    """Return the content of an HTML page.

    Args:
        title: title of the page.
        networks: names of the networks.
        images: for each image, the explanations of all ``networks``.
        charts: further sections: heading, explanation, and (description, figure) pairs.
    """
    parts: List[str] = [
        '<p class="faint">Grad-CAM by stage: the brighter, the more a place speaks for the class. '
        'Each map has its own scale; early stages show edges and textures, the last one what decides.</p>'
    ]
    for row in images:
        body = ''.join(_explained(network, explanation) for network, explanation in zip(networks, row))
        parts.append(section(row[0].image, f'<div class="sides">{body}</div>'))
    for heading, told, figures in charts:
        drawn = ''.join(f'<figure class="wide">{chart(figure, alt)}</figure>' for alt, figure in figures)
        parts.append(section(heading, f'<p class="faint">{escape(told)}</p><div class="charts">{drawn}</div>'))
    return page(title, '\n'.join(parts), STYLE)
