"""Choose how each operator of a plan is computed: its method, the border it needs, and its parts for threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from inference.engine.bands import Together, banded
from inference.engine.fuse import order
from inference.engine.lower import Lowered
from inference.engine.operators import Map, Operator, Producer, winograd_tiles

if TYPE_CHECKING:
    from inference.engine.places import Places

__all__ = ['Settings', 'arranged', 'winograd_layers']


FEW_TILES = 12  # of a part, which fill the registers of one pass
HEAVY = 1 << 20  # weights that do not stay in the second-level cache while an image passes


class Settings(NamedTuple):
    """The settings that are chosen by measurement.

    ``winograd``: 0, 2 or 4 for each layer that may use it; None: a rule of thumb. ``bands``: for each of `candidates`
    (bands.py), whether the operators take turns. ``head``: the number of operators that run image by image even if
    ``by_image`` is False; all others run on the whole batch.
    """

    threads: int = 1
    batch: int = 1
    by_image: bool = True  # each thread takes whole images; otherwise all threads work together on each operator
    winograd: Optional[Tuple[int, ...]] = None
    bands: Tuple[bool, ...] = ()
    head: int = 0


def arranged(lowered: Lowered, settings: Settings) -> List[Operator]:
    """Return the operators in order, with methods, borders and parts chosen, and those that take turns joined."""
    operators = order(_with_borders(lowered, settings))
    for operator in operators:
        if isinstance(operator, Producer):
            _set_parts(operator, settings)
    # Each thread has whole images, and all have the same number.
    ordered = settings.by_image or settings.threads == 1 or settings.batch % settings.threads == 0
    operators = banded(operators, settings.bands, lowered.lanes, ordered)
    for operator in operators:
        for part in operator.parts if isinstance(operator, Together) else [operator]:
            if isinstance(part, Producer):
                for tensor in filter(None, (part.sums, part.maxima)):
                    tensor.size = part.parts * lowered.padded(part.out.channels)
    return operators


def winograd_layers(operators: Sequence[Operator]) -> List[Tuple[int, int]]:
    """Return the range of operators of each layer that may be computed by Winograd's method."""
    layers = {}
    for k, operator in enumerate(operators):
        number = getattr(operator, 'layer', None)
        if number is not None:
            border = operators[k - 1]
            alone = border.kind != 'border' or border.writes[0] is not operator.reads[0]
            layers[number] = (k if alone else k - 1, k + 1)
    return [layers[number] for number in sorted(layers)]


def _takes_winograd(detail: Dict[str, Any]) -> bool:
    weight = detail['weight']
    return (
        weight.shape[2:] == (3, 3)
        and detail['stride'] == detail['groups'] == 1
        and detail['pad'] == (detail['dilation'],) * 2
        and weight.shape[1] >= 16
        and len(weight) >= 16
    )


def _with_borders(lowered: Lowered, settings: Settings) -> List[Operator]:
    """Return the operators with methods chosen, and with a border around each map that a direct convolution reads."""
    result: List[Operator] = []
    layer = 0
    for operator in lowered.operators:
        if operator.kind == 'convolution':
            detail = operator.detail
            x: Map = detail['x']
            method = 0
            if _takes_winograd(detail):
                thumb = 4 if min(x.height, x.width) // detail['dilation'] >= 12 else 2
                method = thumb if settings.winograd is None else settings.winograd[layer]
                operator.layer = layer
                layer += 1
            if method:
                detail['method'] = method
                operator.kind = 'winograd'
            elif any(detail['pad']):
                result.append(_border(operator, lowered))
            elif detail['stride'] > 1 and detail['weight'].shape[2:] == (1, 1):
                result.append(_sample(operator, lowered))
        result.append(operator)
    return result


def _sample(operator: Producer, lowered: Lowered) -> Operator:
    """Let a 1x1 convolution with a stride read a map of what it uses, whose positions lie side by side."""
    detail = operator.detail
    x, stride, out = detail['x'], detail['stride'], operator.out
    small = lowered.new_map(x.channels, out.height, out.width)
    blocks = lowered.padded(x.channels) // lowered.lanes
    detail.update(x=small, stride=1)
    operator.reads = [small.tensor]

    def numbers(plan: Places) -> List[int]:
        window, mean = [1, 1, stride, stride, 0, 0, out.height, out.width], 1  # the mean of one number is the number
        return [blocks, x.height, x.width, *window, mean, plan.tensor(x.tensor), plan.tensor(small.tensor)]

    return Operator('pool', [x.tensor], [small.tensor], numbers)


def _border(operator: Producer, lowered: Lowered) -> Operator:
    detail = operator.detail
    x: Map = detail['x']
    ph, pw = detail['pad']
    wide = lowered.new_map(x.channels, x.height + 2 * ph, x.width + 2 * pw)
    blocks = lowered.padded(x.channels) // lowered.lanes
    detail['x'] = wide
    operator.reads = [wide.tensor]

    def numbers(plan: Places) -> List[int]:
        return [blocks, x.height, x.width, ph, pw, ph, pw, plan.tensor(x.tensor), plan.tensor(wide.tensor)]

    return Operator('border', [x.tensor], [wide.tensor], numbers)


def _share_weights(operator: Producer, settings: Settings, least: int, outputs: int) -> None:
    """Divide an operator of at least so many weights into parts of so many outputs, which each run for all images."""
    weight = operator.detail['weight']
    if not settings.by_image and weight.size >= least:
        operator.panel_parts = max(operator.panel_parts, len(weight) // outputs)


def _set_parts(operator: Producer, settings: Settings) -> None:
    """Divide the work on an image among several threads, if they share it."""
    shared = not settings.by_image and 1 < settings.threads and settings.batch < 4 * settings.threads
    pieces = 2 * settings.threads if shared else 1
    out = operator.out
    if operator.kind == 'dense':
        operator.parts = 1
        operator.panel_parts = pieces
        _share_weights(operator, settings, HEAVY // 16, 64)
        return
    rows = out.height if operator.kind != 'elementwise' else out.positions
    operator.panel_parts = 1
    if operator.kind == 'convolution':
        weight = operator.detail['weight']
        dense = weight.shape[2:] == (1, 1) and operator.detail['stride'] == 1
        rows = out.positions if dense else out.height
        if out.positions < 200 and weight[0].size >= 256:  # the weights are larger than the map
            operator.parts, operator.panel_parts = 1, pieces
            _share_weights(operator, settings, HEAVY, 32)
            return
    if operator.kind == 'narrow_convolution':
        rows = out.height
        if out.positions < 200:
            operator.parts, operator.panel_parts = 1, pieces
            _share_weights(operator, settings, HEAVY, 32)
            return
    if operator.kind == 'winograd':
        m = operator.detail['method']
        rows = winograd_tiles(out, m, operator.detail['dilation'])
        # Few tiles fill no vectors if they are divided, and each part reads all weights.
        if rows < FEW_TILES * pieces or (m + 2) ** 2 * operator.detail['weight'].size >= 9 * HEAVY:
            operator.parts, operator.panel_parts = 1, settings.threads if shared else 1
            return
    operator.parts = max(1, min(rows, pieces))
