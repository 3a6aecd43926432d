"""Figures of explanations, by Matplotlib."""

from __future__ import annotations

import io
from typing import Any, List, Optional, Sequence, Tuple

from mxnet import gluon

from common.text import printable
from data.preprocessing import Preprocessing
from inference.explain.explanation import Explanation, Source, explain, overlay

__all__ = ['draw_explanations', 'legend_below', 'new_figure', 'picture', 'plain_axes', 'png', 'short']

BAR, FAINT = '#8db4e2', '#d3dbe4'


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> Tuple[Any, Any]:
    """Return a figure of ``width`` x ``height`` inches and its axes (rows, columns)."""
    # Not pyplot: that keeps figures alive and may want a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=144, layout='constrained')
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def plain_axes(axes: Any, *sides: str) -> None:
    """Hide the lines at these sides; by default at the top and the right."""
    for side in sides or ('top', 'right'):
        axes.spines[side].set_visible(False)


def legend_below(figure: Any, fontsize: float, columns: int) -> None:
    """Add a legend for the lines of all axes below them, in the given number of columns, or as many as fit."""
    for count in range(columns, 0, -1):
        legend = figure.legend(loc='outside lower center', frameon=False, fontsize=fontsize, ncols=count)
        figure.draw_without_rendering()
        if count == 1 or legend.get_window_extent().width < figure.bbox.width:
            return
        legend.remove()


def png(figure: Any) -> bytes:
    """Return the figure as the bytes of a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format='png')
    return file.getvalue()


def short(text: str, length: int = 26) -> str:
    """Return the text, or its beginning and an ellipsis, escaped so that Matplotlib finds no formula in it."""
    text = printable(text)
    return (text if len(text) <= length else text[: length - 1] + '…').replace('$', r'\$')


def _bars(axes: Any, answers: Sequence[Tuple[str, float]], explained: str) -> None:
    places = range(len(answers))
    axes.barh(
        places,
        [probability for _, probability in answers],
        color=[BAR if name == explained else FAINT for name, _ in answers],
        height=0.72,
    )
    for place, (name, probability) in enumerate(answers):
        axes.text(0.02, place, f'{short(name)}  {100 * probability:.1f} %', va='center', fontsize=8)
    axes.set(xlim=(0, 1), ylim=(len(answers) - 0.4, -0.6), xticks=[], yticks=[])
    plain_axes(axes, 'top', 'right', 'bottom')


def draw_explanations(rows: Sequence[Explanation], titles: Optional[Sequence[str]] = None) -> Any:
    """Return a figure with one row per explanation: the image, its heat maps by stage, and the top classes.

    ``titles`` are written to the left of the rows; None: the images' names.
    """
    names: List[str] = []
    for row in rows:
        names.extend(name for name in row.maps if name not in names)
    columns = len(names) + 2
    size = (1.75 * (columns - 1) + 2.6, 1.85 * len(rows) + 0.25)
    figure, table = new_figure(*size, len(rows), columns, width_ratios=[1] * (columns - 1) + [1.4])
    for number, (row, axes) in enumerate(zip(rows, table)):
        axes[0].imshow(row.pixels, interpolation='bicubic')
        axes[0].set_ylabel(short(titles[number] if titles else row.image), fontsize=8)
        axes[0].set_title('input' if number == 0 else '', fontsize=9)
        for column, name in enumerate(names, 1):
            if name in row.maps:
                axes[column].imshow(overlay(row.pixels, row.maps[name]))
            axes[column].set_title(name if number == 0 else '', fontsize=9)
        for each in axes[:-1]:
            each.set(xticks=[], yticks=[])
            plain_axes(each, 'top', 'right', 'bottom', 'left')
        _bars(axes[-1], row.answers, row.explained[0])
        axes[-1].set_title(f'heat for {short(row.explained[0])}', fontsize=9)
    return figure


def picture(
    net: gluon.HybridBlock,
    images: Sequence[Source],
    preprocessing: Preprocessing,
    class_names: Optional[Sequence[str]] = None,
    **options: Any,
) -> Any:
    """Return the figure of :func:`inference.explain.explanation.explain`, to which ``options`` are passed."""
    return draw_explanations(explain(net, images, preprocessing, class_names, **options))
