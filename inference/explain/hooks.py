"""Look inside a network: record arrays between layers, without changing the network.

The network is traced once more, into a separate graph with more outputs, on a copy of its parameters. Hooks are only
attached during that trace, so that the network's own graph, answers and speed are unaffected.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon

from environment.native_log import without_lines
from inference.graph import INPUT, Graph, Node, Out, in_float32, parameters_of
from model.layers.carry import split

__all__ = ['ActivationHooks', 'blocks_of', 'hooked', 'replaced']

#: MXNet reports every average pool that it runs in training mode.
_TOLD_OF_EVERY_POOL = 'training with prop_kind is forward_scoring'

#: ``(name, traced value)`` for every tap, in the order of computation.
Taps = List[Tuple[Any, mx.sym.Symbol]]


def blocks_of(net: gluon.Block) -> Iterator[Tuple[str, gluon.Block]]:
    """Return every block below ``net`` with its path, ``'layer2.0.attention'``, as in structured parameter names.

    A block in two places, such as a shared LSTM, appears in both. Raises ``ValueError`` for a network without blocks,
    such as optimized and imported ones.
    """
    if not isinstance(net, gluon.HybridBlock) or not net._children:
        raise ValueError(f'{type(net).__name__} cannot be inspected; give the network that it was made from')

    def below(block: gluon.Block, prefix: str) -> Iterator[Tuple[str, gluon.Block]]:
        for name, child in block._children.items():
            yield prefix + name, child
            yield from below(child, f'{prefix}{name}.')

    return below(net, '')


@contextmanager
def hooked(block: gluon.Block, hear: Callable[[Tuple[Any, ...], Any], None]) -> Iterator[None]:
    """Call ``hear(inputs, outputs)`` whenever ``block`` has run, while the context lasts."""
    handle = block.register_forward_hook(lambda _, inputs, outputs: hear(inputs, outputs))
    try:
        yield
    finally:
        handle.detach()


@contextmanager
def replaced(thing: Any, method: str, by: Callable[..., Any]) -> Iterator[None]:
    """Give one object another ``method`` while the context lasts."""
    own = vars(thing).get(method)  # None: its class has it
    object.__setattr__(thing, method, by)
    try:
        yield
    finally:
        if own is None:
            object.__delattr__(thing, method)
        else:
            object.__setattr__(thing, method, own)


def _as_in_inference(graph: Graph) -> None:
    """Let the graph compute the same in training mode as in inference: norms by their statistics, no dropout.

    Gradients need training mode: outside of it MXNet's max pooling does not record where the maxima were, and its
    gradient goes to the wrong places.
    """
    changes = {}
    for node in graph.nodes():
        if node.op == 'BatchNorm':
            node.attrs['use_global_stats'] = 'True'
        elif node.op == 'Dropout':
            changes[id(node)] = node.inputs[0]
    graph.replace_all(changes)


class ActivationHooks:
    """A copy of ``net`` whose taps can be read, and by which it can be differentiated.

    ``attach(stack, taps)`` enters contexts of :func:`hooked` and :func:`replaced` into the stack ``stack``; these
    append what they record to ``taps`` as ``(name, symbol)``. ``differentiable`` selects the forms of layers whose
    gradients are fast, and allows differentiation by every tap. The network runs as in inference in either case.

    Raises ``ValueError`` for a network without values.
    """

    def __init__(
        self,
        net: gluon.HybridBlock,
        attach: Callable[[ExitStack, Taps], None],
        differentiable: bool = False,
    ) -> None:
        params = parameters_of(net)
        taps: Taps = []
        mode = autograd.record(train_mode=False) if differentiable else autograd.pause(train_mode=False)
        with ExitStack() as stack:
            attach(stack, taps)
            with mode:
                answer, _ = split(net(mx.sym.var(INPUT)))
        self.names = [name for name, _ in taps]
        self.context = next((p.list_ctx()[0] for p in net.collect_params().values()), mx.cpu())
        graph = Graph.of(in_float32(mx.sym.Group([answer, *(symbol for _, symbol in taps)])), params)
        self._probes = self._add_probes(graph) if differentiable else []
        if differentiable:
            _as_in_inference(graph)
        symbol = graph.symbol()
        self._symbol, self._inputs = symbol, symbol.list_inputs()
        self._params = {name: mx.nd.array(value, ctx=self.context) for name, value in graph.params.items()}
        places = [place for place, name in enumerate(self._inputs) if name not in self._params]
        self._run = mx.nd.CachedOp(
            symbol,
            [
                ('data_indices', places),
                ('param_indices', [place for place in range(len(self._inputs)) if place not in places]),
            ],
        )

    @staticmethod
    def _add_probes(graph: Graph) -> List[str]:
        """Add a variable, for zeros, to every tap: the gradient by it is the gradient by the tap."""
        names = []
        for place, tap in enumerate(graph.heads[1:]):
            names.append(f'probe{place}')
            total = Out(Node('elemwise_add', f'probed{place}', [tap, Out(Node('null', names[-1]))]))
            for node in graph.nodes():
                node.inputs = [total if out == tap else out for out in node.inputs]
            graph.heads = [total if out == tap else out for out in graph.heads]
        return names

    def _call(self, data: mx.nd.NDArray, probes: Sequence[mx.nd.NDArray] = ()) -> List[mx.nd.NDArray]:
        given: Dict[str, mx.nd.NDArray] = {INPUT: data, **dict(zip(self._probes, probes)), **self._params}
        out = self._run(*(given[name] for name in self._inputs))
        return list(out) if isinstance(out, (list, tuple)) else [out]

    def shapes(self, shape: Sequence[int]) -> List[Tuple[int, ...]]:
        """Return the shapes of the taps for images of ``shape`` (N, 3, H, W)."""
        known = {name: value.shape for name, value in self._params.items()}
        return self._symbol.infer_shape(**{INPUT: tuple(shape)}, **known)[1][1:]

    def _forward(self, images: np.ndarray) -> List[mx.nd.NDArray]:
        zeros = [mx.nd.zeros(shape, ctx=self.context) for shape in self.shapes(images.shape)[: len(self._probes)]]
        with autograd.pause(train_mode=False):
            return self._call(mx.nd.array(images, ctx=self.context), zeros)

    def answer(self, images: np.ndarray) -> np.ndarray:
        """Return the answers (N, classes) for ``images`` (N, 3, H, W) float32."""
        return self._forward(images)[0].asnumpy()

    def read(self, images: np.ndarray) -> List[np.ndarray]:
        """Return the values of the taps for ``images``."""
        return [tap.asnumpy() for tap in self._forward(images)[1:]]

    def differentiate(
        self, images: np.ndarray, classes: Optional[Sequence[int]] = None
    ) -> Tuple[np.ndarray, List[np.ndarray], List[np.ndarray]]:
        """Return the answers, the values of the taps, and the gradients of one logit of each image by these values.

        ``classes`` are the numbers of these logits, one for each image; None: the largest. A tap's gradient includes
        every path from it to the logit, including those through later taps.
        """
        data = mx.nd.array(images, ctx=self.context)
        probes = [mx.nd.zeros(shape, ctx=self.context) for shape in self.shapes(images.shape)]
        for probe in probes:
            probe.attach_grad()
        with without_lines(_TOLD_OF_EVERY_POOL):
            with autograd.record():
                answer, *taps = self._call(data, probes)
                chosen = answer.argmax(axis=1) if classes is None else mx.nd.array(classes, ctx=self.context)
                score = mx.nd.pick(answer, chosen, axis=1)
            gradients = autograd.grad([score], probes)
            mx.nd.waitall()  # the lines come when the pools run
        return answer.asnumpy(), [tap.asnumpy() for tap in taps], [gradient.asnumpy() for gradient in gradients]
