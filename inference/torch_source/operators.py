"""MXNet's operators as expressions of PyTorch."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

__all__ = ['ATOM', 'FORMS', 'OPERATORS', 'SCALARS', 'Text', 'call']

# How tightly an expression holds together: sums, products, signs, names and calls.
SUM, PRODUCT, SIGN, ATOM = 1, 2, 3, 4


class Text(str):
    """An expression, its precedence, and the number of axes of its value, 0 if that does not matter."""

    level: int
    ndim: int

    def __new__(cls, text: str, level: int = ATOM, ndim: int = 0) -> Text:
        made = super().__new__(cls, text)
        made.level, made.ndim = level, ndim
        return made


def _part(value: Any, level: int) -> str:
    """Return an operand, in parentheses where it holds together less tightly than ``level``."""
    if not isinstance(value, Text):
        value = Text(repr(value), ATOM if not isinstance(value, (int, float)) or value >= 0 else SIGN)
    return str(value) if value.level >= level else f'({value})'


def call(name: str, *inputs: Any, **options: Any) -> Text:
    """Write ``name(*inputs, **options)``."""
    given = [_part(value, 0) for value in inputs]
    return Text(f'{name}({", ".join([*given, *(f"{key}={_part(value, 0)}" for key, value in options.items())])})')


def method(x: Any, name: str, *inputs: Any, **options: Any) -> Text:
    """Write ``x.name(*inputs, **options)``."""
    return call(f'{_part(x, ATOM)}.{name}', *inputs, **options)


def index(x: Any, place: str) -> Text:
    """Write ``x[place]``."""
    return Text(f'{_part(x, ATOM)}[{place}]')


def _sum(x: Any, y: Any) -> Text:
    return Text(f'{_part(x, SUM)} + {_part(y, SUM)}', SUM)


def _difference(x: Any, y: Any) -> Text:
    return Text(f'{_part(x, SUM)} - {_part(y, PRODUCT)}', SUM)


def _product(x: Any, y: Any) -> Text:
    return Text(f'{_part(x, PRODUCT)} * {_part(y, PRODUCT)}', PRODUCT)


def _quotient(x: Any, y: Any) -> Text:
    return Text(f'{_part(x, PRODUCT)} / {_part(y, SIGN)}', PRODUCT)


def _negative(x: Any) -> Text:
    return Text(f'-{_part(x, SIGN)}', SIGN)


#: What Python's own operators compute, and how they are written.
SCALARS: Dict[str, Tuple[Callable[..., Any], Callable[..., Text]]] = {
    '_plus': (lambda x, y: _broadcast(x, y, 'broadcast_add', lambda: x + y), _sum),
    '_minus': (lambda x, y: _broadcast(x, y, 'broadcast_sub', lambda: x - y), _difference),
    '_rminus': (lambda x, y: y - x, lambda x, y: _difference(y, x)),
    '_times': (lambda x, y: _broadcast(x, y, 'broadcast_mul', lambda: x * y), _product),
    '_over': (lambda x, y: _broadcast(x, y, 'broadcast_div', lambda: x / y), _quotient),
    '_rover': (lambda x, y: y / x, lambda x, y: _quotient(y, x)),
    '_negative': (lambda x: -x, _negative),
}


def _broadcast(x: Any, y: Any, name: str, plain: Callable[[], Any]) -> Any:
    import mxnet as mx

    return getattr(mx.nd, name)(x, y) if isinstance(y, mx.nd.NDArray) else plain()


def _axes(axis: Any) -> Any:
    return tuple(axis) if isinstance(axis, (list, tuple)) else axis


def _reduction(name: str) -> Callable[..., Text]:
    def write(x: Text, axis: Any = None, keepdims: bool = False) -> Text:
        given = [] if axis is None or axis == () else [_axes(axis)]
        return method(x, name, *given, **({'keepdim': True} if keepdims else {}))

    return write


_UNARY = {'relu': 'F.relu', 'softrelu': 'F.softplus', 'softsign': 'F.softsign', 'log_sigmoid': 'F.logsigmoid'}


def _activation(x: Text, act_type: str) -> Text:
    return call(_UNARY.get(act_type, f'torch.{act_type}'), x)


def _leaky_relu(x: Text, act_type: str = 'leaky', slope: float = 0.25) -> Text:
    if act_type == 'elu':
        return call('F.elu', x, **({} if slope == 1 else {'alpha': slope}))
    if act_type == 'leaky':
        return call('F.leaky_relu', x, slope)
    return call({'gelu': 'F.gelu', 'selu': 'F.selu'}[act_type], x)


def _pooling(x: Text, **options: Any) -> Text:
    kind = options.get('pool_type', 'max')
    if options.get('global_pool'):
        return method(x, 'mean', (2, 3), keepdim=True) if kind == 'avg' else method(x, 'amax', (2, 3), keepdim=True)
    kernel, stride = options['kernel'], options.get('stride', (1, 1))
    more: Dict[str, Any] = {'stride': _one(stride)}
    if any(options.get('pad', ())):
        more['padding'] = _one(options['pad'])
    if options.get('pooling_convention', 'valid') == 'full':
        more['ceil_mode'] = True
    if kind == 'avg' and not options.get('count_include_pad', True):
        more['count_include_pad'] = False
    return call('F.avg_pool2d' if kind == 'avg' else 'F.max_pool2d', x, _one(kernel), **more)


def _one(pair: Any) -> Any:
    """Return a number for a pair of twice the same."""
    if isinstance(pair, (list, tuple)):
        return pair[0] if len(set(pair)) == 1 else tuple(pair)
    return pair


def _reshape(x: Text, shape: Sequence[int]) -> Text:
    """Interpret MXNet's codes: 0 copies an extent, -1 is what is left, -2 copies the rest, -3 is a product of two."""
    shape = tuple(shape)
    if x.ndim and shape[:-1] == (0,) * (len(shape) - 1) and shape[-1] == -1 and len(shape) < x.ndim:
        return method(x, 'flatten', len(shape) - 1)
    if x.ndim and shape[: x.ndim] == (0,) * x.ndim and set(shape[x.ndim :]) == {1}:
        return index(x, ', '.join([':'] * x.ndim + ['None'] * (len(shape) - x.ndim)))
    if shape[0] == -3 and set(shape[1:]) <= {0}:
        return method(x, 'flatten', 0, 1)
    if shape == (0, 0, 1, -1):
        return index(method(x, 'flatten', 2), ':, :, None')
    if x.ndim == 2 and shape[0] == 0 and 0 not in shape[1:] and min(shape) >= -1:
        return method(x, 'unflatten', 1, shape[1:])
    sides: List[Any] = []
    at = 0
    for code in shape:
        if code == 0:
            sides.append(Text(f'{_part(x, ATOM)}.shape[{at}]'))
        elif code == -3:
            sides.append(-1 if -1 not in shape and shape.count(-3) == 1 else _product(*_extents(x, at)))
        elif code == -2 or code < -3:
            raise ValueError(f'a reshape to {shape} has no form in PyTorch here')
        else:
            sides.append(code)
        at += 2 if code == -3 else 1
    return method(x, 'reshape', *sides)


def _extents(x: Text, at: int) -> List[Text]:
    return [Text(f'{_part(x, ATOM)}.shape[{place}]') for place in (at, at + 1)]


def _reshape_like(x: Text, like: Text, **ends: Optional[int]) -> Text:
    if not ends:
        return method(x, 'reshape', Text(f'{_part(like, ATOM)}.shape'))
    begin, end = ends['lhs_begin'], ends['lhs_end']
    sizes = Text(f'{_part(like, ATOM)}.shape[{ends["rhs_begin"]}:{ends["rhs_end"]}]')
    if end == begin + 1:
        return method(x, 'unflatten', begin, sizes)
    shape = f'{_part(x, ATOM)}.shape'
    before = [f'*{shape}[:{begin}]'] if begin else []
    return method(x, 'reshape', *map(Text, [*before, f'*{sizes}', f'*{shape}[{end}:]']))


def _slice_axis(x: Text, axis: int, begin: int, end: Optional[int]) -> Text:
    if axis < 0:
        raise ValueError('a slice along an axis that is counted from the end has no form in PyTorch here')
    return index(x, ', '.join([':'] * axis + [f'{begin or ""}:{"" if end is None else end}']))


def _slice_like(x: Text, like: Text, axes: Sequence[int]) -> Text:
    places = [':'] * (max(axes) + 1)
    for axis in axes:
        places[axis] = f':{_part(like, ATOM)}.shape[{axis}]'
    return index(x, ', '.join(places))


def _batch_dot(x: Text, y: Text, transpose_a: bool = False, transpose_b: bool = False) -> Text:
    x, y = (
        Text(f'{_part(each, ATOM)}.mT') if turned else each for each, turned in ((x, transpose_a), (y, transpose_b))
    )
    return Text(f'{_part(x, PRODUCT)} @ {_part(y, SIGN)}', PRODUCT)


def _split(x: Text, num_outputs: int, axis: int = 1, squeeze_axis: bool = False) -> Text:
    return method(x, 'unbind', axis) if squeeze_axis else call('torch.chunk', x, num_outputs, axis)


def _softmax(x: Text, axis: int = -1) -> Text:
    return method(x, 'softmax', axis)


def _resize(x: Text, like: Text, mode: str, align_corners: bool = True) -> Text:
    if mode != 'like':
        raise ValueError(f'BilinearResize2D of the mode {mode} has no form in PyTorch here')
    size = Text(f'{_part(like, ATOM)}.shape[2:]')
    return call('F.interpolate', x, size, mode='bilinear', align_corners=align_corners)


def _joined(name: str) -> Callable[..., Text]:
    def write(*inputs: Text, dim: Optional[int] = None, axis: Optional[int] = None) -> Text:
        place = next((each for each in (dim, axis) if each is not None), 1 if name == 'cat' else 0)
        return call(f'torch.{name}', Text(f'[{", ".join(inputs)}]'), place)

    return write


def _extremum(name: str) -> Callable[..., Text]:
    return lambda x, y: call(f'torch.{name}', x, y) if isinstance(y, Text) else method(x, 'clamp', y)


def _clip(x: Text, a_min: float, a_max: float) -> Text:
    return method(x, 'clamp', a_min, a_max)


def _same(x: Text, **options: Any) -> Text:
    return Text(x, x.level, x.ndim)


OPERATORS: Dict[str, Callable[..., Text]] = {
    **dict.fromkeys(('elemwise_add', 'broadcast_add', 'broadcast_plus'), _sum),
    **dict.fromkeys(('elemwise_sub', 'broadcast_sub', 'broadcast_minus'), _difference),
    **dict.fromkeys(('elemwise_mul', 'broadcast_mul'), _product),
    **dict.fromkeys(('elemwise_div', 'broadcast_div'), _quotient),
    **{
        name: lambda x, name=name: call(f'torch.{name}', x)
        for name in 'sigmoid tanh exp log sqrt rsqrt abs erf'.split()
    },
    'relu': lambda x: call('F.relu', x),
    'square': lambda x: method(x, 'square'),
    'negative': _negative,
    'Activation': _activation,
    'LeakyReLU': _leaky_relu,
    'hard_sigmoid': lambda x, alpha=0.2, beta=0.5: method(_sum(_product(x, alpha), beta), 'clamp', 0, 1),
    'clip': _clip,
    **dict.fromkeys(('maximum', 'broadcast_maximum'), _extremum('maximum')),
    'broadcast_minimum': lambda x, y: call('torch.minimum', x, y),
    'mean': _reduction('mean'),
    'sum': _reduction('sum'),
    'max': _reduction('amax'),
    'min': _reduction('amin'),
    'softmax': _softmax,
    'Pooling': _pooling,
    'contrib.AdaptiveAvgPooling2D': lambda x, output_size: call('F.adaptive_avg_pool2d', x, output_size),
    'contrib.BilinearResize2D': _resize,
    'dot': lambda x, y: Text(f'{_part(x, PRODUCT)} @ {_part(y, SIGN)}', PRODUCT),
    'batch_dot': _batch_dot,
    'reshape': _reshape,
    'Reshape': _reshape,
    'reshape_like': _reshape_like,
    'Flatten': lambda x: method(x, 'flatten', 1),
    'flatten': lambda x: method(x, 'flatten', 1),
    'expand_dims': lambda x, axis: method(x, 'unsqueeze', axis),
    'squeeze': lambda x, axis: method(x, 'squeeze', axis),
    'transpose': lambda x, axes: method(x, 'permute', *axes),
    'swapaxes': lambda x, dim1, dim2: method(x, 'transpose', dim1, dim2),
    'concat': _joined('cat'),
    'stack': _joined('stack'),
    'split': _split,
    'slice_axis': _slice_axis,
    'slice_like': _slice_like,
    'reverse': lambda x, axis: method(x, 'flip', axis),
    'broadcast_like': lambda x, y: method(x, 'expand_as', y),
    'ones_like': lambda x: call('torch.ones_like', x),
    'zeros_like': lambda x: call('torch.zeros_like', x),
    'BlockGrad': lambda x: method(x, 'detach'),
    'identity': _same,
}


def _scale_positions(x: Text, gate: Text, channels: int, groups: int = 1) -> Text:
    if groups == 1:
        return _product(x, gate)
    parts = method(x, 'unflatten', 1, (groups, channels // groups))
    return method(_product(parts, index(gate, ':, :, None')), 'flatten', 1, 2)


def _over_space(write: Callable[..., Text]) -> Callable[..., Text]:
    return lambda x, vector: write(x, index(vector, ':, :, None, None'))


def _row_and_column_means(x: Text) -> Text:
    return Text(f'{method(x, "mean", 3, keepdim=True)}, {index(method(x, "mean", 2), ":, :, :, None")}', 0)


def _max_and_mean(x: Text, axis: int) -> Text:
    return call('torch.stack', Text(f'[{method(x, "max", axis)}.values, {method(x, "mean", axis)}]'), 1)


def _channel_max_and_mean(x: Text, channels: int) -> Text:
    maximum = f'{method(x, "max", 1, keepdim=True)}.values'
    return call('torch.cat', Text(f'[{maximum}, {method(x, "mean", 1, keepdim=True)}]'), 1)


#: The functions of :mod:`model.layers.broadcast` that are written as a whole, as PyTorch has short forms of them. A
#: maximum's gradient goes to one position in both.
FORMS: Dict[str, Callable[..., Text]] = {
    'scale_map': _product,
    'scale_channels': _over_space(_product),
    'add_to_channels': _over_space(_sum),
    'add_to_positions': _sum,
    'channels_times_positions': lambda vector, positions: _product(index(vector, ':, :, None, None'), positions),
    'scale_positions': _scale_positions,
    'rows_times_columns': _product,
    'rows_plus_columns': _sum,
    'row_and_column_means': _row_and_column_means,
    'sample_variance': lambda x, mean_square: call('sample_variance', x, mean_square),
    'spatial_max': lambda x: Text(f'{method(method(x, "flatten", 2), "max", 2)}.values'),
    'max_and_mean': _max_and_mean,
    'channel_max_and_mean': _channel_max_and_mean,
}
