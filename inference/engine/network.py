"""A network as a plan that runs in one call, and the search for the fastest plan."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import mxnet as mx
import numpy as np
from mxnet import gluon

import kernels.engine
from inference.engine.bands import Together, candidates
from inference.engine.calibrate import Observer
from inference.engine.choices import keep, place_of, recalled
from inference.engine.lower import Inputs, Lowered, Unsupported, lower_part
from inference.engine.methods import Settings, winograd_layers
from inference.engine.narrow import KIND_NUMBERS, Narrowing, Range
from inference.engine.plan import Plan, make_outline, make_plan
from inference.engine.rewrite import pool_before_projections
from inference.engine.split import SplitNetwork
from inference.graph import INPUT, Graph, trace
from inference.optimization.fold import fold
from kernels.engine.engine_library import Library, OpenPlan
from model.layers.broadcast import plain_reductions

__all__ = ['EngineNetwork', 'Network', 'Unsupported', 'engine_network', 'ranges_of', 'why_not']

# Methods for a layer: Winograd's F(4,3), F(2,3), or direct computation.
METHODS = (4, 2, 0)
ROUNDS, ENOUGH = 5, 3.0  # the shortest of these times counts; seconds after which two are enough
FEW, SOME = 4, 8  # images of a batch that are timed, image by image and operator by operator
_NEEDED = {'bfloat16': 'AVX512_BF16', 'int8': 'AVX512_VNNI, or AVX_VNNI where it has no AVX-512'}
_CHOICES = {'winograd': [int], 'bands': [bool], 'by_image': bool, 'head': int}
_BETTER = 0.98  # share of the time below which bands are worth it


class EngineNetwork(gluon.Block):
    """``(N, 3, H, W) float32 -> (N, classes) float32`` for inference, on the CPU, without MXNet's operators.

    N is arbitrary; H and W are those of ``input_shape``. Calls from several threads take turns.
    """

    engine = 'own'
    note: Optional[str] = None

    def __init__(
        self,
        plan: Plan,
        input_shape: Sequence[int],
        threads: int,
        library: Optional[Library] = None,
        precision: str = 'float32',
    ) -> None:
        super().__init__()
        self.plan, self.input_shape, self.precision = plan, tuple(input_shape), precision
        self.library = library or kernels.engine.load()
        try:
            self.opened = OpenPlan(self.library, plan.table, plan.weights_array, threads)
        except ValueError as error:
            raise Unsupported(str(error)) from error

    def run(self, images: np.ndarray) -> np.ndarray:
        """Return the answers to images (N, 3, H, W).

        Raises `ValueError` for other sizes than those of ``input_shape``.
        """
        if images.shape[1:] != self.input_shape[1:]:
            raise ValueError(f'images are {images.shape}; this network was made for (N, {self.input_shape[1:]})')
        return self.opened.run(images)

    def forward(self, x: mx.nd.NDArray) -> mx.nd.NDArray:
        if mx.autograd.is_recording():
            raise ValueError('an optimized network has no gradients; train the network that it was made from')
        return mx.nd.from_numpy(self.run(x.asnumpy()), zero_copy=True)

    def profile(self, images: np.ndarray, rounds: int = ROUNDS) -> List[Tuple[str, float, float]]:
        """Return the kind, shortest time in seconds and multiply-adds of each operator, for a batch on one thread."""
        images = np.ascontiguousarray(images[: self.input_shape[0]], np.float32)
        library, handle = self.library, self.opened.handle
        answers = np.empty((len(images), self.opened.outputs), np.float32)
        count = library.size(handle)
        shortest = np.full(count, np.inf)
        for _ in range(rounds):
            library.profile(handle, images.ctypes.data, answers.ctypes.data, len(images))
            shortest = np.minimum(shortest, [library.seconds(handle, k) for k in range(count)])
        return [(library.kind(handle, k).decode(), float(shortest[k]), library.macs(handle, k)) for k in range(count)]

    def seconds(self, images: np.ndarray) -> List[float]:
        """Return the time of each operator in a profile."""
        return [seconds for _, seconds, _ in self.profile(images)]


Network = Union[EngineNetwork, SplitNetwork]


def why_not(precision: str = 'float32', instructions: Optional[str] = None) -> Optional[str]:
    """Return why the engine, or one of its precisions, is not available here, as a phrase; None if it is."""
    found = kernels.engine.load(instructions)
    if isinstance(found, str):
        return found
    if precision in KIND_NUMBERS and not found.narrow(KIND_NUMBERS[precision]):
        return f'its {precision} needs a processor with {_NEEDED[precision]}, which this one lacks'
    return None


def graph_of(net: gluon.HybridBlock) -> Graph:
    """Return a network's graph in the form that the engine takes."""
    with plain_reductions():
        graph = trace(net)
    fold(graph)
    pool_before_projections(graph)
    return graph


def engine_network(
    net: gluon.HybridBlock,
    input_shape: Sequence[int],
    threads: Optional[int] = None,
    instructions: Optional[str] = None,
    narrowing: Optional[Narrowing] = None,
) -> Network:
    """Return ``net`` as a plan for batches of ``input_shape``, chosen by measurement the first time on a machine.

    ``instructions`` is one of `kernels.engine.at_hand`, by default the fastest. ``narrowing`` describes how the network
    computes in bfloat16 or int8, with ranges from :func:`ranges_of`; None means float32.

    Except in int8, operators that the engine does not know run in MXNet between several plans. Raises `Unsupported` if
    too little remains for the engine, or if it is not available here.
    """
    library = _library('float32' if narrowing is None else narrowing.precision, instructions)
    if threads is None:
        threads = int(os.environ.get('OMP_NUM_THREADS') or os.cpu_count() or 1)
    graph = graph_of(net)

    def planned(graph: Graph, inputs: Inputs, shape: Sequence[int]) -> EngineNetwork:
        return _planned(_Maker(graph, inputs, shape, threads, library, narrowing))

    try:
        return planned(graph, {INPUT: (1, *input_shape[1:])}, input_shape)
    except Unsupported:
        if narrowing is not None and narrowing.ranges is not None:
            raise
        split = SplitNetwork(graph, input_shape, library.width, planned)
        split.precision = 'float32' if narrowing is None else narrowing.precision
        return split


def ranges_of(net: gluon.HybridBlock, images: np.ndarray, instructions: Optional[str] = None) -> Tuple[Range, ...]:
    """Return the ranges of all maps that `Narrowing` makes narrow, from real images (N, 3, H, W) in float32."""
    observer, shape = Observer(), (1, *images.shape[1:])
    maker = _Maker(graph_of(net), {INPUT: shape}, shape, 1, _library('float32', instructions), observer)
    network = maker.network(maker.settings(None, True))
    for image in images:
        observer.collect(network.run(image[None])[0])
    return observer.ranges()


def _library(precision: str, instructions: Optional[str]) -> Library:
    reason = why_not(precision, instructions)
    if reason is None:
        return kernels.engine.load(instructions)
    raise Unsupported(f'there is no engine here: {reason}' if why_not('float32', instructions) else reason)


def _planned(maker: _Maker) -> EngineNetwork:
    """Return the plan that is remembered or found to be the fastest."""
    # Packing weights takes most of the start-up time, so the choice is looked up without them.
    outline = maker.outline()
    place = _place(outline, maker)
    known = _known(place)
    counts = (len(winograd_layers(outline.operators)), len(candidates(outline.operators, outline.lanes)))
    if known is not None and (len(known['winograd']), len(known['bands'])) == counts:
        return maker.network(maker.settings(**known))
    chosen = maker.choose(*counts)
    _remember(place, chosen.plan.settings)
    return chosen


class _Maker:
    """A maker of plans for one graph, whose ``inputs`` lie one after another in arrays of ``input_shape``.

    ``rewrite`` is applied to the operators after fusion.
    """

    def __init__(
        self,
        graph: Graph,
        inputs: Inputs,
        input_shape: Sequence[int],
        threads: int,
        library: Library,
        rewrite: Union[Narrowing, Observer, None] = None,
    ) -> None:
        self.graph, self.inputs, self.input_shape = graph, inputs, input_shape
        self.threads, self.library, self.rewrite = threads, library, rewrite
        self.packed: Dict[Any, Any] = {}

    def lowered(self) -> Lowered:
        lowered = lower_part(self.graph, self.inputs, self.library.width)
        if self.rewrite is not None:
            lowered.rewrites.append(self.rewrite)
        return lowered

    def settings(
        self, winograd: Optional[Sequence[int]], by_image: bool, bands: Sequence[bool] = (), head: int = 0
    ) -> Settings:
        methods = None if winograd is None else tuple(winograd)
        return Settings(self.threads, int(self.input_shape[0]), by_image, methods, tuple(bands), head)

    def network(self, settings: Settings) -> EngineNetwork:
        plan = make_plan(self.lowered(), settings, self.packed)
        precision = getattr(self.rewrite, 'precision', 'float32')
        return EngineNetwork(plan, self.input_shape, self.threads, self.library, precision)

    def outline(self) -> Plan:
        return make_outline(self.lowered(), Settings(self.threads, int(self.input_shape[0]), by_image=True))

    def choose(self, layers: int, groups: int) -> EngineNetwork:
        """Return the fastest network.

        Each layer's method is chosen within the whole plan, then the bands, and then how work is shared.
        """
        images = np.random.RandomState(0).standard_normal(tuple(self.input_shape)).astype(np.float32)
        methods = self._methods(images, layers)
        bands = self._bands(images, methods, groups)
        ways = [self.settings(methods, True, bands)]
        if self.threads > 1:
            ways.append(self.settings(methods, False, bands))
        if len(images) > 1:
            head = self._head(images, methods, bands)
            if head:
                ways.append(self.settings(methods, False, bands, head))
        elif self.threads > 1:
            del ways[0]
        networks = [self.network(way) for way in ways]
        return networks[0] if len(networks) == 1 else networks[_fastest(networks, images)]

    def _methods(self, images: np.ndarray, layers: int) -> List[int]:
        best = [(float('inf'), 0)] * layers
        for method in METHODS if layers else ():
            network = self.network(self.settings([method] * layers, True))
            seconds = network.seconds(images[:FEW])
            for k, (begin, end) in enumerate(winograd_layers(network.plan.operators)):
                best[k] = min(best[k], (sum(seconds[begin:end]), method))
        return [method for _, method in best]

    def _bands(self, images: np.ndarray, methods: Sequence[int], groups: int) -> List[bool]:
        """Return which of the candidates are faster if they take turns."""
        if not groups:
            return []
        apart, together = (self.network(self.settings(methods, True, [turns] * groups)) for turns in (False, True))
        alone, joined = (network.seconds(images[:FEW]) for network in (apart, together))
        found = [k for k, operator in enumerate(together.plan.operators) if isinstance(operator, Together)]
        places = candidates(apart.plan.operators, apart.plan.lanes)
        return [bool(joined[k] < _BETTER * sum(alone[a:z])) for k, (a, z, _) in zip(found, places)]

    def _head(self, images: np.ndarray, methods: Sequence[int], bands: Sequence[bool]) -> int:
        """Return how many operators at the beginning run faster image by image than on the batch; 0 if all or none."""
        ways = (self.network(self.settings(methods, by_image, bands)) for by_image in (True, False))
        single, whole = (network.seconds(images[:SOME]) for network in ways)
        if len(single) != len(whole):  # with threads some do not take turns
            return 0
        times = np.append(0, np.cumsum(single)) + np.append(np.cumsum(whole[::-1])[::-1], 0)
        head = int(np.argmin(times))
        return head if head < len(single) else 0


def _fastest(networks: Sequence[EngineNetwork], images: np.ndarray) -> int:
    times = [float('inf')] * len(networks)
    begin = time.perf_counter()
    for turn in range(ROUNDS):
        for k, network in enumerate(networks):
            start = time.perf_counter()
            network.run(images)
            times[k] = min(times[k], time.perf_counter() - start)
        if turn and time.perf_counter() - begin > ENOUGH:
            break
    return int(np.argmin(times))


def _place(plan: Plan, maker: _Maker) -> Path:
    """Return where the choice for such a plan is kept, for this processor and these sources."""
    return place_of(maker.library.path.name, maker.threads, tuple(maker.input_shape), plan.table.tobytes())


def _known(place: Path) -> Optional[Dict[str, Any]]:
    known = recalled(place, _CHOICES)
    return known if known is not None and set(known['winograd']) <= set(METHODS) else None


def _remember(place: Path, settings: Settings) -> None:
    lists = {'winograd': list(settings.winograd or ()), 'bands': list(settings.bands)}
    keep(place, {**lists, 'by_image': settings.by_image, 'head': settings.head})
