"""Choose the fastest form of a trained network for inference on this machine.

    from inference import optimize
    fast = optimize(net, (8, 3, 224, 224), precision='float32')
    logits = fast(images)

Every engine at hand is tried: the project's own, MXNet, and other runtimes that are installed. Those whose answers
agree with the network's are timed, and the fastest is returned.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet import gluon

import kernels.engine
from environment import UserError
from environment.health import mend
from inference.engine.choices import keep, place_of, recalled
from inference.engine.network import Unsupported, why_not
from inference.graph import Graph
from inference.onnx_file import EXTRAS
from inference.optimization.arguments import calibration_images, check_engine, check_network
from inference.optimization.in_mxnet import Optimized, folded_graph, int8_programs, program_of
from inference.optimization.onednn import has_onednn
from inference.optimization.own import own_network
from inference.optimization.program import Program
from inference.optimization.proof import Proof
from inference.optimization.runtimes import RuntimeNetwork, described, installed, why_not_in

__all__ = ['optimize']

# Batches are cut into pieces of these sizes if that is faster: smaller maps stay in the processor's cache, and each
# core can have pieces of its own.
PIECES = (1, 4, 8)
# Seconds for which each form of a network is timed.
ENOUGH = 0.5


def optimize(
    net: gluon.HybridBlock,
    input_shape: Sequence[int],
    precision: str = 'float32',
    calibration: Any = None,
    piece: Optional[int] = None,
    engine: str = 'auto',
) -> gluon.Block:
    """Return the fastest network that gives the same answers as `net`.

    `net` is left unchanged; its parameters are copied. Images and logits are always float32.

    Args:
        net: the network, with its parameters.
        input_shape: the batches that the result is made for, (N, 3, H, W).
        precision: `'float32'`; `'bfloat16'` or `'int8'` on processors with instructions for it; `'float16'` on GPUs.
        calibration: for int8, real images preprocessed for the network: (N, 3, H, W), or an iterable of such arrays.
        piece: how many images MXNet runs together; by default the fastest number is measured. Whether the pieces run
            one after another on all cores, or each on a core of its own, is measured in any case.
        engine: `'own'`, the project's (:mod:`inference.engine`, for CPUs with AVX2), `'mxnet'`, `'onnxruntime'` or
            `'openvino'` if these are installed, or `'auto'`: the fastest of all that are at hand, measured once per
            machine (`'mxnet'` if `piece` is given). The result's `engine` says which one it is, and its `note` why
            others were refused.

    Raises:
        ValueError: an argument is wrong.
        UserError: the machine lacks the precision, or no engine gives the answers of `net`. In float32 answers may
            differ by 1e-4 of the largest logit, and by more only for images whose own answers move that far when the
            last bit of a pixel changes.
    """
    context = next((p.list_ctx()[0] for p in net.collect_params().values() if p._data is not None), mx.cpu())
    check_network(net, input_shape, precision, calibration, context)
    check_engine(engine, piece, int(input_shape[0]))
    graph = folded_graph(net)  # refuses what cannot be optimized before anything is run
    images = calibration_images(calibration, input_shape) if precision == 'int8' else None
    contest = _Contest(net, input_shape, precision, images, context)
    if engine not in ('auto', 'mxnet'):
        contest.enter(engine, timed=False)
        if engine in contest.refused:
            reason = contest.refused[engine]
            raise UserError(f"the engine {engine!r} cannot run this network: {reason}; choose engine='mxnet'")
        return contest.winner()
    if engine == 'mxnet' or piece is not None:
        contest.enter_mxnet(piece)
        return contest.winner()
    return _fastest(contest, _place(graph, input_shape, precision, context))


def _fastest(contest: _Contest, place: Path) -> gluon.Block:
    """Return the fastest engine's network, which is measured unless `place` remembers it."""
    known = recalled(place, {'engine': str, 'note': (str, None)}) or {}
    contest.note = known.get('note')
    if known.get('engine') in ('own', *installed()):
        contest.enter(known['engine'], timed=False)
        if known['engine'] not in contest.refused:
            return contest.winner()
    if known.get('engine') != 'mxnet':
        for name in ('own', *installed()):
            contest.enter(name)
    contest.enter_mxnet()
    winner = contest.winner()
    keep(place, {'engine': winner.engine, 'note': contest.note})
    return winner


class _Contest:
    """The forms of one network that have been tried: the fastest so far, and why others were refused.

    Attributes:
        refused: {engine: the reason, as a phrase}.
        note: what the winner says about refused engines.
    """

    def __init__(
        self,
        net: gluon.HybridBlock,
        input_shape: Sequence[int],
        precision: str,
        images: Optional[np.ndarray],
        context: mx.Context,
    ) -> None:
        self.net, self.input_shape, self.precision, self.images = net, input_shape, precision, images
        self.context = context
        self.proof = Proof(net, input_shape, precision, context)
        self.refused: Dict[str, str] = {}
        self.note: Optional[str] = None
        self._best: Optional[Tuple[float, gluon.Block]] = None
        self._failure: Optional[UserError] = None

    def enter(self, engine: str, timed: bool = True) -> None:
        """Try an engine other than MXNet."""
        reason = _why_not(engine, self.precision, self.context)
        if reason is None:
            try:
                if engine == 'own':
                    network = own_network(self.net, self.input_shape, self.precision, self.images)
                else:
                    network = RuntimeNetwork(self.net, self.input_shape, self.precision, engine)
                self.proof.check(network)
            except (Unsupported, UserError) as error:
                reason = str(error)
            else:
                self._take(network, timed)
        if reason is not None:
            self.refused[engine] = reason
            if engine == 'own':
                self.note = reason

    def enter_mxnet(self, piece: Optional[int] = None) -> None:
        """Try MXNet with pieces of several sizes, and with the two fastest on cores of their own."""
        count = int(self.input_shape[0])
        sizes = [piece] if piece else [count, *(size for size in PIECES if size < count and count % size == 0)]
        on_cpu = self.context.device_type == 'cpu' and has_onednn()
        cores = int(os.environ.get('OMP_NUM_THREADS') or 1) if on_cpu else 1
        timed = self._best is not None or len(sizes) > 1 or (cores > 1 and count // sizes[0] >= cores)
        try:
            programs = []
            if self.precision == 'int8':
                programs = int8_programs(self.net, self.images, self.context, 1 in sizes)
            order: List[int] = []
            for size in sizes:
                fastest = self._take_piece(programs, size, 1, timed)
                order.insert(0 if fastest else len(order), size)
            for size in [size for size in order if cores > 1 and count // size >= cores][:2]:
                self._take_piece(programs, size, cores, timed)
        except UserError as error:
            self._failure = error
            self.refused['mxnet'] = str(error)
            if self._best is not None:
                self.note = f'MXNet was refused, as {error}'

    def winner(self) -> gluon.Block:
        """Return the fastest network. Raises `UserError` if none gives the right answers."""
        if self._best is None:
            raise self._failure or UserError('; '.join(self.refused.values()))
        network = self._best[1]
        if network.note is None:
            network.note = self.note
        return network

    def _take_piece(self, programs: Sequence[Program], size: int, lanes: int, timed: bool) -> bool:
        """Try one size of pieces; return whether it is the fastest so far."""
        if programs:
            program = programs[-1 if size == 1 else 0].on(self.context)  # each is planned for one shape
        else:
            program = program_of(self.net, self.precision, self.context, size == 1)
        network = Optimized(program, self.input_shape, self.precision, size, lanes)
        self.proof.check(network)
        return self._take(network, timed)

    def _take(self, network: gluon.Block, timed: bool) -> bool:
        """Keep the network if it is the fastest so far, and drop the slower one, which holds memory."""
        seconds = _seconds(network, self.proof.data) if timed else 0.0
        if self._best is not None and self._best[0] <= seconds:
            return False
        self._best = seconds, network
        return True


def _seconds(run: Any, data: mx.nd.NDArray) -> float:
    """Return the shortest time of `run` on `data`, of at least two runs and as many as fit into `ENOUGH` seconds."""
    times: List[float] = []
    while len(times) < 2 or sum(times) < ENOUGH:
        start = time.perf_counter()
        run(data).wait_to_read()
        times.append(time.perf_counter() - start)
    return min(times)


def _place(graph: Graph, input_shape: Sequence[int], precision: str, context: mx.Context) -> Path:
    """Return where the fastest engine for such a graph is remembered, whatever its weights."""
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
    """Return why an engine other than MXNet cannot be used, as a phrase; None if it can."""
    if engine == 'own':
        return why_not(precision) if context.device_type == 'cpu' else 'it is for CPUs'
    if engine not in installed():
        lacking = next(name for name in ('onnx', engine) if importlib.util.find_spec(name) is None)
        extra = mend(' --onnx') if lacking in EXTRAS else f'{sys.executable} -m pip install {lacking}'
        return f'the package {lacking} is not installed (to have it: {extra})'
    return why_not_in(engine, precision, context)
