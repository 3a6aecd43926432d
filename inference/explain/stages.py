"""Choose the maps for which heat maps are drawn: the end of each stage, or any block by its path."""

from __future__ import annotations

import difflib
from contextlib import ExitStack
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import mxnet as mx
from mxnet import gluon
from mxnet.gluon import nn

from inference.explain.hooks import Taps, blocks_of, hooked
from model.layers.carry import split
from model.layers.pool import GlobalAvgPool

__all__ = ['attach_stages', 'places_in', 'stage_blocks']

_POOLS = (GlobalAvgPool, nn.GlobalAvgPool2D, nn.GlobalMaxPool2D)


def stage_blocks(net: gluon.Block) -> List[Tuple[str, gluon.Block]]:
    """Return the stages of a network in order, with their paths; none if they cannot be determined.

    Our networks define them (:class:`model.backbone.classifier.Classifier`). In other networks, such as GluonCV's, they
    are the sequences of blocks directly in the network, or in its ``features``.
    """
    if hasattr(net, 'feature_info'):
        return [(info.name, stage) for info, stage in zip(net.feature_info, net.stages)]
    for name in ('features', ''):
        container, prefix = (getattr(net, name, None), f'{name}.') if name else (net, '')
        if isinstance(container, gluon.Block):
            inside = [(prefix + path, block) for path, block in container._children.items()]
            found = [(path, block) for path, block in inside if isinstance(block, nn.HybridSequential)]
            if found:
                return found
    return []


def places_in(net: gluon.Block) -> Callable[[str], str]:
    """Return a function from the path of a unit to its place, stage and block: ``'layer2.0.attention'`` to ``'2.0'``.

    Anything else in a block keeps its name: ``'2.0.relu1'``.
    """
    numbers = {path: number for number, (path, _) in enumerate(stage_blocks(net), 1)}

    def place(path: str) -> str:
        for stage, number in numbers.items():
            if path.startswith(f'{stage}.'):
                path = f'{number}{path[len(stage) :]}'
                break
        for own in ('.attention', '.select', '.entry'):
            path = path.replace(own, '')
        return path

    return place


def _chosen(net: gluon.Block, wanted: Sequence[str]) -> Dict[str, gluon.Block]:
    """Return the blocks that ``wanted`` names: numbers of stages, from 1, or paths.

    Raises ``ValueError`` for others.
    """
    blocks, stages = dict(blocks_of(net)), stage_blocks(net)
    found = {}
    for name in wanted:
        if name.isdigit() and 1 <= int(name) <= len(stages):
            found[f'stage {int(name)}'] = stages[int(name) - 1][1]
        elif name in blocks:
            found[name] = blocks[name]
        else:
            near = difflib.get_close_matches(name, blocks, 3, 0.4) or [path for path, _ in stages]
            numbers = f'the stages 1 to {len(stages)} or ' if stages else ''
            raise ValueError(
                f'there is no stage or block {name!r}; allowed are {numbers}paths such as {", ".join(near)}'
            )
    return found


def attach_stages(net: gluon.Block, wanted: Optional[Sequence[str]] = None) -> Callable[[ExitStack, Taps], None]:
    """Attach taps to the outputs of ``wanted`` stages or blocks, for :class:`inference.explain.hooks.ActivationHooks`.

    None: every stage, called ``'stage 1'`` and so on. Of the last one, the map is then the one that the network pools
    for its classifier: pre-activation networks have a norm and an activation before that, mobile ones a convolution.
    """
    chosen = _chosen(net, wanted) if wanted else {f'stage {i}': b for i, (_, b) in enumerate(stage_blocks(net), 1)}
    pools = [] if wanted else [block for _, block in blocks_of(net) if isinstance(block, _POOLS)]
    if not chosen and not pools:
        raise ValueError(
            f'{type(net).__name__} has neither recognisable stages nor a global pool; name blocks by their paths'
        )

    def attach(stack: ExitStack, taps: Taps) -> None:
        def listen(name: str) -> Callable[[Tuple[Any, ...], Any], None]:
            return lambda _, outputs: taps.append((name, split(outputs)[0]))

        pooled: List[mx.sym.Symbol] = []
        for name, block in chosen.items():
            stack.enter_context(hooked(block, listen(name)))
        for pool in pools:
            stack.enter_context(hooked(pool, lambda inputs, _: pooled.append(inputs[0])))

        def finish() -> None:
            if pooled:  # the units' pools have run before the classifier's
                last = taps.pop()[0] if taps else 'last map'
                taps.append((last, pooled[-1]))

        stack.callback(finish)

    return attach
