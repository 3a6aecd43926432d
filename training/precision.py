"""float32, float16 on GPUs, bfloat16 on CPUs that have it; one code path for all three."""

import os
from typing import Any, List, Optional

from environment import UserError
from environment.cpu import lacks

__all__ = ['DTYPES', 'Precision', 'check']

DTYPES = ('float32', 'float16', 'bfloat16')


def check(dtype: str, on_gpu: bool, cpu_flags: Optional[List[str]] = None) -> None:
    """Raise `UserError` if this machine cannot train in `dtype`. Needs neither MXNet nor the network."""
    if dtype == 'float16' and not on_gpu:
        raise UserError(
            '--dtype is float16, which MXNet trains only on a GPU, and none is in use; '
            'name one with --gpus or --num-gpus, or use --dtype float32 or bfloat16'
        )
    if dtype == 'bfloat16':
        if on_gpu:
            raise UserError(
                '--dtype is bfloat16, which MXNet trains only on CPUs; use --dtype float16 on the GPU, or the CPU'
            )
        lacking = lacks('bfloat16', cpu_flags)
        if lacking:
            raise UserError(
                f'--dtype is bfloat16, and this CPU has none of the instruction sets {", ".join(lacking)}; '
                'use --dtype float32'
            )


class Precision:
    """How a network of float32 parameters computes in `dtype`.

    `Precision(dtype)` comes before the network is built: for bfloat16 it switches on MXNet's automatic
    casts, for the whole process and for good. `prepare(net)` casts the parameters where that is the way
    (float16; batch norms stay float32, the optimizer keeps float32 masters). `program(net)` is the block to
    run: float32 in, float32 out.
    """

    def __init__(self, dtype: str) -> None:
        if dtype not in DTYPES:
            raise ValueError(f'dtype is {dtype!r}; allowed: {", ".join(DTYPES)}')
        self.dtype = dtype
        if dtype == 'float16':
            # Softmax adds up in float32: in float16 8,192 equal shares come out four times too large.
            os.environ.setdefault('MXNET_SAFE_ACCUMULATION', '1')
        if dtype == 'bfloat16':
            _cast_to_bfloat16()

    @property
    def multi_precision(self) -> bool:
        return self.dtype == 'float16'

    @property
    def scaled(self) -> bool:
        """Return whether the loss needs a scale: float16 lacks small numbers, bfloat16 has the range of float32."""
        return self.dtype == 'float16'

    def prepare(self, net: Any) -> None:
        if self.dtype == 'float16':
            net.cast('float16')

    def program(self, net: Any) -> Any:
        return net if self.dtype == 'float32' else _cast_around(net, self.dtype)


# Operators on whole maps that MXNet would compute in float32, and the kernels compute on bfloat16 maps. Between
# convolutions a cast takes as long as they do.
_KEPT_NARROW = ('broadcast_mul', '_contrib_AdaptiveAvgPooling2D')


def _cast_to_bfloat16() -> None:
    """Let MXNet put casts around operators, as its lists say: layers compute in bfloat16, losses in float32."""
    from mxnet.contrib import amp
    from mxnet.contrib.amp.amp import bfloat16

    import kernels

    if not kernels.load():
        amp.init(target_dtype='bfloat16')
        return
    kernels.set_bfloat16()
    widest = amp.list_widest_type_cast(bfloat16)
    if 'broadcast_mul' not in widest:  # of a map and a gate in float32 the product is float32
        widest.append('broadcast_mul')
    # Dense layers, those of gates and the classifier, are so small that casts of their weights would take longer.
    narrow = [name for name in amp.list_lp16_ops(bfloat16) if name != 'FullyConnected']
    wide = [name for name in amp.list_fp32_ops(bfloat16) if name not in _KEPT_NARROW]
    amp.init(target_dtype='bfloat16', target_precision_ops=narrow, fp32_ops=[*wide, 'FullyConnected'])


def _cast_around(net: Any, dtype: str) -> Any:
    """Return a block that casts the images to `dtype` where `net` does not do so itself, and its output to float32."""
    from mxnet import gluon

    class CastAround(gluon.HybridBlock):
        def __init__(self) -> None:
            super().__init__(prefix='')
            self.net = net

        def hybrid_forward(self, F: Any, x: Any) -> Any:
            if dtype == 'float16':
                x = F.cast(x, dtype='float16')
            return F.cast(self.net(x), dtype='float32')

    return CastAround()
