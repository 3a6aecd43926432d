"""The operators of a plan as Python objects: what they read and write, and their numbers in the table.

`kernels/engine` describes what each does; the order of `KINDS` is that of its table of makers, followed by 'together'.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any, Callable, Iterator, List, Optional, Sequence, Tuple

import numpy as np

__all__ = [
    'KINDS',
    'STEPS',
    'Folded',
    'Map',
    'Narrow',
    'Operator',
    'Producer',
    'Step',
    'Tensor',
    'View',
    'bits',
    'winograd_tiles',
]

KINDS = (
    'stem convolution winograd depthwise pool border elementwise join over_channels weighted dense copy plain along '
    'layer_norm products planes resize constant group_dot group_norm narrow_convolution edge image narrow_pool '
    'phases narrow_depthwise narrow_resize together'
).split()
STEPS = (
    'add_map mul_map add_channel mul_channel add_plane mul_plane affine add_number mul_number relu clip sigmoid tanh '
    'leaky elu selu gelu save add_saved mul_saved square store add_stored mul_stored quick_sigmoid'
).split()


def bits(value: float) -> int:
    """Return the bits of a float32 as an integer, as stored in tables."""
    return struct.unpack('<I', struct.pack('<f', value))[0]


class Tensor:
    """Memory of a number of floats for each image."""

    def __init__(self, size: int) -> None:
        self.size = int(size)


@dataclass(frozen=True)
class Map:
    """A feature map (channels, height, width) in blocks of lanes: (C / L, H W, L), zero-padded in the last block."""

    tensor: Tensor
    channels: int
    height: int
    width: int

    @property
    def shape(self) -> Tuple[int, ...]:
        return (1, self.channels, self.height, self.width)

    @property
    def positions(self) -> int:
        return self.height * self.width


def winograd_tiles(map_: Map, m: int, dilation: int) -> int:
    """Return the number of tiles of m by m outputs; with a dilation each phase of the map has its own."""
    rows, columns = (-(-side // (m * dilation)) for side in (map_.height, map_.width))
    return dilation**2 * rows * columns


@dataclass(frozen=True)
class Narrow:
    """A feature map in bfloat16 or bytes, (H + 2 border, W + 2 border, pitch), as in `kernels/engine/narrow.h`.

    A byte q stands for (q - ``zero``) ``scale``.
    """

    tensor: Tensor
    precision: str  # 'bfloat16' or 'int8'
    pitch: int
    height: int
    width: int
    border: int
    scale: float = 1.0
    zero: int = 0


@dataclass(frozen=True)
class View:
    """An array in plain order within a tensor, by offset and strides in floats."""

    tensor: Tensor
    shape: Tuple[int, ...]
    strides: Tuple[int, ...]
    offset: int = 0

    @classmethod
    def whole(cls, tensor: Tensor, shape: Sequence[int]) -> View:
        return cls(tensor, tuple(shape), row_major(shape))

    @property
    def contiguous(self) -> bool:
        expected = row_major(self.shape)
        return all(n == 1 or s == e for n, s, e in zip(self.shape, self.strides, expected))

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    def reshaped(self, shape: Sequence[int]) -> View:
        """Return the view in another shape of the same size; it must be contiguous."""
        return View(self.tensor, tuple(shape), row_major(shape), self.offset)


@dataclass(frozen=True)
class Folded:
    """A feature map in another shape with the numbers in the same order, which is only copied when needed."""

    map: Map
    shape: Tuple[int, ...]


def row_major(shape: Sequence[int]) -> Tuple[int, ...]:
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= int(n)
    return tuple(reversed(strides))


@dataclass
class Step:
    """A step of a chain: ``operand`` is a map or view, an array of weights, or numbers, depending on the kind."""

    kind: str
    operand: Any = None


Numbers = Callable[[Any], List[int]]


@dataclass
class Operator:
    """An operator with its tensors; ``numbers(plan)`` gives its row of the table once these have their places."""

    kind: str
    reads: List[Tensor]
    writes: List[Tensor]
    numbers: Optional[Numbers] = None

    def tensors_read(self) -> Iterator[Tensor]:
        yield from self.reads


@dataclass
class Producer(Operator):
    """An operator that writes a map, or a dense layer's vector, and may do more with what it writes.

    ``out`` is what it writes after all steps of ``chain``. ``sums`` and ``maxima`` are tensors for the sums and maxima
    of its output over space, with a row for each of its ``parts``. ``stores`` is False if the output itself is not
    read.
    """

    out: Any = None
    chain: List[Step] = field(default_factory=list)
    sums: Optional[Tensor] = None
    maxima: Optional[Tensor] = None
    parts: int = 1
    stores: bool = True
    detail: Any = None

    def tensors_read(self) -> Iterator[Tensor]:
        yield from self.reads
        for step in self.chain:
            if isinstance(step.operand, (Map, View)) or step.kind in ('add_stored', 'mul_stored'):
                yield step.operand.tensor
