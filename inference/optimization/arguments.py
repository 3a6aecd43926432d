"""Check the arguments of `optimize` before any work is done."""

from __future__ import annotations

from typing import Any, Optional, Sequence

import mxnet as mx
import numpy as np
from mxnet import gluon

from environment import UserError
from environment.cpu import lacks
from inference.choices import ENGINES, PRECISIONS
from inference.optimization.onednn import has_onednn

__all__ = ['calibration_images', 'check_engine', 'check_network']


def check_network(net: Any, input_shape: Sequence[int], precision: str, calibration: Any, ctx: mx.Context) -> None:
    """Raise `ValueError` for a wrong argument, `UserError` for a precision that this machine does not have."""
    if precision not in PRECISIONS:
        raise ValueError(f'precision is {precision!r}; allowed: {", ".join(PRECISIONS)}')
    if not isinstance(net, gluon.HybridBlock):
        raise ValueError(f'{type(net).__name__} cannot be optimized; give a network that can be hybridized')
    whole = all(isinstance(side, (int, np.integer)) and side > 0 for side in input_shape)
    if len(input_shape) != 4 or not whole:
        raise ValueError(f'input_shape is {tuple(input_shape)}; it must be four whole numbers above 0: N, 3, H, W')
    _check_machine(precision, ctx.device_type == 'gpu')
    if (precision == 'int8') != (calibration is not None):
        raise ValueError(
            'int8 needs calibration: a few hundred real images, preprocessed for the network, as an array (N, 3, H, W)'
            if precision == 'int8'
            else f'calibration is for int8, not for {precision}'
        )


def _check_machine(precision: str, on_gpu: bool) -> None:
    if precision == 'float16' and not on_gpu:
        raise UserError('the precision float16 needs a GPU, and the network is on the CPU; choose float32 or bfloat16')
    if precision in ('bfloat16', 'int8'):
        if on_gpu:
            raise UserError(f'the precision {precision} is for CPUs, and the network is on a GPU; choose float16')
        if not has_onednn():
            raise UserError(
                f'the precision {precision} needs an MXNet with oneDNN, which this one lacks; choose float32'
            )
        missing = lacks(precision)
        if missing:
            raise UserError(
                f'the precision {precision} needs a processor with {" or ".join(missing)}, which this one lacks; '
                'choose float32'
            )


def check_engine(engine: str, piece: Optional[int], batch_size: int) -> None:
    """Raise `ValueError` for an unknown engine, or for a `piece` that is out of range or of no use to it."""
    if piece is not None and not 1 <= piece <= batch_size:
        raise ValueError(f'piece is {piece}; allowed are 1 to {batch_size}, the batch of input_shape')
    if engine not in ENGINES:
        raise ValueError(f'engine is {engine!r}; allowed: {", ".join(ENGINES)}')
    if engine not in ('auto', 'mxnet') and piece is not None:
        raise ValueError(f'piece is {piece}, which the engine {engine!r} does not have; leave it out')


def calibration_images(calibration: Any, input_shape: Sequence[int]) -> np.ndarray:
    """Return an array, or an iterable of batches, as one float32 array (N, 3, H, W)."""

    def plain(batch: Any) -> np.ndarray:
        batch = batch[0] if isinstance(batch, (list, tuple)) else batch
        return batch.asnumpy() if isinstance(batch, mx.nd.NDArray) else np.asarray(batch)

    if isinstance(calibration, (np.ndarray, mx.nd.NDArray)):
        images = plain(calibration)
    else:
        batches = [plain(batch) for batch in calibration]
        if not batches:
            raise ValueError('calibration holds no images')
        images = np.concatenate(batches)
    if images.ndim != 4 or images.shape[1:] != tuple(input_shape[1:]) or not len(images):
        raise ValueError(
            f'calibration has the shape {images.shape}; it must be (N, {", ".join(map(str, input_shape[1:]))})'
        )
    return images.astype(np.float32)
