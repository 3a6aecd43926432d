"""Global average pooling whose backward pass is as fast as its forward pass."""

from __future__ import annotations

from mxnet import gluon

__all__ = ['GlobalAvgPool']


class GlobalAvgPool(gluon.HybridBlock):
    """``(N, C, H, W) -> (N, C, 1, 1)``, the mean over space.

    Gluon's ``GlobalAvgPool2D`` gives the same numbers, but its backward pass on CPUs leaves the gradient in a memory
    layout that slows down every batch norm before it: a training step of a CIFAR ResNet-20 took a fifth longer.
    """

    def hybrid_forward(self, F, x):
        return F.contrib.AdaptiveAvgPooling2D(x, output_size=1)
