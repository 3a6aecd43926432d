"""Check that all text in a figure can be read: none is cut off at its edge."""

import contextlib

from matplotlib.figure import Figure
from matplotlib.legend import Legend


def cut_off(figure):
    """Return the texts of legends, titles and axis labels that are not within the figure."""
    figure.canvas.draw()
    texts = [text for legend in figure.findobj(Legend) for text in legend.get_texts()]
    for axes in figure.axes:
        texts += [axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label]
    texts += figure.texts
    seen = [(text, text.get_window_extent()) for text in texts if text.get_text()]
    room = figure.bbox
    return [
        text.get_text()
        for text, box in seen
        if box.x0 < room.x0 or box.y0 < room.y0 or box.x1 > room.x1 or box.y1 > room.y1
    ]


@contextlib.contextmanager
def nothing_cut_off(monkeypatch, count):
    """Expect this many figures to be saved within the block, all of whose text can be read."""
    found = []
    save = Figure.savefig

    def savefig(self, *args, **kwargs):
        save(self, *args, **kwargs)
        found.append(cut_off(self))

    monkeypatch.setattr(Figure, 'savefig', savefig)
    yield
    assert found == [[]] * count
