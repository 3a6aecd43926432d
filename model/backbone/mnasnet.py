"""MnasNet-B1, which has no attention units of its own, and MnasNet-A1, which has squeeze and excitation.

Tan et al., "MnasNet: Platform-Aware Neural Architecture Search for Mobile", arXiv 1807.11626, figure 7; widths,
momentum and initial values as in 13952522076/DCANet, which took them from torchvision.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Optional

import mxnet as mx
from mxnet.gluon import nn

from model.backbone.inverted_residual import InvertedResidualNetwork, Row, conv_norm
from model.layers.factories import ActivationFactory, AttentionFactory, NormFactory, batch_norm
from model.layers.initialization import ShiftedNormal
from model.layers.widths import divisible

__all__ = ['ALPHAS', 'MnasNet']

#: Multiples of the stages' widths that were published.
ALPHAS = (0.5, 0.75, 1.0, 1.3, 1.4)
STEM = 32
WIDTH = 16  # of the stem's last convolution
LAST = 1280
ROWS = (
    Row(3, 24, 3, 2, 3),
    Row(3, 40, 3, 2, 5),
    Row(6, 80, 3, 2, 5),
    Row(6, 96, 2, 1, 3),
    Row(6, 192, 4, 2, 5),
    Row(6, 320, 1, 1, 3),
)
#: MnasNet-A1 (figure 7a); the last number is how much narrower than the block's input the excitation is.
ROWS_A1 = (
    Row(6, 24, 2, 2, 3),
    Row(3, 40, 3, 2, 5, 4),
    Row(6, 80, 4, 2, 3),
    Row(6, 112, 2, 1, 3, 4),
    Row(6, 160, 3, 2, 5, 4),
    Row(6, 320, 1, 1, 3),
)
MOMENTUM = 0.9997  # of the batch norms: running statistics move by 0.0003 a step, which PyTorch calls the momentum


def _stem(stem: int, width: int, norm: NormFactory, activation: ActivationFactory) -> nn.HybridSequential:
    """3x3 to ``stem`` with stride 2, depth-wise 3x3, 1x1 to ``width`` without activation."""
    layers = nn.HybridSequential()
    layers.add(
        conv_norm(stem, 3, norm, 3, 2, activation=activation),
        conv_norm(stem, stem, norm, 3, groups=stem, activation=activation),
        conv_norm(width, stem, norm),
    )
    return layers


class MnasNet(InvertedResidualNetwork):
    """``(N, 3, H, W) -> (N, classes)``; six stages whose widths are ``alpha`` times those of MnasNet-B1.

    Batch norms have the momentum 0.9997 (0.0003 in PyTorch's sense).

    Args:
        alpha: factor of the widths.
        activation, default_activation, attention, classes, act_layers, act_order, final_drop: see
            :class:`model.backbone.inverted_residual.InvertedResidualNetwork`.
        norm: factory of the norms, which has to accept an argument ``momentum``.
        original_init: fully connected layers start at N(0.01, 1) as in the original, where the standard deviation was
            passed as the mean; otherwise at N(0, 0.01), which was meant.
        scaled_stem: the stem's widths, too, are ``alpha`` times those of MnasNet-B1, as in torchvision's networks from
            version 0.5 on and in timm's; otherwise they are the same for every ``alpha``, as when DCANet was trained.
        mixed: whether the rows are those of MnasNet-A1 instead of B1, with squeeze-and-excitation in three of the
            stages.
    """

    def __init__(
        self,
        alpha: float,
        activation: ActivationFactory,
        default_activation: ActivationFactory,
        attention: Optional[AttentionFactory] = None,
        norm: NormFactory = batch_norm,
        classes: int = 1000,
        act_layers: int = len(ROWS),
        act_order: str = 'bac',
        final_drop: float = 0.2,
        original_init: bool = False,
        scaled_stem: bool = False,
        mixed: bool = False,
        **kwargs: Any,
    ) -> None:
        norm = partial(norm, momentum=MOMENTUM)
        stem, width = (divisible(alpha * channels) if scaled_stem else channels for channels in (STEM, WIDTH))
        super().__init__(
            stem=_stem(stem, width, norm, default_activation),
            width=width,
            rows=[row._replace(channels=divisible(alpha * row.channels)) for row in (ROWS_A1 if mixed else ROWS)],
            last=LAST,
            activation=activation,
            default_activation=default_activation,
            attention=attention,
            norm=norm,
            classes=classes,
            act_layers=act_layers,
            act_order=act_order,
            final_drop=final_drop,
            dense_initializer=ShiftedNormal(0.01, 1) if original_init else mx.init.Normal(0.01),
            **kwargs,
        )
