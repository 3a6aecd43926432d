"""Units placed within a block's branch, at its spatial convolution, as in some papers."""

from __future__ import annotations

from typing import Any, Optional

from mxnet import gluon
from mxnet.gluon import nn

from model.layers.factories import Convolution

__all__ = ['Inside']


class Inside(gluon.HybridBlock):
    """Combines the spatial convolution of a branch, its norm and activation, and a unit on one side of these two.

    ``(N, C_in, H, W) -> (N, C, H / stride, W / stride)``. The unit is placed between the convolution and the norm
    (``before_norm``) or after norm and activation; without a unit it is omitted.
    """

    def __init__(
        self,
        channels: int,
        convolution: Convolution,
        unit: Optional[gluon.HybridBlock],
        before_norm: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        kernel, dilation = convolution.kernel, convolution.dilation
        self.conv = nn.Conv2D(
            channels,
            kernel,
            convolution.stride,
            dilation * (kernel // 2),
            dilation,
            convolution.groups,
            use_bias=False,
            in_channels=convolution.in_channels,
            weight_initializer=convolution.weight_initializer,
        )
        self.norm = convolution.norm(channels)
        self.activation = convolution.activation(channels) if convolution.activation else None
        self.unit, self.before_norm = unit, before_norm

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        x = self.conv(x)
        if self.unit is not None and self.before_norm:
            x = self.unit(x)
        x = self.norm(x)
        if self.activation is not None:
            x = self.activation(x)
        return x if self.unit is None or self.before_norm else self.unit(x)
