"""Gluon's layers, and our own, as layers of PyTorch."""

from __future__ import annotations

from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple

from mxnet import gluon
from mxnet.gluon import nn

from inference.torch_source.operators import Text, call
from model.activation.plain import SELU, PReLU, ReLU6
from model.layers.group_norm import GroupNorm
from model.layers.input_norm import InputNorm
from model.layers.pool import GlobalAvgPool
from model.layers.sample_variance import SampleVarianceNorm
from model.layers.single_map import SingleMapConv

__all__ = ['Argument', 'Layer', 'layer_of']


class Argument(NamedTuple):
    """An argument of a layer's constructor.

    ``family`` says what it counts: arguments of one family that always agree become one argument of the block.
    ``default`` is PyTorch's, None where it has none; those without come first, and without their names.
    """

    name: str
    value: Any
    family: str
    default: Any = None


class Layer(NamedTuple):
    """``name(*arguments)``; ``after`` wraps what a call of it gives, and ``end`` is written behind the constructor."""

    name: str
    arguments: Tuple[Argument, ...] = ()
    after: Optional[Callable[[Text], Text]] = None
    end: str = ''


def _one(pair: Any) -> Any:
    if isinstance(pair, (list, tuple)):
        return pair[0] if len(set(pair)) == 1 else tuple(pair)
    return pair


def _acted(block: gluon.Block) -> Optional[Callable[[Text], Text]]:
    act = getattr(block, 'act', None)
    if act is None:
        return None
    kind = act._act_type
    return lambda text: call('F.relu' if kind == 'relu' else f'torch.{kind}', text)


def _convolution(block: Any) -> Layer:
    own = block._kwargs
    axes = len(own['kernel'])
    arguments = [
        Argument('in_channels', block._in_channels or block.weight.shape[1] * own['num_group'], 'channels'),
        Argument('out_channels', own['num_filter'], 'channels'),
        Argument('kernel_size', _one(own['kernel']), 'kernel'),
        Argument('stride', _one(own['stride']), 'stride', 1),
        Argument('padding', _one(own['pad']), 'padding', 0),
        Argument('dilation', _one(own['dilate']), 'dilation', 1),
        Argument('groups', own['num_group'], 'channels', 1),
        Argument('bias', not own['no_bias'], 'bias', True),
    ]
    return Layer(f'nn.Conv{axes}d', tuple(arguments), _acted(block))


def _dense(block: nn.Dense) -> Layer:
    arguments = [
        Argument('in_features', block.weight.shape[1], 'channels'),
        Argument('out_features', block.weight.shape[0], 'channels'),
        Argument('bias', block.bias is not None, 'bias', True),
    ]
    return Layer('nn.Linear', tuple(arguments), _acted(block))


def _momentum(own: Dict[str, Any]) -> float:
    """Return the momentum of running statistics in PyTorch's sense, the share of the new values."""
    return float(f'{1 - own["momentum"]:.6g}')


def _batch_norm(block: nn.BatchNorm) -> Layer:
    own = block._kwargs
    arguments = [
        Argument('num_features', block.gamma.shape[0], 'channels'),
        Argument('eps', own['eps'], 'eps', 1e-5),
        Argument('momentum', _momentum(own), 'momentum', 0.1),
        Argument('frozen', bool(own['use_global_stats']), 'frozen', False),
    ]
    if isinstance(block, SampleVarianceNorm) and not own['use_global_stats']:
        return Layer('nn.BatchNorm2d', tuple(arguments[:-1]))
    return Layer('BatchNorm', tuple(arguments), None, '.requires_grad_(False)' if own['fix_gamma'] else '')


def _input_norm(block: InputNorm) -> Layer:
    updates = block.gamma.grad_req != 'null'
    own = block._kwargs
    arguments = [
        Argument('num_features', block.gamma.shape[0], 'channels'),
        Argument('momentum', _momentum(own) if updates else 0.0, 'momentum', 0.1),
        Argument('frozen', own['use_global_stats'], 'frozen', False),
    ]
    return Layer('InputNorm', tuple(arguments))


def _pool(block: Any) -> Layer:
    own = block._kwargs
    average = own['pool_type'] == 'avg'
    arguments = [
        Argument('kernel_size', _one(own['kernel']), 'kernel'),
        Argument('stride', _one(own['stride']), 'stride', False),
        Argument('padding', _one(own['pad']), 'padding', 0),
        Argument('ceil_mode', own['pooling_convention'] == 'full', 'ceil', False),
    ]
    if average:
        arguments.append(Argument('count_include_pad', own.get('count_include_pad', True) is not False, 'count', True))
    return Layer('nn.AvgPool2d' if average else 'nn.MaxPool2d', tuple(arguments))


def _layer_norm(block: nn.LayerNorm) -> Optional[Layer]:
    if block._axis not in (-1,):
        return None
    arguments = [
        Argument('normalized_shape', block.gamma.shape[0], 'channels'),
        Argument('eps', block._epsilon, 'eps', 1e-5),
    ]
    return Layer('nn.LayerNorm', tuple(arguments))


def _group_norm(block: GroupNorm) -> Layer:
    arguments = [
        Argument('num_groups', block._groups, 'groups'),
        Argument('num_channels', block.gamma.shape[0], 'channels'),
        Argument('eps', block._epsilon, 'eps', 1e-5),
    ]
    return Layer('nn.GroupNorm', tuple(arguments))


def _selu(block: SELU) -> Layer:
    return Layer('SELU' if block.mxnet_gradient else 'nn.SELU')


_ACTIVATIONS = {'relu': 'nn.ReLU', 'sigmoid': 'nn.Sigmoid', 'tanh': 'nn.Tanh', 'softrelu': 'nn.Softplus'}

# By exact class: a subclass may compute something else.
_LAYERS: Dict[type, Callable[[Any], Optional[Layer]]] = {
    **dict.fromkeys((nn.Conv1D, nn.Conv2D, SingleMapConv), _convolution),
    nn.Dense: _dense,
    **dict.fromkeys((nn.BatchNorm, SampleVarianceNorm), _batch_norm),
    InputNorm: _input_norm,
    **dict.fromkeys((nn.MaxPool2D, nn.AvgPool2D), _pool),
    GlobalAvgPool: lambda block: Layer('nn.AdaptiveAvgPool2d', (Argument('output_size', 1, 'size'),)),
    nn.GlobalAvgPool2D: lambda block: Layer('nn.AdaptiveAvgPool2d', (Argument('output_size', 1, 'size'),)),
    nn.LayerNorm: _layer_norm,
    GroupNorm: _group_norm,
    nn.Activation: lambda block: Layer(_ACTIVATIONS[block._act_type]) if block._act_type in _ACTIVATIONS else None,
    nn.Dropout: lambda block: Layer('nn.Dropout', (Argument('p', block._rate, 'rate', 0.5),)),
    nn.Flatten: lambda block: Layer('nn.Flatten'),
    ReLU6: lambda block: Layer('nn.ReLU6'),
    nn.LeakyReLU: lambda block: Layer('nn.LeakyReLU', (Argument('negative_slope', block._alpha, 'slope', 0.01),)),
    nn.ELU: lambda block: Layer('nn.ELU', (Argument('alpha', block._alpha, 'slope', 1.0),)),
    SELU: _selu,
    nn.GELU: lambda block: Layer('nn.GELU'),
    nn.Swish: lambda block: Layer('nn.SiLU') if block._beta == 1 else None,
    PReLU: lambda block: Layer('nn.PReLU'),
}


def layer_of(block: gluon.Block) -> Optional[Layer]:
    """Return the layer of PyTorch that does what ``block`` does; None for blocks that are made of others."""
    make = _LAYERS.get(type(block))
    return make(block) if make else None
