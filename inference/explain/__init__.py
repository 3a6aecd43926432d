"""See what attention does: heat maps, gates, and how much a unit relies on the one before it.

    from inference.explain import explain, picture, png
    figure = picture(net, ['dog.jpg'], preprocessing, class_names)     # matplotlib's Figure; png(figure) is bytes
    for explanation in explain(net, images, preprocessing): ...        # answers and heat maps, as arrays

Networks are only read, and left unchanged (:mod:`inference.explain.hooks`).
"""

from __future__ import annotations

from inference.explain.connection import Reliance, reliance
from inference.explain.deletion import Deletion, deletion
from inference.explain.drawing import draw_explanations, picture, png
from inference.explain.explanation import Explanation, explain, overlay
from inference.explain.gates import Gate, GateReader
from inference.explain.gradcam import GradCAM

__all__ = [
    'Deletion',
    'Explanation',
    'Gate',
    'GateReader',
    'GradCAM',
    'Reliance',
    'deletion',
    'draw_explanations',
    'explain',
    'overlay',
    'picture',
    'png',
    'reliance',
]
