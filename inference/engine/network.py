"""A network as a plan that runs in one call, and how the plan is chosen."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet import gluon

import kernels.engine
from common.files import make_folder, write_json
from common.schema import read_json
from environment.cpu import processor
from inference.engine.lower import Unsupported, lower
from inference.engine.plan import Plan, Settings, make_outline, make_plan, winograd_layers
from inference.engine.rewrite import pool_before_projections
from inference.graph import Graph, trace
from inference.optimization.fold import fold
from model.layers.broadcast import plain_reductions

__all__ = ['EngineNetwork', 'Unsupported', 'engine_network', 'why_not']

# What a layer may be computed by: Winograd's F(4,3), F(2,3), or as it is defined.
METHODS = (4, 2, 0)
ROUNDS = 5  # of which the shortest time counts
_CHOICES = {'winograd': [int], 'by_image': bool}


class EngineNetwork(gluon.Block):
    """``(N, 3, H, W) float32 -> (N, classes) float32`` for inference, on the CPU, without MXNet's operators.

    Any N; H and W are those of ``input_shape``. Calls from several threads take turns.
    """

    engine = 'own'

    def __init__(self, plan: Plan, input_shape: Sequence[int], outputs: int, threads: int) -> None:
        super().__init__()
        self.plan, self.input_shape, self.precision = plan, tuple(input_shape), 'float32'
        self._outputs, self._threads = outputs, threads
        self._handle: Any = None
        self._process = 0
        self._open()

    def _open(self) -> None:
        library = kernels.engine.load()
        plan = self.plan
        handle = library.open(
            plan.table.ctypes.data,
            plan.table.size,
            plan.weights_array.ctypes.data,
            plan.weights_array.size,
            self._threads,
        )
        if not handle:
            raise Unsupported(library.error().decode())
        self._library, self._handle, self._process = library, handle, os.getpid()

    def __del__(self) -> None:
        # A child of fork has none of the threads that closing would wait for.
        if getattr(self, '_handle', None) and self._process == os.getpid():
            self._library.close(self._handle)

    def run(self, images: np.ndarray) -> np.ndarray:
        """Return the answers to images (N, 3, H, W); `ValueError` for other sizes than those of ``input_shape``."""
        if images.shape[1:] != self.input_shape[1:]:
            raise ValueError(f'images are {images.shape}; this network was made for (N, {self.input_shape[1:]})')
        if self._process != os.getpid():
            self._open()
        images = np.ascontiguousarray(images, np.float32)
        answers = np.empty((len(images), self._outputs), np.float32)
        if len(images) and self._library.run(self._handle, images.ctypes.data, answers.ctypes.data, len(images)):
            raise MemoryError(self._library.error().decode())
        return answers

    def forward(self, x: mx.nd.NDArray) -> mx.nd.NDArray:
        if mx.autograd.is_recording():
            raise ValueError('an optimized network has no gradients; train the network that it was made from')
        return mx.nd.from_numpy(self.run(x.asnumpy()), zero_copy=True)

    def profile(self, images: np.ndarray, rounds: int = ROUNDS) -> List[Tuple[str, float, float]]:
        """Return kind, shortest time in seconds and multiply-adds of each operator, for a batch on one thread."""
        images = np.ascontiguousarray(images[: self.input_shape[0]], np.float32)
        answers = np.empty((len(images), self._outputs), np.float32)
        count = self._library.size(self._handle)
        shortest = np.full(count, np.inf)
        for _ in range(rounds):
            self._library.profile(self._handle, images.ctypes.data, answers.ctypes.data, len(images))
            shortest = np.minimum(shortest, [self._library.seconds(self._handle, k) for k in range(count)])
        return [
            (self._library.kind(self._handle, k).decode(), float(shortest[k]), self._library.macs(self._handle, k))
            for k in range(count)
        ]


def why_not() -> Optional[str]:
    """Why there is no engine on this machine, as a phrase; None if there is."""
    found = kernels.engine.load()
    return found if isinstance(found, str) else None


def graph_of(net: gluon.HybridBlock) -> Graph:
    """Return the graph of a network as the engine takes it."""
    with plain_reductions():
        graph = trace(net)
    fold(graph)
    pool_before_projections(graph)
    return graph


def engine_network(net: gluon.HybridBlock, input_shape: Sequence[int], threads: Optional[int] = None) -> EngineNetwork:
    """Return ``net`` as a plan for batches of ``input_shape``, chosen by measurement the first time on a machine.

    `Unsupported` with what of the network the engine does not know, or why there is no engine here.
    """
    reason = why_not()
    if reason is not None:
        raise Unsupported(f'there is no engine here: {reason}')
    if threads is None:
        threads = int(os.environ.get('OMP_NUM_THREADS') or os.cpu_count() or 1)
    maker = _Maker(graph_of(net), input_shape, threads)
    # Packing weights takes most of the time that a start takes: the choice is looked for without any.
    outline = maker.outline()
    place = _place(outline, threads, input_shape)
    known = _known(place)
    if known is not None and len(known['winograd']) == len(winograd_layers(outline)):
        return maker.network(maker.settings(tuple(known['winograd']), known['by_image']))
    chosen = maker.choose(len(winograd_layers(outline)))
    _remember(place, chosen.plan.settings)
    return chosen


class _Maker:
    """Makes plans of one graph."""

    def __init__(self, graph: Graph, input_shape: Sequence[int], threads: int) -> None:
        self.graph, self.input_shape, self.threads = graph, input_shape, threads
        self.packed: Dict[Any, Any] = {}

    def settings(self, winograd: Tuple[int, ...], by_image: bool) -> Settings:
        return Settings(self.threads, int(self.input_shape[0]), by_image, winograd)

    def network(self, settings: Settings) -> EngineNetwork:
        lowered = lower(self.graph, self.input_shape, kernels.engine.load().width)
        outputs = lowered.output.size
        return EngineNetwork(make_plan(lowered, settings, self.packed), self.input_shape, outputs, self.threads)

    def outline(self) -> Plan:
        lowered = lower(self.graph, self.input_shape, kernels.engine.load().width)
        return make_outline(lowered, Settings(self.threads, int(self.input_shape[0]), by_image=True))

    def choose(self, layers: int) -> EngineNetwork:
        """The fastest method of each layer, within the whole plan; then how threads share the work."""
        images = np.random.RandomState(0).standard_normal(tuple(self.input_shape)).astype(np.float32)
        best = [(float('inf'), 0)] * layers
        for method in METHODS if layers else ():
            network = self.network(self.settings((method,) * layers, True))
            seconds = [time for _, time, _ in network.profile(images)]
            for k, (begin, end) in enumerate(winograd_layers(network.plan)):
                best[k] = min(best[k], (sum(seconds[begin:end]), method))
        methods = tuple(method for _, method in best)
        ways = [True] if self.threads == 1 else [False, True] if self.input_shape[0] > 1 else [False]
        networks = [self.network(self.settings(methods, way)) for way in ways]
        if len(networks) == 1:
            return networks[0]
        times = [float('inf')] * len(networks)
        for _ in range(ROUNDS):
            for k, network in enumerate(networks):
                start = time.perf_counter()
                network.run(images)
                times[k] = min(times[k], time.perf_counter() - start)
        return networks[int(np.argmin(times))]


def _place(plan: Plan, threads: int, input_shape: Sequence[int]) -> Path:
    """Where the choice for such a plan is kept, on such a processor and with these sources."""
    cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
    words = (*processor(), kernels.engine.load().path.name, threads, tuple(input_shape))
    key = hashlib.sha256(repr(words).encode() + plan.table.tobytes()).hexdigest()[:24]
    return cache / 'attention-networks' / 'engine' / f'{key}.json'


def _known(place: Path) -> Optional[Dict[str, Any]]:
    if os.environ.get('ATTENTION_ENGINE_CACHE') == '0' or not place.exists():
        return None
    try:
        known = read_json(place, _CHOICES)
    except (OSError, ValueError):  # measured again and written anew
        return None
    return known if set(known['winograd']) <= set(METHODS) else None


def _remember(place: Path, settings: Settings) -> None:
    from environment import UserError

    if os.environ.get('ATTENTION_ENGINE_CACHE') == '0':
        return
    try:
        make_folder(place.parent)
        write_json(place, {'winograd': list(settings.winograd or ()), 'by_image': settings.by_image})
    except UserError:
        pass  # nothing is lost but time: it is measured again
