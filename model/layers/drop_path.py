"""Stochastic depth: residual blocks whose branch is left out at random while a network trains.

Huang et al., "Deep Networks with Stochastic Depth", arXiv 1603.09382, sample by sample as in timm: with probability p a
sample's branch counts nothing, else 1 / (1 - p) times, so that its mean stays. Outside of training nothing changes.

What a branch adds is dropped, never what it passes on: a block with DCA or DIA computes its attention, and the next one
is connected to it, for every sample. Where a unit fuses branch and shortcut in place of a sum (AFF), its difference
from the shortcut is what the branch adds. Units in front of a block, and masks of attention modules, stay.
"""

from __future__ import annotations

from typing import Any, Iterator, Optional

from mxnet import gluon
from mxnet.gluon import nn

__all__ = ['Residual', 'set_drop_path']


class Residual:
    """A block that adds a branch to a shortcut. It stands before ``HybridBlock`` among a block's bases."""

    #: ``(N, C, H, W) -> (N, C, H, W)``, which drops samples; None if all are kept.
    drop_path: Optional[gluon.HybridBlock] = None

    def summed(self, F: Any, branch: Any, shortcut: Any) -> Any:
        """Return the sum, without what is dropped."""
        return F.elemwise_add(branch if self.drop_path is None else self.drop_path(branch), shortcut)

    def fused(self, F: Any, fusion: Any, shortcut: Any) -> Any:
        """Return what a unit makes of both, without what is dropped."""
        if self.drop_path is None:
            return fusion
        return F.elemwise_add(self.drop_path(F.elemwise_sub(fusion, shortcut)), shortcut)


def _blocks(block: gluon.Block) -> Iterator[Residual]:
    """Yield the residual blocks on the path through ``block``, in their order; those of masks are on none."""
    if isinstance(block, Residual):
        yield block
        return
    for name, child in block._children.items():
        if name != 'mask':
            yield from _blocks(child)


def set_drop_path(net: gluon.HybridBlock, rate: float) -> None:
    """Let the residual blocks of a backbone's stages drop samples: none in the first, then more, ``rate`` in the last.

    Of n blocks, block i from 0 has ``rate * i / (n - 1)``. Parameters stay what they are. Raises ``ValueError`` for a
    network without residual blocks.
    """
    blocks = [block for stage in net.stages for block in _blocks(stage)]
    if not blocks:
        raise ValueError(f'drop_path is {rate}: {type(net).__name__} has no residual blocks; leave it out')
    for place, block in enumerate(blocks):
        if rate and place:
            block.drop_path = nn.Dropout(rate * place / (len(blocks) - 1), axes=(1, 2, 3))
