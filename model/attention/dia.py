"""DIA: one recurrent attention unit shared by all blocks of a stage.

Huang, Liang, Liang, Yang, "DIANet: Dense-and-Implicit Attention Network", arXiv 1905.10671; details as in the
repository gbup-group/DIANet.
"""

from __future__ import annotations

from typing import Any, Tuple

from mxnet import gluon
from mxnet.gluon import nn

from model.layers.broadcast import scale_channels
from model.layers.dense import dense, hidden_width
from model.layers.pool import GlobalAvgPool
from model.layers.pooled import with_mean

__all__ = ['DIA', 'OUTPUTS', 'LightLSTM']

OUTPUTS = ('sigmoid', 'tanh')


class LightLSTM(gluon.HybridBlock):
    """The DIA-LSTM: ``(y, h, c) -> (h, c)``, all (N, C).

    With several ``layers`` ``(y, h1, c1, h2, c2, ...)`` and so on.

    Gates ``i, f, g, o = P(y) + Q(h)`` (N, 4C), where P and Q are dense C -> ``C // reduction``, ReLU, dense -> 4C, with
    biases. ``c' = sigmoid(f) c + sigmoid(i) tanh(g)`` and ``h' = sigmoid(o) sigmoid(c')``. Unlike in the standard LSTM,
    the linear maps have a bottleneck, and the output has a sigmoid instead of tanh, because ``h'`` is a gate. ``2 (5 C
    (C // r) + C // r + 4 C)`` parameters.

    As in the original, the cell may have more layers (``nlayers``), each of which takes the output of the one below it,
    with dropout of the rate ``dropout`` in training. Their maps are dense C -> 4C, ``8 C (C + 1)`` parameters per
    layer. ``bottleneck=False`` gives the first layer such maps too, and ``output='tanh'`` gives all layers the standard
    output; both together are the standard LSTM, whose gate lies in (-1, 1).

    ``zero_bias`` starts all biases at zero, as in DIANet's WRN and ResNeXt.
    """

    def __init__(
        self,
        channels: int,
        reduction: int = 4,
        zero_bias: bool = False,
        layers: int = 1,
        dropout: float = 0.1,
        output: str = 'sigmoid',
        bottleneck: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if output not in OUTPUTS:
            raise ValueError(f'cell_output is {output!r}: allowed are {", ".join(map(repr, OUTPUTS))}')
        self.layers, self.output, self.bottleneck = layers, output, bottleneck
        if bottleneck:
            width = hidden_width(channels, reduction)
            self.input_reduce = dense(channels, width, 'relu', zero_bias=zero_bias)
            self.input_expand = dense(width, 4 * channels, zero_bias=zero_bias)
            self.state_reduce = dense(channels, width, 'relu', zero_bias=zero_bias)
            self.state_expand = dense(width, 4 * channels, zero_bias=zero_bias)
        if layers > bottleneck:
            # A pair of maps for each layer without a bottleneck: for its input and for its state.
            self.inputs, self.states = nn.HybridSequential(), nn.HybridSequential()
            for maps in (self.inputs, self.states):
                maps.add(*(dense(channels, 4 * channels, zero_bias=zero_bias) for _ in range(layers - bottleneck)))
        self.drop = nn.Dropout(dropout) if dropout and layers > 1 else None

    def _gates(self, F: Any, layer: int, y: Any, h: Any) -> Any:
        if self.bottleneck and layer == 0:
            return F.elemwise_add(self.input_expand(self.input_reduce(y)), self.state_expand(self.state_reduce(h)))
        place = layer - self.bottleneck
        return F.elemwise_add(self.inputs[place](y), self.states[place](h))

    def hybrid_forward(self, F: Any, y: Any, *states: Any) -> Tuple[Any, ...]:
        new = []
        for layer in range(self.layers):
            h, c = states[2 * layer : 2 * layer + 2]
            if layer > 0 and self.drop is not None:
                y = self.drop(y)
            i, f, g, o = F.split(self._gates(F, layer, y, h), num_outputs=4, axis=1)
            kept = F.elemwise_mul(F.Activation(f, act_type='sigmoid'), c)
            added = F.elemwise_mul(F.Activation(i, act_type='sigmoid'), F.Activation(g, act_type='tanh'))
            c = F.elemwise_add(kept, added)
            y = F.elemwise_mul(F.Activation(o, act_type='sigmoid'), F.Activation(c, act_type=self.output))
            new += [y, c]
        return tuple(new)


class DIA(gluon.HybridBlock):
    """``x * h`` with ``h, c = cell(mean(x), h, c)``: ``(x, *carry) -> (x, h, c)``, x (N, C, H, W), h and c (N, C).

    ``cell`` is one block for all units of a stage. The ``first`` unit starts from zeros, whatever the carry is; the
    cell's maps of the state are evaluated there too, because of their biases. With several layers, the carry contains h
    and c of each, and the last layer's h is the gate.
    """

    def __init__(self, cell: LightLSTM, first: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.first = first
        self.pool = GlobalAvgPool()
        self.cell = cell

    def hybrid_forward(self, F: Any, x: Any, *carry: Any) -> Tuple[Any, ...]:
        x, y = with_mean(F, x, self.pool)
        states = (F.zeros_like(y),) * (2 * self.cell.layers) if self.first else carry
        states = self.cell(y, *states)
        return (scale_channels(F, x, states[-2]), *states)
