"""A network that is run once so that what its blocks compute can be written down.

Every block computes on values that hold an array and know where they come from. The network itself stays as it is: for
the time of the recording, calls of blocks with such values are taken here.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import mxnet as mx
from mxnet import gluon

import kernels
from inference.torch_source.operators import FORMS, OPERATORS, SCALARS
from model.layers.carry import split

__all__ = ['Node', 'Recording', 'Unwritten', 'Value', 'recorded']


class Unwritten(ValueError):
    """What has no counterpart in PyTorch that we know of."""


class Node:
    """A call of an operator or of a block.

    Attributes:
        write: ``(*texts) -> text``, given the texts of ``inputs``; None for what has a text of its own.
        inputs: values and constants.
        block: what is called, for blocks.
        hint: a name for the result.
        outputs: the values that it gives.
    """

    def __init__(
        self,
        inputs: Sequence[Any] = (),
        write: Optional[Callable[..., Any]] = None,
        text: Optional[str] = None,
        block: Optional[gluon.Block] = None,
        hint: str = 'out',
    ) -> None:
        self.inputs, self.write, self.text, self.block, self.hint = list(inputs), write, text, block, hint
        self.outputs: List[Value] = []


class Value:
    """An array on its way through a block, and the node that gives it."""

    def __init__(self, array: mx.nd.NDArray, node: Node) -> None:
        self.array, self.node = array, node
        node.outputs.append(self)

    def __add__(self, other: Any) -> Value:
        return _scalar('_plus', self, other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Value:
        return _scalar('_minus', self, other)

    def __rsub__(self, other: Any) -> Value:
        return _scalar('_rminus', self, other)

    def __mul__(self, other: Any) -> Value:
        return _scalar('_times', self, other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Value:
        return _scalar('_over', self, other)

    def __rtruediv__(self, other: Any) -> Value:
        return _scalar('_rover', self, other)

    def __neg__(self) -> Value:
        return _scalar('_negative', self)


class Recording:
    """The computation of one block: its inputs, the nodes in order, its outputs.

    ``names`` are those of the inputs, ``rest`` is that of all further ones together, None where there cannot be any.
    """

    def __init__(self, block: gluon.Block, arrays: Sequence[mx.nd.NDArray]) -> None:
        self.block = block
        self.names, self.rest = _names(block)
        self.nodes: List[Node] = []
        count = len(self.names)
        texts = [*self.names, *(f'{self.rest}[{place}]' for place in range(len(arrays) - count))]
        self.inputs = [Value(array, Node(text=text)) for array, text in zip(arrays, texts)]
        self.further = self.inputs[count:]
        self.outputs: Tuple[Value, ...] = ()


_stack: List[Recording] = []
_recordings: Dict[int, Recording] = {}


def _arrays(given: Any) -> Any:
    """Return ``given`` with arrays in place of values."""
    if isinstance(given, (list, tuple)):
        return [_arrays(each) for each in given]
    return given.array if isinstance(given, Value) else given


def _record(node: Node, result: Any) -> Any:
    """Return the values that ``node`` gives, for the arrays that were computed."""
    _stack[-1].nodes.append(node)
    if isinstance(result, (list, tuple)):
        return [Value(array, node) for array in result]
    return Value(result, node)


def _scalar(name: str, *operands: Any) -> Value:
    compute, write = SCALARS[name]
    return _record(Node(operands, write), compute(*_arrays(operands)))


class _Operators:
    """The stand-in for ``F`` in a block's ``hybrid_forward``: ``mx.nd`` or a part of it."""

    def __init__(self, module: Any, prefix: str = '') -> None:
        self._module, self._prefix = module, prefix
        if not prefix:
            self.contrib = _Operators(mx.nd.contrib, 'contrib.')
            #: The functions of :mod:`model.layers.broadcast` that are written as a whole.
            self.forms = {name: _form(name) for name in FORMS}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        full, compute = self._prefix + name, getattr(self._module, name)

        def run(*inputs: Any, **options: Any) -> Any:
            if full not in OPERATORS:
                raise Unwritten(f'{type(_stack[-1].block).__name__} computes {full}, which has no form in PyTorch here')
            write = OPERATORS[full]
            given = inputs[0] if len(inputs) == 1 and isinstance(inputs[0], (list, tuple)) else inputs
            node = Node(given, lambda *texts: write(*texts, **options))
            return _record(node, compute(*_arrays(inputs), **options))

        return run


def _form(name: str) -> Callable[..., Any]:
    def run(function: Callable[..., Any], *inputs: Any, **options: Any) -> Any:
        values = [each for each in inputs if isinstance(each, Value)]
        constants = [each for each in inputs if not isinstance(each, Value)]
        node = Node(values, lambda *texts: FORMS[name](*texts, *constants, **options))
        result = function(mx.nd, *_arrays(inputs), **options)
        return tuple(_record(node, result)) if isinstance(result, tuple) else _record(node, result)

    return run


def _names(block: gluon.HybridBlock) -> Tuple[List[str], Optional[str]]:
    """Return what the block's own ``hybrid_forward`` calls its inputs, and those that may follow."""
    code = type(block).hybrid_forward.__code__
    own = [name for name in code.co_varnames[2 : code.co_argcount] if name not in block._reg_params]
    return own, code.co_varnames[code.co_argcount + code.co_kwonlyargcount] if code.co_flags & 0x04 else None


def _called(block: gluon.Block, *inputs: Any) -> Any:
    """Return what stands for ``block(*inputs)`` while something is recorded."""
    from inference.torch_source.layers import layer_of

    if layer_of(block) is not None:
        result = _original(block, *_arrays(inputs))
    else:
        recording = _run(block, inputs)
        result = tuple(value.array for value in recording.outputs)
        result = result if len(result) > 1 else result[0]
    return _record(Node(inputs, block=block), result)


def _run(block: gluon.Block, inputs: Sequence[Any]) -> Recording:
    if type(block).forward is gluon.Block.forward or not isinstance(block, gluon.HybridBlock):
        raise Unwritten(f'{type(block).__name__} is no HybridBlock, whose forward could be read')
    recording = Recording(block, _arrays(inputs))
    params = {
        name: Value(parameter.data(), Node(text=f'self.{_leaf(block, name)}'))
        for name, parameter in block._reg_params.items()
    }
    _stack.append(recording)
    try:
        out, carry = split(block.hybrid_forward(_F, *recording.inputs, **params))
    finally:
        _stack.pop()
    recording.outputs = (out, *carry)
    _recordings.setdefault(id(block), recording)
    return recording


def _leaf(block: gluon.Block, name: str) -> str:
    from model.convert.tables import torch_leaf

    return torch_leaf(block, name)


_F = _Operators(mx.nd)
_original = gluon.Block.__call__


@contextmanager
def _calls_taken() -> Iterator[None]:
    def call(block: gluon.Block, *inputs: Any) -> Any:
        taken = any(isinstance(value, Value) for value in inputs)
        return _called(block, *inputs) if taken else _original(block, *inputs)

    gluon.Block.__call__ = call
    try:
        yield
    finally:
        gluon.Block.__call__ = _original


def recorded(net: gluon.HybridBlock, image: mx.nd.NDArray) -> Dict[int, Recording]:
    """Return what each block of an initialised network computes for images such as ``image`` (N, 3, H, W), by its id.

    Layers that PyTorch has are not among them. :class:`Unwritten` says what it has no counterpart for.
    """
    _recordings.clear()
    with mx.autograd.pause(), kernels.fusing(False), _calls_taken():
        _run(net, [Value(image, Node(text='x'))])
    found = dict(_recordings)
    _recordings.clear()
    return found
