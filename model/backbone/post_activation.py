"""Residual blocks whose last ReLU comes after the addition: the common form of ResNet-v1b and the CIFAR ResNets."""

from __future__ import annotations

from typing import Any, Tuple

from model.layers.carry import join, split
from model.layers.drop_path import Residual
from model.layers.factories import add_shortcut

__all__ = ['BasicBranch', 'BottleneckBranch', 'PostActivation']


class PostActivation(Residual):
    """``relu(shortcut(x) + attention(branch(x)))`` from the parts of a block.

    These are ``entry``, ``shortcuts`` (whether there is one), ``downsample``, ``attention``, ``place`` and
    ``relu_out``. This class comes before ``HybridBlock`` among a block's bases.
    """

    def branch(self, F: Any, x: Any, carry: Tuple[Any, ...]) -> Tuple[Any, Tuple[Any, ...]]:
        """Return the branch's output for the block's input, and the carry."""
        raise TypeError(f'{type(self).__name__} has no branch')

    def hybrid_forward(self, F: Any, x: Any, *carry: Any) -> Any:
        x = x if self.entry is None else self.entry(x)
        out, carry = self.branch(F, x, carry)
        shortcut = None
        if self.shortcuts:
            shortcut = x if self.downsample is None else self.downsample(x)
        out, carry = add_shortcut(F, self, out, shortcut, carry)
        return join(self.relu_out(out), carry)


class BasicBranch(PostActivation):
    """Two convolutions, either of which may be replaced by ``select``, an attention unit."""

    def branch(self, F: Any, x: Any, carry: Tuple[Any, ...]) -> Tuple[Any, Tuple[Any, ...]]:
        if self.place == 'convolution':
            out, carry = split(self.select(x, *carry))
        else:
            out = self.relu1(self.bn1(self.conv1(x)))
        if self.place == 'inside':
            return split(self.select(out, *carry))
        return self.bn2(self.conv2(out)), carry


class BottleneckBranch(PostActivation):
    """Three convolutions, the middle one of which may be replaced by ``select``, an attention unit."""

    def branch(self, F: Any, x: Any, carry: Tuple[Any, ...]) -> Tuple[Any, Tuple[Any, ...]]:
        out = self.relu1(self.bn1(self.conv1(x)))
        if self.select is not None:
            out, carry = split(self.select(out, *carry))
        else:
            out = self.relu2(self.bn2(self.conv2(out)))
        return self.bn3(self.conv3(out)), carry
