"""DIA: one recurrent attention unit shared by all blocks of a stage.

Huang, Liang, Liang, Yang, "DIANet: Dense-and-Implicit Attention Network", arXiv 1905.10671; details as in the
repository gbup-group/DIANet.
"""

from __future__ import annotations

from typing import Any, Tuple

from mxnet import gluon

from model.layers.broadcast import scale_channels
from model.layers.dense import dense, hidden_width
from model.layers.pool import GlobalAvgPool

__all__ = ['DIA', 'LightLSTM']


class LightLSTM(gluon.HybridBlock):
    """The DIA-LSTM cell: ``(y, h, c) -> (h, c)``, all (N, C).

    Gates ``i, f, g, o = P(y) + Q(h)`` (N, 4C), where P and Q are dense C -> ``C // reduction``, ReLU, dense -> 4C, with
    biases. ``c' = sigmoid(f) c + sigmoid(i) tanh(g)`` and ``h' = sigmoid(o) sigmoid(c')``: against the standard LSTM
    the linear maps have a bottleneck, and the output a sigmoid in place of tanh, since ``h'`` is a gate. ``2 (5 C (C //
    r) + C // r + 4 C)`` parameters.

    ``zero_bias`` starts all biases at zero, as DIANet's WRN and ResNeXt do.
    """

    def __init__(self, channels: int, reduction: int = 4, zero_bias: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        width = hidden_width(channels, reduction)
        self.input_reduce = dense(channels, width, 'relu', zero_bias=zero_bias)
        self.input_expand = dense(width, 4 * channels, zero_bias=zero_bias)
        self.state_reduce = dense(channels, width, 'relu', zero_bias=zero_bias)
        self.state_expand = dense(width, 4 * channels, zero_bias=zero_bias)

    def hybrid_forward(self, F: Any, y: Any, h: Any, c: Any) -> Tuple[Any, Any]:
        gates = F.elemwise_add(self.input_expand(self.input_reduce(y)), self.state_expand(self.state_reduce(h)))
        i, f, g, o = F.split(gates, num_outputs=4, axis=1)
        kept = F.elemwise_mul(F.Activation(f, act_type='sigmoid'), c)
        added = F.elemwise_mul(F.Activation(i, act_type='sigmoid'), F.Activation(g, act_type='tanh'))
        c = F.elemwise_add(kept, added)
        h = F.elemwise_mul(F.Activation(o, act_type='sigmoid'), F.Activation(c, act_type='sigmoid'))
        return h, c


class DIA(gluon.HybridBlock):
    """``x * h`` with ``h, c = cell(mean(x), h, c)``: ``(x, *carry) -> (x, h, c)``, x (N, C, H, W), h and c (N, C).

    ``cell`` is one block for all units of a stage. The ``first`` of them starts from zeros, whatever arrives; the
    cell's maps of the state run there too, since their biases count.
    """

    def __init__(self, cell: LightLSTM, first: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.first = first
        self.pool = GlobalAvgPool()
        self.cell = cell

    def hybrid_forward(self, F: Any, x: Any, *carry: Any) -> Tuple[Any, Any, Any]:
        y = F.Flatten(self.pool(x))
        zeros = F.zeros_like(y)
        h, c = self.cell(y, *((zeros, zeros) if self.first else carry))
        return scale_channels(F, x, h), h, c
