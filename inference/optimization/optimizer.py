"""The fastest form of a trained network for inference on this machine.

    from inference import optimize
    fast = optimize(net, (8, 3, 224, 224), precision='float32')
    logits = fast(images)

The network is traced, batch norms go into the convolutions before them, oneDNN fuses what follows a convolution into
it, and the plan and its memory are fixed. Batches are cut, and cores get images of their own, where that is faster,
which is measured.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from pathlib import Path
from typing import Any, Callable, List, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet import gluon

import kernels.engine
from environment import UserError
from environment.cpu import lacks
from environment.health import mend
from inference.choices import ENGINES, PRECISIONS
from inference.engine.choices import keep, place_of, recalled
from inference.engine.narrow import Narrowing
from inference.engine.network import Network, Unsupported, engine_network, ranges_of, why_not
from inference.graph import Graph, trace
from inference.onnx_file import EXTRAS
from inference.optimization.bfloat16 import stored_in_bfloat16, to_bfloat16
from inference.optimization.channel_products import channels_by_batch_norm
from inference.optimization.float16 import stored_in_float16, to_float16
from inference.optimization.fold import fold
from inference.optimization.int8 import quantize
from inference.optimization.lanes import lanes_of
from inference.optimization.onednn import fused, has_onednn
from inference.optimization.program import Program
from inference.optimization.runtimes import RuntimeNetwork, described, installed, why_not_in
from inference.optimization.single_map import widen_single_maps

__all__ = ['Optimized', 'optimize']

# Beyond it int8 is not inaccurate but wrong.
INT8_LIMIT = 1.0
#: Largest allowed difference of a logit, relative to the largest logit, from the network's own. int8 has no bound here:
#: what it costs depends on the images, so it is measured as accuracy (scripts/validate.py).
TOLERANCE = {'float32': 1e-4, 'float16': 2e-2, 'bfloat16': 0.5}
# Batches are cut into pieces of these sizes where that is faster: smaller maps stay in the processor's cache, and cores
# can have pieces of their own.
PIECES = (1, 4, 8)
# Seconds that each form of a network is measured for.
ENOUGH = 0.5
_CASTS = ('amp_cast', 'amp_multicast')


class Optimized(gluon.Block):
    """What :func:`optimize` returns: ``(N, 3, H, W) float32 -> (N, classes) float32``, for inference only.

    Fastest at ``input_shape``; other numbers of images work. ``program`` is the graph that runs ``piece`` images at a
    time; ``lanes`` are copies of it that share the pieces out, empty where the program runs them one after another.
    ``note`` says why the engine of our own was not taken, if that is not its speed.
    """

    engine = 'mxnet'
    note: Optional[str] = None

    def __init__(
        self, program: Program, input_shape: Sequence[int], precision: str, piece: int, lanes: int = 1
    ) -> None:
        super().__init__()
        self.program, self.input_shape, self.precision, self.piece = program, tuple(input_shape), precision, piece
        example = mx.nd.zeros((piece, *input_shape[1:]), ctx=program.ctx)
        self.lanes = lanes_of(program, lanes, example) if lanes > 1 else []

    def forward(self, x: mx.nd.NDArray) -> mx.nd.NDArray:
        if mx.autograd.is_recording():
            raise ValueError('an optimized network has no gradients; train the network that it was made from')
        count = x.shape[0]
        if count <= self.piece:
            return self.program(x)
        parts = [x[start : start + self.piece] for start in range(0, count, self.piece)]
        if not self.lanes:
            return mx.nd.concat(*(self.program(part) for part in parts), dim=0)
        here = x.context
        answers = []
        for place, part in enumerate(parts):
            lane = self.lanes[place % len(self.lanes)]
            answers.append(lane(part.as_in_context(lane.ctx)))
        return mx.nd.concat(*(answer.as_in_context(here) for answer in answers), dim=0)


def _check(net: Any, input_shape: Sequence[int], precision: str, calibration: Any, ctx: mx.Context) -> None:
    if precision not in PRECISIONS:
        raise ValueError(f'precision is {precision!r}; allowed: {", ".join(PRECISIONS)}')
    if not isinstance(net, gluon.HybridBlock):
        raise ValueError(f'{type(net).__name__} cannot be optimized; give a network that can be hybridized')
    whole = all(isinstance(side, (int, np.integer)) and side > 0 for side in input_shape)
    if len(input_shape) != 4 or not whole:
        raise ValueError(f'input_shape is {tuple(input_shape)}; it must be four whole numbers above 0: N, 3, H, W')
    on_gpu = ctx.device_type == 'gpu'
    if precision == 'float16' and not on_gpu:
        raise UserError('the precision float16 needs a GPU, and the network is on the CPU; take float32 or bfloat16')
    if precision in ('bfloat16', 'int8'):
        if on_gpu:
            raise UserError(f'the precision {precision} is for CPUs, and the network is on a GPU; take float16')
        if not has_onednn():
            raise UserError(
                f'the precision {precision} needs an MXNet with oneDNN, and this one has none; take float32'
            )
        missing = lacks(precision)
        if missing:
            raise UserError(
                f'the precision {precision} needs a processor with {" or ".join(missing)}, and this one has none; '
                'take float32'
            )
    if (precision == 'int8') != (calibration is not None):
        raise ValueError(
            'int8 needs calibration: some hundred real images as the network gets them, an array (N, 3, H, W)'
            if precision == 'int8'
            else f'calibration is for int8, not for {precision}'
        )


def _calibration_images(calibration: Any, input_shape: Sequence[int]) -> np.ndarray:
    """Return an array, or batches of them, as one float32 array (N, 3, H, W)."""

    def plain(batch: Any) -> np.ndarray:
        batch = batch[0] if isinstance(batch, (list, tuple)) else batch
        return batch.asnumpy() if isinstance(batch, mx.nd.NDArray) else np.asarray(batch)

    if isinstance(calibration, (np.ndarray, mx.nd.NDArray)):
        images = plain(calibration)
    else:
        batches = [plain(batch) for batch in calibration]
        if not batches:
            raise ValueError('calibration holds no images')
        images = np.concatenate(batches)
    if images.ndim != 4 or images.shape[1:] != tuple(input_shape[1:]) or not len(images):
        raise ValueError(
            f'calibration has the shape {images.shape}; it must be (N, {", ".join(map(str, input_shape[1:]))})'
        )
    return images.astype(np.float32)


def _graph(net: gluon.HybridBlock) -> Graph:
    graph = trace(net)
    if any(node.op in _CASTS for node in graph.nodes()):
        raise ValueError(
            'the network was converted by MXNet (amp), and fusing such a network gives wrong answers; '
            "give the float32 network, and say precision='bfloat16'"
        )
    fold(graph)
    return graph


def _program(graph: Graph, precision: str, ctx: mx.Context, single: bool = False) -> Program:
    """Return the program for a folded graph, in any precision but int8; ``single``: for single images only."""
    if precision == 'float16':
        to_float16(graph)
        return Program(graph.symbol(), graph.params, float16=stored_in_float16(graph), ctx=ctx)
    if ctx.device_type == 'gpu' or not has_onednn():
        return Program(graph.symbol(), graph.params, ctx=ctx)
    widen_single_maps(graph)
    if single:
        channels_by_batch_norm(graph)
    narrow = ()
    if precision == 'bfloat16':
        to_bfloat16(graph)
        narrow = stored_in_bfloat16(graph)
    return Program(fused(graph.symbol()), graph.params, narrow, ctx=ctx)


def _differences(ours: mx.nd.NDArray, theirs: mx.nd.NDArray) -> np.ndarray:
    """Return each image's largest difference of a logit, relative to the largest logit.

    Infinite where one is no number.
    """
    ours, theirs = ours.asnumpy(), theirs.asnumpy()
    largest = np.abs(ours - theirs).max(axis=1) / max(np.abs(theirs).max(), np.finfo(np.float32).tiny)
    return np.where(np.isfinite(largest), largest, np.inf)


def difference(ours: mx.nd.NDArray, theirs: mx.nd.NDArray) -> float:
    """Return the largest difference of a logit, relative to the largest logit; infinite where one is no number."""
    return float(_differences(ours, theirs).max())


def by_rounding(net: gluon.HybridBlock, data: mx.nd.NDArray, expected: mx.nd.NDArray) -> np.ndarray:
    """Return how far each image's answer of ``net`` may move by rounding alone, relative to the largest logit.

    Deep networks with untrained gates have images on a tipping point: a last bit of the pixels moves their answers by
    a thousandth. A graph whose sums run in another order rounds in every layer, which is taken for ten such bits, the
    worst of three draws.
    """
    random, found = np.random.RandomState(0), []
    for _ in range(3):
        bits = random.choice([-1, 1], data.shape).astype(np.float32) * np.finfo(np.float32).eps
        found.append(_differences(net(data * mx.nd.array(1 + bits, ctx=data.context)), expected))
    return 10 * np.max(found, axis=0)


def _first_layer_or_not(make: Callable[[bool], Any], some: mx.nd.NDArray, expected: mx.nd.NDArray) -> Any:
    """``make(first_layer in float32)`` in int8: with it only where that halves the difference from ``expected``.

    Returned with that choice and its difference. ``UserError`` where both are wrong.
    """
    made = [make(first_layer) for first_layer in (False, True)]
    differences = [difference(one(some), expected) for one in made]
    if not min(differences) <= INT8_LIMIT:
        raise UserError(
            f'the int8 form of this network differs by {min(differences):.1e} of the largest logit on the calibration '
            f'images, and {INT8_LIMIT} is allowed; take bfloat16 or float32'
        )
    first_layer = differences[1] < differences[0] / 2
    return made[first_layer], first_layer, differences[first_layer]


def own_network(
    net: gluon.HybridBlock,
    input_shape: Sequence[int],
    precision: str = 'float32',
    calibration: Optional[np.ndarray] = None,
    instructions: Optional[str] = None,
) -> Network:
    """``net`` by the project's engine in any precision that it has, its answers compared with nothing yet.

    ``calibration`` are the images that int8 takes its ranges from; ``instructions``: see `engine_network`.
    `Unsupported` where it cannot be, ``UserError`` where int8 is wrong.
    """
    if precision == 'float32':
        return engine_network(net, input_shape, instructions=instructions)
    if precision == 'bfloat16':
        return engine_network(net, input_shape, instructions=instructions, narrowing=Narrowing(precision))
    ranges = ranges_of(net, calibration, instructions)
    some = mx.nd.array(calibration[:32])

    def network(first_layer: bool) -> Network:
        how = Narrowing(precision, ranges, not first_layer)
        return engine_network(net, input_shape, instructions=instructions, narrowing=how)

    return _first_layer_or_not(network, some, net(some))[0]


def _int8_programs(net: gluon.HybridBlock, images: np.ndarray, ctx: mx.Context, single: bool) -> List[Program]:
    """Quantized with the first layer or without it: without only where that halves the difference from ``net``.

    A program for any number of images and, with ``single``, one for single images.
    """
    some = mx.nd.array(images[:32])
    expected = net(some)

    def program(first_layer: bool) -> Program:
        return Program(*quantize(_graph(net), images, first_layer), ctx=ctx)

    best, first_layer, found = _first_layer_or_not(program, some, expected)
    chosen = [best]
    if single:
        graph = _graph(net)
        if channels_by_batch_norm(graph):
            chosen.append(Program(*quantize(graph, images, first_layer, batch_size=1), ctx=ctx))
            alone = difference(Optimized(chosen[1], some.shape, 'int8', 1)(some), expected)
            if alone > max(2 * found, TOLERANCE['bfloat16']):
                chosen.pop()
    return chosen


def _seconds(run: Any, data: mx.nd.NDArray) -> float:
    """Return the shortest time of ``run`` on ``data``, of two at least and as many as fit into `ENOUGH` seconds."""
    times: List[float] = []
    while len(times) < 2 or sum(times) < ENOUGH:
        start = time.perf_counter()
        run(data).wait_to_read()
        times.append(time.perf_counter() - start)
    return min(times)


def optimize(
    net: gluon.HybridBlock,
    input_shape: Sequence[int],
    precision: str = 'float32',
    calibration: Any = None,
    piece: Optional[int] = None,
    engine: str = 'auto',
) -> gluon.Block:
    """Return a network with the answers of ``net``, made for batches of ``input_shape`` = (N, 3, H, W).

    precision : ``'float32'``; ``'bfloat16'`` or ``'int8'`` on processors with instructions for it; ``'float16'`` on
        GPUs. Images and logits are float32 always.
    calibration : for int8: real images as the network gets them, (N, 3, H, W), or an iterable of such arrays
    piece : how many images run together; None measures what is fastest. Either way it is measured whether the pieces
        are to run one after another on all cores, or on a core each. For the engine 'mxnet'.
    engine : ``'own'``, the project's (:mod:`inference.engine`, on CPUs with AVX2), ``'mxnet'``, ``'onnxruntime'`` or
        ``'openvino'`` where these are installed, or ``'auto'``: the fastest of all that are there, measured once on a
        machine; ``'mxnet'`` where ``piece`` is given. The result's ``engine`` says which it is.

    ``net`` is left as it is; its parameters are copied. Float results are compared with its own first: at most 1e-4 of
    the largest logit for float32, and more only for images whose own answers a last bit moves by that much.
    ``ValueError`` for wrong arguments, ``UserError`` where this machine lacks the precision or answers differ.
    """
    context = next((p.list_ctx()[0] for p in net.collect_params().values() if p._data is not None), mx.cpu())
    _check(net, input_shape, precision, calibration, context)
    count = int(input_shape[0])
    if piece is not None and not 1 <= piece <= count:
        raise ValueError(f'piece is {piece}; allowed are 1 to {count}, the batch of input_shape')
    if engine not in ENGINES:
        raise ValueError(f'engine is {engine!r}; allowed: {", ".join(ENGINES)}')
    if engine not in ('auto', 'mxnet') and piece is not None:
        raise ValueError(f'piece is {piece}, which the engine {engine!r} does not have; leave it out')
    graph = _graph(net)  # which refuses what cannot be optimized, before it is run
    data = mx.nd.random.normal(shape=tuple(input_shape), ctx=context)
    expected = net(data) if precision in TOLERANCE else None
    sizes = [piece] if piece else [count, *(size for size in PIECES if size < count and count % size == 0)]
    images = _calibration_images(calibration, input_shape) if precision == 'int8' else None
    programs: List[Program] = []
    found: List[Tuple[float, Any]] = []
    note = None

    def check(network: Any) -> None:
        away, allowed = _differences(network(data), expected), TOLERANCE[precision]
        if np.isinf(away).any() or (
            away.max() > allowed and (away > np.maximum(by_rounding(net, data, expected), allowed)).any()
        ):
            raise UserError(
                f'the {precision} form of this network differs by {away.max():.1e} of the largest logit, and {allowed} '
                'is allowed; take another precision, and report this network'
            )

    def attempt(size: int, lanes: int) -> None:
        if precision == 'int8':
            program = programs[-1 if size == 1 else 0].on(context)  # each has the plan for one shape
        else:
            program = _program(_graph(net), precision, context, size == 1)
        network = Optimized(program, input_shape, precision, size, lanes)
        if expected is not None:
            check(network)
        found.append((_seconds(network, data) if several else 0.0, network))
        found.sort(key=lambda entry: entry[0])
        del found[1:]  # the others hold memory

    def attempt_in(name: str, alone: bool = False) -> Optional[str]:
        """Try another engine than MXNet's, which need not be timed ``alone``; returns why it is none, or None."""
        reason = _why_not(name, precision, context)
        if reason is None:
            try:
                network = (
                    own_network(net, input_shape, precision, images)
                    if name == 'own'
                    else RuntimeNetwork(net, input_shape, precision, name)
                )
                if expected is not None:
                    check(network)
            except (Unsupported, UserError) as error:
                reason = str(error)
            else:
                found.append((0.0 if alone else _seconds(network, data), network))
        return reason

    if engine not in ('auto', 'mxnet'):
        note = attempt_in(engine, alone=True)
        if note is not None:
            raise UserError(f"the engine {engine!r} cannot run this network: {note}; take engine='mxnet'")
        return found[0][1]
    place = None
    if engine == 'auto' and piece is None:
        place = _place(graph, input_shape, precision, context)
        known = recalled(place, {'engine': str, 'note': (str, None)}) or {}
        note = known.get('note')
        if known.get('engine') in ('own', *installed()) and attempt_in(known['engine'], alone=True) is None:
            return found[0][1]
        if known.get('engine') != 'mxnet':
            note = attempt_in('own')
            for name in installed():
                attempt_in(name)
    if precision == 'int8':
        try:
            programs = _int8_programs(net, images, context, 1 in sizes)
        except UserError:
            if not found:
                raise
            return min(found, key=lambda entry: entry[0])[1]  # which is sound
    cores = int(os.environ.get('OMP_NUM_THREADS') or 1) if context.device_type == 'cpu' and has_onednn() else 1
    several = bool(found) or len(sizes) > 1 or (cores > 1 and count // sizes[0] >= cores)
    order = []
    for size in sizes:
        attempt(size, 1)
        order.insert(0 if getattr(found[0][1], 'piece', None) == size else len(order), size)
    for size in [size for size in order if cores > 1 and count // size >= cores][:2]:
        attempt(size, cores)
    fastest = found[0][1]
    if isinstance(fastest, Optimized):
        fastest.note = note
    if place is not None:
        keep(place, {'engine': fastest.engine, 'note': fastest.note if fastest.engine == 'mxnet' else None})
    return fastest


def _place(graph: Graph, input_shape: Sequence[int], precision: str, context: mx.Context) -> Path:
    """Return where it is kept which engine is the fastest for such a graph, whatever its weights."""
    numbers = {id(node): number for number, node in enumerate(graph.nodes())}
    rows = [
        (
            node.op,
            sorted(node.attrs.items()),
            [(numbers[id(out.node)], out.index) for out in node.inputs],
            graph.params[node.name].shape if node.name in graph.params else None,
        )
        for node in graph.nodes()
    ]
    engines = [getattr(kernels.engine.load(), 'path', Path()).name, *map(described, installed())]
    threads = os.environ.get('OMP_NUM_THREADS')
    return place_of('engine', rows, tuple(input_shape), precision, str(context), threads, engines)


def _why_not(engine: str, precision: str, context: mx.Context) -> Optional[str]:
    """Return why an engine other than MXNet's is out of the question; None if it is not."""
    if engine == 'own':
        return _no_own_engine(precision, context)
    if engine not in installed():
        lacking = next(name for name in ('onnx', engine) if importlib.util.find_spec(name) is None)
        extra = mend(' --onnx') if lacking in EXTRAS else f'{sys.executable} -m pip install {lacking}'
        return f'the package {lacking} is not installed (to have it: {extra})'
    return why_not_in(engine, precision, context)


def _no_own_engine(precision: str, context: mx.Context) -> Optional[str]:
    """Return why the project's engine is out of the question; None if it is not."""
    return why_not(precision) if context.device_type == 'cpu' else 'it is for CPUs'
