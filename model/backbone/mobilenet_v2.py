"""MobileNetV2.

Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", arXiv 1801.04381, table 2; details as in
13952522076/DCANet, which has them from torchvision.
"""

from __future__ import annotations

from typing import Any, Optional

import mxnet as mx

from model.backbone.inverted_residual import InvertedResidualNetwork, Row, conv_norm
from model.layers.factories import ActivationFactory, AttentionFactory, NormFactory, batch_norm
from model.layers.widths import divisible

__all__ = ['MobileNetV2']

STEM = 32
LAST = 1280
ROWS = (
    Row(1, 16, 1, 1),
    Row(6, 24, 2, 2),
    Row(6, 32, 3, 2),
    Row(6, 64, 4, 2),
    Row(6, 96, 3, 1),
    Row(6, 160, 3, 2),
    Row(6, 320, 1, 1),
)


class MobileNetV2(InvertedResidualNetwork):
    """``(N, 3, H, W) -> (N, classes)``; a 3x3 stem with stride 2 and seven stages of inverted residual blocks.

    ``default_activation`` is a ReLU6 in the paper. The classifier starts at N(0, 0.01). The stages' widths are
    ``width`` times those of table 2, rounded to multiples of ``width_divisor`` (torchvision's and timm's: 8; GluonCV
    and pytorchcv cut off the fraction: 1); the last convolution is widened and not narrowed. The other arguments are
    those of :class:`model.backbone.inverted_residual.InvertedResidualNetwork`.
    """

    def __init__(
        self,
        activation: ActivationFactory,
        default_activation: ActivationFactory,
        attention: Optional[AttentionFactory] = None,
        norm: NormFactory = batch_norm,
        classes: int = 1000,
        act_layers: int = len(ROWS),
        act_order: str = 'bac',
        final_drop: float = 0.2,
        width: float = 1.0,
        width_divisor: int = 8,
        **kwargs: Any,
    ) -> None:
        def scaled(channels: int) -> int:
            exact = width * channels
            return divisible(exact, width_divisor) if width_divisor > 1 else max(1, int(exact))

        super().__init__(
            stem=conv_norm(scaled(STEM), 3, norm, 3, 2, activation=default_activation),
            width=scaled(STEM),
            rows=[row._replace(channels=scaled(row.channels)) for row in ROWS],
            last=max(LAST, scaled(LAST)),
            activation=activation,
            default_activation=default_activation,
            attention=attention,
            norm=norm,
            classes=classes,
            act_layers=act_layers,
            act_order=act_order,
            final_drop=final_drop,
            dense_initializer=mx.init.Normal(0.01),
            **kwargs,
        )
