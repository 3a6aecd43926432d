"""Global average pooling whose backward pass is as fast as its forward pass."""

from __future__ import annotations

from mxnet import gluon

__all__ = ['GlobalAvgPool']


class GlobalAvgPool(gluon.HybridBlock):
    """``(N, C, H, W) -> (N, C, 1, 1)``, the mean over space.

    Gluon's ``GlobalAvgPool2D`` gives the same numbers, but its backward pass costs too much on CPUs. Behind a network
    it leaves the gradient in a memory layout that slows down every batch norm before it: a training step of the CIFAR
    ResNet-20 took a quarter longer. And its time per pixel grows with the number of pixels: 55 ms for a map of 128 x 16
    x 32 x 32 in place of 1.
    """

    def hybrid_forward(self, F, x):
        return F.contrib.AdaptiveAvgPooling2D(x, output_size=1)
