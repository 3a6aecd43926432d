"""Charts of gates by depth and channel, of where in an image they are open, and of connections."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np

from inference.explain.connection import Reliance
from inference.explain.drawing import legend_below, new_figure, plain_axes, short
from inference.explain.gates import Gate

__all__ = ['GateGroup', 'draw_gates', 'draw_positions', 'draw_reliance', 'groups_of']

COLOURS = ('#3b6ea8', '#c8553d', '#5a9367', '#8e6bb0', '#c99a2e', '#5b5f66')
MOST_MAPS, MOST_LABELS = 8, 24


class GateGroup(NamedTuple):
    """The gates of one kind of unit in one network, by depth."""

    unit: str
    name: str
    gates: List[Gate]

    @property
    def title(self) -> str:
        return f'{self.unit}: {self.name}'


def groups_of(gates: Sequence[Gate]) -> List[GateGroup]:
    """Return the gates of a network by unit and name, in the order in which they come first."""
    table: Dict[Tuple[str, str], List[Gate]] = {}
    for gate in gates:
        table.setdefault((gate.unit, gate.name), []).append(gate)
    return [GateGroup(unit, name, found) for (unit, name), found in table.items()]


def draw_gates(group: GateGroup, title: str) -> Any:
    """Draw the mean of each gate over the images, by depth (downwards) and channel (across).

    Beside it are the means over the channels, with the spread between channels (band) and between images (dotted). All
    rows have the same width, whatever their number of channels. The colours span the range of nearly all gates.
    """
    gates = group.gates
    figure, ((image, line),) = new_figure(
        5.4, 1.3 + min(6.0, 0.24 * max(6, len(gates))), 1, 2, width_ratios=[3, 1.3], sharey=True
    )
    rows = [gate.by_channel.mean(axis=0) for gate in gates]
    low, high = np.quantile(np.concatenate(rows), [0.005, 0.995])
    shades: Dict[str, Any] = {'cmap': 'viridis', 'vmin': low, 'vmax': high}
    if not all(gate.bounded for gate in gates):
        limit = max(abs(low), abs(high))
        shades = {'cmap': 'RdBu', 'vmin': -limit, 'vmax': limit}
    for depth, row in enumerate(rows):
        drawn = image.imshow(row[None], extent=(0, 1, depth + 0.5, depth - 0.5), aspect='auto', **shades)
    step = -(-len(rows) // MOST_LABELS)
    image.set_yticks(range(0, len(rows), step), [gate.place for gate in gates[::step]], fontsize=8)
    image.set(xlim=(0, 1), ylim=(len(rows) - 0.5, -0.5), xticks=[])
    image.set_xlabel('channels, from the first to the last', fontsize=8)
    image.set_ylabel('block, by depth', fontsize=8)
    image.set_title(f'{title}\n{group.title}', fontsize=9, loc='left')
    bar = figure.colorbar(drawn, ax=image, location='bottom', shrink=0.7, pad=0.02, aspect=40, extend='both')
    bar.ax.tick_params(labelsize=7)
    bar.ax.locator_params(axis='x', nbins=5)
    bar.set_label('gate, mean over the images', fontsize=8)
    depth = np.arange(len(rows))
    means = np.array([row.mean() for row in rows])
    channels = np.array([row.std() for row in rows])
    images = np.array([gate.by_channel.std(axis=0).mean() for gate in gates])
    band = {'color': COLOURS[0], 'alpha': 0.2, 'linewidth': 0}
    line.fill_betweenx(depth, means - channels, means + channels, label='± spread between channels', **band)
    line.plot(means, depth, color=COLOURS[0], marker='o', markersize=3, linewidth=1.4, label='mean over channels')
    if len(gates[0].values) > 1:
        for side in (-1, 1):
            label = '± spread between images' if side == 1 else None
            line.plot(means + side * images, depth, color=COLOURS[1], linestyle=':', linewidth=1.2, label=label)
    line.set_xlabel('gate', fontsize=8)
    line.locator_params(axis='x', nbins=4)
    line.tick_params(labelsize=7, left=False)
    line.grid(True, axis='x', color='#e6e6e6', linewidth=0.8)
    plain_axes(line)
    legend_below(figure, 7, 3)
    return figure


def draw_positions(group: GateGroup, title: str, pixels: Sequence[np.ndarray]) -> Any:
    """Draw where the gates are open, as the mean over channels: a row for each of ``pixels``, a column for each depth.

    Each map has its own scale, from dark to bright, which is printed below it. If there are many depths, some are
    omitted.
    """
    count = min(MOST_MAPS, len(group.gates))
    chosen = [group.gates[i] for i in np.unique(np.linspace(0, len(group.gates) - 1, count).round().astype(int))]
    figure, table = new_figure(
        max(4.5, 1.0 * (len(chosen) + 1)), 1.22 * len(pixels) + 0.45, len(pixels), len(chosen) + 1
    )
    for number, (image, axes) in enumerate(zip(pixels, table)):
        axes[0].imshow(image, interpolation='bicubic')
        for axis, gate in zip(axes[1:], chosen):
            maps = gate.by_position[number]
            axis.imshow(maps, cmap='viridis', interpolation='nearest')
            axis.set_xlabel(f'{maps.min():.2g} – {maps.max():.2g}', fontsize=6.5, labelpad=2)
            if number == 0:
                axis.set_title(gate.place, fontsize=7)
        for axis in axes:
            axis.set(xticks=[], yticks=[])
            plain_axes(axis, 'top', 'right', 'bottom', 'left')
    figure.suptitle(f'{title}, {group.title}', fontsize=9, x=0.02, ha='left')
    figure.supxlabel('each map from its lowest gate, dark, to its highest, bright', fontsize=7)
    return figure


def draw_reliance(networks: Sequence[Tuple[str, Sequence[Reliance]]]) -> Any:
    """Draw how much each block relies on the one before it, by depth: solid for the weights, dashed for the signal."""
    figure, ((axes,),) = new_figure(5.4, 3.8)
    labels: List[str] = []
    for _, rows in networks:
        labels.extend(name for name in (row.place for row in rows) if name not in labels)
    number = 0
    for title, rows in networks:
        for part in dict.fromkeys(row.part for row in rows):
            some = [row for row in rows if row.part == part]
            places = [labels.index(row.place) for row in some]
            colour = COLOURS[number % len(COLOURS)]
            number += 1
            name = ', '.join([*([short(title, 48)] if len(networks) > 1 else []), *([part] if part else [])])
            style = {'color': colour, 'marker': 'o', 'markersize': 4, 'linewidth': 1.6}
            axes.plot(places, [row.weight for row in some], label=f'{name}: weights'.lstrip(': '), **style)
            if all(row.signal is not None for row in some):
                style.update(linestyle='--', marker='s', linewidth=1.2)
                axes.plot(places, [row.signal for row in some], label=f'{name}: signal'.lstrip(': '), **style)
    axes.axhline(0.5, color='#b9b9b9', linewidth=0.9, zorder=0)
    step = -(-len(labels) // MOST_LABELS)
    axes.set_xticks(range(0, len(labels), step), labels[::step], fontsize=7, rotation=90 if len(labels) > 9 else 0)
    axes.set(ylim=(0, 1))
    if len(networks) == 1:
        axes.set_title(short(networks[0][0], 60), fontsize=9, loc='left')
    axes.set_xlabel('block', fontsize=9)
    axes.set_ylabel('share of the previous attention', fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(True, axis='y', color='#e6e6e6', linewidth=0.8)
    plain_axes(axes)
    legend_below(figure, 8, 2)
    return figure
