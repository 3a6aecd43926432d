"""SE, squeeze and excitation."""

from __future__ import annotations

from typing import Any

from model.attention.unit import ChannelUnit
from model.layers.dense import dense, hidden_width

__all__ = ['GATES', 'SE']

GATES = ('sigmoid', 'hard_sigmoid')


class SE(ChannelUnit):
    """``x * sigmoid(W2 relu(W1 mean(x)))``; input and output are ``(N, C, H, W)``.

    Hu, Shen, Sun, "Squeeze-and-Excitation Networks", arXiv 1709.01507, equations 2 to 4. W1 maps C to ``C //
    reduction`` and W2 maps back, both with biases: ``2 C (C // r)`` multiply-adds per sample. Variants in other
    projects round the hidden width to multiples of ``divisor`` (timm: 8), have no biases (``bias=False``, GluonCV), or
    have the ``gate`` ``'hard_sigmoid'``, ``min(max(x / 6 + 1/2, 0), 1)`` (MobileNetV3).
    """

    def __init__(
        self,
        channels: int,
        reduction: int = 16,
        divisor: int = 1,
        bias: bool = True,
        gate: str = 'sigmoid',
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if gate not in GATES:
            raise ValueError(f'gate is {gate!r}: allowed are {", ".join(map(repr, GATES))}')
        self.channels, self.gate = channels, gate
        width = hidden_width(channels, reduction, divisor)
        self.reduce = dense(channels, width, 'relu', use_bias=bias)
        self.expand = dense(width, channels, use_bias=bias)

    def transform(self, F: Any, mean: Any) -> Any:
        logits = self.expand(self.reduce(mean))
        if self.gate == 'hard_sigmoid':
            return F.clip(logits / 6 + 0.5, 0, 1)
        return F.Activation(logits, act_type='sigmoid')
