"""The parts of a report that any run has: its settings, its curves, incidents."""

from __future__ import annotations

from typing import Any, Callable, Mapping, NamedTuple, Sequence, Tuple

from common.html import Markup, escape, table
from training.report.chart import Series, chart

__all__ = ['Chart', 'Section', 'curves', 'figure_tiles', 'incidents', 'settings_table']

STYLE = """
.tiles { display: grid; gap: .6rem; grid-template-columns: repeat(auto-fill, minmax(8rem, 1fr)); margin: 1rem 0; }
.tiles div { background: var(--card); border-radius: 6px; padding: .6rem .8rem; }
.tiles b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.tiles span { color: var(--faint); font-size: .875rem; }
"""
TOLD = 10  # incidents


class Section(NamedTuple):
    """A part of a page, with or without a title.

    `draw()` gives its HTML, nothing if there is nothing to say, and may fail without the rest of the page.
    """

    title: str
    draw: Callable[[], str]


class Chart(NamedTuple):
    """Lines to draw: (name, its value in a row of the history) each."""

    title: str
    unit: str
    lines: Sequence[Tuple[str, Callable[[Mapping[str, Any]], float]]]


def figure_tiles(figures: Sequence[Tuple[str, str]]) -> Markup:
    """Return the figures at the top: (value, description) each."""
    tiles = ''.join(f'<div><b>{escape(value)}</b><span>{escape(name)}</span></div>' for value, name in figures)
    return Markup(f'<div class="tiles">{tiles}</div>')


def curves(rows: Sequence[Mapping[str, Any]], charts: Sequence[Chart]) -> Markup:
    """Return charts of the rows of a history."""
    if not rows:
        return Markup('<p>No epoch has come to its end yet.</p>')
    epochs = [row['epoch'] for row in rows]
    drawn = [
        chart(
            each.title,
            [Series(name, epochs, [value(row) for row in rows], i) for i, (name, value) in enumerate(each.lines)],
            each.unit,
        )
        for each in charts
    ]
    return Markup(f'<div class="charts grid">{"".join(drawn)}</div>')


def settings_table(
    settings: Mapping[str, Any], defaults: Mapping[str, Any], facts: Sequence[Tuple[str, Any]] = ()
) -> Markup:
    """Return `facts`, then the settings that differ from their defaults, and the others folded away."""
    changed = {name: value for name, value in settings.items() if value != defaults.get(name)}
    others = {name: value for name, value in settings.items() if name not in changed}

    def listed(values: Mapping[str, Any]) -> Markup:
        return table([(Markup(f'<code>--{escape(name)}</code>'), value) for name, value in values.items()])

    parts = [table(facts)] if facts else []
    if changed:
        parts.append(f'<h3>Settings</h3>{listed(changed)}')
    if others:
        parts.append(f'<details><summary>{len(others)} settings at their defaults</summary>{listed(others)}</details>')
    return Markup('\n'.join(parts))


def incidents(events: Sequence[Mapping[str, Any]]) -> Markup:
    """List steps that were skipped and images that could not be read, from the run's log of events; empty if none."""
    skipped = [str(event['reason']) for event in events if event['event'] == 'skipped']
    damaged = [event['images'] for event in events if event['event'] == 'damaged']
    images = list(map(str, damaged[-1])) if damaged else []  # each time all that were found so far
    parts = []
    for what, found in (('steps were skipped', skipped), ('images were left out', images)):
        if found:
            listed = ''.join(f'<li>{escape(sentence)}</li>' for sentence in found[:TOLD])
            more = f'<li>and {len(found) - TOLD} more</li>' if len(found) > TOLD else ''
            parts.append(f'<p>{len(found)} {what}:</p><ul>{listed}{more}</ul>')
    return Markup(''.join(parts))
