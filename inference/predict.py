"""From image files to class probabilities."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Iterable, Iterator, List, Optional, Sequence, Tuple, Union

import mxnet as mx
import numpy as np

from data.images import ImageError
from environment import UserError
from inference.network import LoadedNetwork

__all__ = ['Prediction', 'best', 'predict', 'softmax']


@dataclass(frozen=True)
class Prediction:
    """What the network says about one image.

    Attributes:
        image: the path as it was given.
        classes: (class name, probability), the most probable first; empty if the image could not be read.
        error: why it could not be read.
    """

    image: str
    classes: Tuple[Tuple[str, float], ...] = ()
    error: Optional[str] = None


def softmax(logits: np.ndarray) -> np.ndarray:
    """(N, K) logits to (N, K) probabilities in float64; `UserError` where a logit is no finite number."""
    if not np.isfinite(logits).all():
        raise UserError(
            'the network answers with NaN or infinity, as damaged parameters do; fetch or export them again'
        )
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def predict(
    network: LoadedNetwork,
    images: Iterable[Union[str, os.PathLike]],
    top: int = 5,
    batch_size: int = 32,
    ctx: Any = None,
) -> Iterator[Prediction]:
    """Yield one `Prediction` for each of the image files, in their order; unreadable ones carry an `error`."""
    if top < 1 or batch_size < 1:
        raise ValueError(f'top and batch_size must be 1 or more, not {top} and {batch_size}')
    waiting: List[Tuple[str, Union[np.ndarray, str]]] = []

    def finish() -> Iterator[Prediction]:
        pixels = [content for _, content in waiting if isinstance(content, np.ndarray)]
        answers: Iterator[Sequence[float]] = iter(())
        if pixels:
            data = mx.nd.array(network.preprocessing.batch(np.stack(pixels)), ctx=ctx)
            logits = network.net(data).astype('float32').asnumpy()
            names = network.class_names
            if names is not None and len(names) != logits.shape[1]:
                raise UserError(
                    f'{network.name} has {logits.shape[1]} outputs and {len(names)} class names, as files that do not '
                    'belong together have; fetch or export them again'
                )
            answers = iter(softmax(logits))
        for name, content in waiting:
            if isinstance(content, str):
                yield Prediction(name, error=content)
            else:
                yield Prediction(name, best(next(answers), network.class_names, top))
        waiting.clear()

    for image in images:
        name = os.fspath(image)
        try:
            waiting.append((name, network.preprocessing.fit(name)))
        except ImageError as error:
            waiting.append((name, str(error)))
        if len(waiting) == batch_size:
            yield from finish()
    yield from finish()


def best(
    probabilities: Sequence[float], class_names: Optional[Sequence[str]], top: int
) -> Tuple[Tuple[str, float], ...]:
    """The ``top`` most probable classes: (name, or number where there are no names, probability)."""
    order = np.argsort(-np.asarray(probabilities), kind='stable')[:top]
    return tuple((class_names[i] if class_names else str(i), float(probabilities[i])) for i in order)
