"""Every attention unit by name, alone or connected, through one factory."""

from __future__ import annotations

from typing import Any, Dict, Iterable, Mapping, Optional, Tuple, Union

from mxnet import gluon

from model.attention.aff import AFF, IAFF
from model.attention.bam import BAM
from model.attention.ca import CoordinateAttention
from model.attention.cbam import CBAM
from model.attention.dia import DIA, LightLSTM
from model.attention.eca import ECA
from model.attention.gc import GC
from model.attention.ge import GE
from model.attention.inside import Inside
from model.attention.se import SE
from model.attention.sge import SGE
from model.attention.simam import SimAM
from model.attention.sk import SK
from model.attention.triplet import TripletAttention
from model.layers.factories import AttentionFactory, Convolution, NormFactory, batch_norm
from model.registry import ATTENTIONS, CONNECTIONS, Attention, register_attention

__all__ = ['ATTENTIONS', 'CONNECTIONS', 'Attention', 'attention_factory', 'attention_options']


register_attention('se', SE, options=('reduction', 'reduction_divisor', 'unit_bias', 'gate', 'inside'))
register_attention(
    'sk',
    SK,
    options=('reduction', 'reduction_divisor', 'sk_branches', 'sk_split', 'hand_on', 'sample_variance'),
    place='convolution',
)
register_attention('ge', GE, shares=False)
register_attention('eca', ECA, options=('inside',))
register_attention(
    'gc',
    GC,
    options=('reduction', 'reduction_divisor', 'norm_epsilon', 'original_init', 'inside'),
    connection_options=(),
)
register_attention('bam', BAM, options=('reduction', 'norm'), place='entry', connects=False)
register_attention(
    'cbam',
    CBAM,
    options=('reduction', 'unit_bias', 'norm', 'norm_momentum', 'original_init'),
    connection_options=('merge', 'merge_bias', 'adapter_bias', 'connected'),
)
register_attention('sge', SGE, options=('sge_groups',), connection_options=())
register_attention('simam', SimAM, options=('e_lambda', 'inside'), connects=False, shares=False)
register_attention('ca', CoordinateAttention, options=('reduction', 'norm', 'inside'), connects=False)
register_attention('triplet', TripletAttention, options=('norm', 'norm_momentum'), connects=False)
_FUSION = ('reduction', 'norm', 'doubled', 'first_stage')
register_attention('aff', AFF, options=_FUSION, place='sum', connects=False)
register_attention('iaff', IAFF, options=_FUSION, place='sum', connects=False)

# Options that have a more specific name in get_model than in the unit.
_OWN_NAMES = {
    'sk_branches': 'branches',
    'sk_split': 'split',
    'sge_groups': 'groups',
    'adapter': 'adapter_kind',
    'reduction_divisor': 'divisor',
    'unit_bias': 'bias',
    'cell_output': 'output',
}
#: Options of the DIA-LSTM, see :class:`model.attention.dia.LightLSTM`.
OF_THE_LSTM = ('reduction', 'zero_bias', 'layers', 'dropout', 'cell_output', 'bottleneck')
_OF_THE_FACTORY = ('inside', 'first_stage')  # these place the units; no unit reads them


def attention_options(unit: Optional[str], connection: Optional[str]) -> Tuple[str, ...]:
    """Return which options the unit ``unit`` reads, alone or under ``connection``."""
    if connection == 'dia':
        return OF_THE_LSTM
    if unit is None:
        return ()
    row = ATTENTIONS[unit]
    return row.options + ((*row.connection_options, 'through_stages') if connection == 'dca' else ())


def _renamed(options: Mapping[str, Any], chosen: Iterable[str]) -> Dict[str, Any]:
    return {_OWN_NAMES.get(key, key): options[key] for key in chosen if key in options}


def _reduction_at(options: Mapping[str, Any], block: int) -> Dict[str, Any]:
    """Return the options with the single reduction that applies to block number ``block`` of a stage."""
    reduction = options.get('reduction')
    if not isinstance(reduction, (list, tuple)):
        return dict(options)
    if len(reduction) != 2:
        raise ValueError(f'reduction is {reduction!r}: allowed are one number, or two (first block of a stage, others)')
    return {**options, 'reduction': reduction[0 if block == 0 else 1]}


class Alone(AttentionFactory):
    """Units without connection."""

    def __init__(self, row: Attention, norm: NormFactory, options: Mapping[str, Any]) -> None:
        self.row, self.norm, self.options = row, norm, options
        self.inside = bool(options.get('inside'))
        self.place = 'inside' if self.inside else row.place

    def __call__(
        self, channels: int, stage: int, block: int, stride: int = 1, convolution: Optional[Convolution] = None
    ) -> Optional[gluon.HybridBlock]:
        if stage < self.options.get('first_stage', 1) or self.place == 'entry' and (stage == 1 or block > 0):
            return None
        options = _renamed(_reduction_at({**self.options, 'norm': self.norm}, block), self.row.options)
        for key in _OF_THE_FACTORY:
            options.pop(key, None)
        if self.inside:
            before_norm = self.row.build.before_norm
            # In published networks no unit follows the activation of a block that does not widen its
            # input.
            present = before_norm or convolution.expanded
            unit = self._unit(channels, stage, options) if present else None
            return Inside(channels, convolution, unit, before_norm)
        if self.place == 'convolution':
            options['convolution'] = convolution
        return self._unit(channels, stage, options)

    def _unit(self, channels: int, stage: int, options: Mapping[str, Any]) -> gluon.HybridBlock:
        return self.row.build(channels, **options)


class DeeplyConnected(Alone):
    """DCA: every unit except the first merges in what the previous unit passed on.

    This includes connections across stages, unless ``through_stages=False``, which makes the first unit of every stage
    a first one.
    """

    def __init__(self, row: Attention, norm: NormFactory, options: Mapping[str, Any]) -> None:
        if options.get('inside'):
            raise ValueError('inside is True, and units within the branches are not connected: leave dca_ out')
        super().__init__(row, norm, options)
        self.through_stages = options.get('through_stages', True)
        self.previous: Optional[int] = None

    def __call__(
        self, channels: int, stage: int, block: int, stride: int = 1, convolution: Optional[Convolution] = None
    ) -> gluon.HybridBlock:
        unit = super().__call__(channels, stage, block, stride, convolution)
        if block == 0 and not self.through_stages:
            self.previous = None
        options = _renamed(_reduction_at(self.options, block), self.row.connection_options)
        unit.chain(self.previous, stride=stride, norm=self.norm, **options)
        self.previous = channels
        return unit


class Shared(Alone):
    """One unit for all blocks of a stage, with the parameters of a single one.

    Huang, Liang, Liang, Yang, "DIANet", arXiv 1905.10671, describe this as a framework, of which their LSTM is one
    choice; arXiv 2210.16101 studies it with other units. Norms in a unit are shared with it, including running
    statistics.
    """

    def __init__(self, row: Attention, norm: NormFactory, options: Mapping[str, Any]) -> None:
        if isinstance(options.get('reduction'), (list, tuple)):
            raise ValueError(f'reduction is {options["reduction"]!r}: the shared unit of a stage has one number')
        super().__init__(row, norm, options)
        self.stages: Dict[int, Tuple[int, gluon.HybridBlock]] = {}  # of each: the unit's width and the unit

    def _unit(self, channels: int, stage: int, options: Mapping[str, Any]) -> gluon.HybridBlock:
        if stage not in self.stages:
            self.stages[stage] = channels, super()._unit(channels, stage, options)
            return self.stages[stage][1]
        width, unit = self.stages[stage]
        if width != channels:
            raise ValueError(
                f"'share_' asks for one unit in stage {stage}, whose blocks have units of {width} and of {channels} "
                'channels; one unit has one width: leave share_ out'
                + (', or inside' if self.options.get('inside') else '')
            )
        if self.place != 'convolution':
            return unit
        own = super()._unit(channels, stage, options)  # with convolutions of its own
        own.take_layers_of(unit)
        return own


class Recurrent(AttentionFactory):
    """DIA: one LSTM cell for the blocks of a stage."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options
        self.cell: Optional[LightLSTM] = None

    def __call__(
        self, channels: int, stage: int, block: int, stride: int = 1, convolution: Optional[Convolution] = None
    ) -> gluon.HybridBlock:
        if block == 0:
            self.cell = LightLSTM(channels, **self.options)
        return DIA(self.cell, first=block == 0)


def attention_factory(
    unit: Union[None, str, Attention], connection: Optional[str] = None, norm: NormFactory = batch_norm, **options: Any
) -> Optional[AttentionFactory]:
    """Return a new factory, to be used for one network; None for no attention.

    Args:
        unit: a name in ``ATTENTIONS``, a row that is not registered, or None.
        connection: None, ``'dca'`` or ``'shared'`` (both need a unit), or ``'dia'`` (without a unit).
        norm: factory of the batch norms in units and connections.
        **options: those that :func:`attention_options` returns, and ``reduction``, which divides the hidden width of
            the unit or the LSTM, and of a bottleneck adapter; ``adapter``, ``'linear'`` or ``'bottleneck'``, see
            :func:`model.attention.dca.adapter`; ``merge_bias`` and ``adapter_bias``, biases that some of DCANet's
            networks have.
    """
    if connection == 'dia':
        if isinstance(options.get('reduction'), (list, tuple)):
            raise ValueError(f'reduction is {options["reduction"]!r}: the LSTM of a stage has one number')
        return Recurrent(_renamed(options, options))
    if unit is None:
        return None
    kind = {None: Alone, 'dca': DeeplyConnected, 'shared': Shared}[connection]
    return kind(ATTENTIONS[unit] if isinstance(unit, str) else unit, norm, options)
