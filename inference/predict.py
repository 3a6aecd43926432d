"""The answers of a classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from environment import UserError

__all__ = ['Prediction', 'best', 'sigmoid', 'softmax']


@dataclass(frozen=True, repr=False)
class Prediction:
    """The network's answer for one image.

    Attributes:
        image: the path as it was given, or a description of the image.
        classes: (class name, probability), the most probable first; empty if the image could not be read. Where an
            image may have several labels, each probability stands by itself, and they do not add up to 1.
        error: why it could not be read.
    """

    image: str
    classes: Tuple[Tuple[str, float], ...] = ()
    error: Optional[str] = None

    note = None  # for users, on an image that needs an explanation

    @property
    def label(self) -> str:
        """Return the most probable class."""
        return self.top()[0][0]

    @property
    def probability(self) -> float:
        """Return that of `label`."""
        return self.top()[0][1]

    def top(self, count: int = 1) -> Tuple[Tuple[str, float], ...]:
        """Return the `count` most probable classes, or as many as were requested.

        Raises `UserError` for an unread image.
        """
        if self.error is not None:
            raise UserError(self.error)
        return self.classes[:count]

    def labels(self, above: float = 0.5) -> Tuple[str, ...]:
        """Return the requested classes of a higher probability, of which an image may have several or none."""
        return tuple(name for name, probability in self.top(len(self.classes)) if probability > above)

    def __repr__(self) -> str:
        said = ', '.join(f'{name} {100 * probability:.1f} %' for name, probability in self.classes)
        return f'Prediction({self.image}: {said or self.error})'

    def without_pixels(self) -> Prediction:
        """Return the answer without its pixels, which take much memory."""
        return self

    def lines(self) -> List[str]:
        """Return the lines to print."""
        return [f'  {100 * probability:6.2f} %  {name}' for name, probability in self.classes]

    def to_dict(self) -> Dict[str, Any]:
        """Return the answer for JSON."""
        if self.error is not None:
            return {'image': self.image, 'error': self.error}
        return {'image': self.image, 'classes': [{'class': name, 'probability': p} for name, p in self.classes]}


def check_finite(logits: np.ndarray) -> None:
    """Raise `UserError` if a logit is not finite."""
    if not np.isfinite(logits).all():
        raise UserError(
            'the network answers with NaN or infinity, as it does with damaged parameters; fetch or export them again'
        )


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return the probability of each class by itself, as `softmax` does for one label an image."""
    check_finite(logits)
    return 0.5 * (1 + np.tanh(0.5 * logits.astype(np.float64)))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return (N, K) logits to (N, K) probabilities in float64. Raises `UserError` if a logit is not finite."""
    check_finite(logits)
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def best(
    probabilities: Sequence[float], class_names: Optional[Sequence[str]], top: int
) -> Tuple[Tuple[str, float], ...]:
    """Return the ``top`` most probable classes: (name, or number where there are no names, probability)."""
    order = np.argsort(-np.asarray(probabilities), kind='stable')[:top]
    return tuple((class_names[i] if class_names else str(i), float(probabilities[i])) for i in order)
