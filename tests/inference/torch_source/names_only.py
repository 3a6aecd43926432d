"""Stand in for torch on machines without it: layers have their parameters, and nothing else."""

import sys
import types
from math import prod


class Parameter:
    def __init__(self, shape):
        self.shape, self.trained = tuple(shape), True


class Buffer(Parameter):
    pass


class Module:
    def __init__(self):
        self.__dict__['own'], self.__dict__['children'] = {}, {}

    def __setattr__(self, name, value):
        table = self.own if isinstance(value, Parameter) else self.children if isinstance(value, Module) else None
        if table is None:
            object.__setattr__(self, name, value)
        else:
            table[name] = value

    def __getattr__(self, name):
        for table in (self.__dict__['children'], self.__dict__['own']):
            if name in table:
                return table[name]
        raise AttributeError(name)

    def __getitem__(self, place):
        return list(self.children.values())[place]

    def requires_grad_(self, wanted):
        for each in self.parameters().values():
            each.trained = wanted
        return self

    def parameters(self, prefix=''):
        found = {prefix + name: each for name, each in self.own.items()}
        for name, child in self.children.items():
            found.update(child.parameters(f'{prefix}{name}.'))
        return found


class Sequential(Module):
    def __init__(self, *layers):
        super().__init__()
        for number, layer in enumerate(layers):
            self.children[str(number)] = layer


def layer(*names):
    """A layer without parameters."""
    return type(names[0], (Module,), {'__init__': lambda self, *given, **options: Module.__init__(self)})


def convolution(axes):
    class Conv(Module):
        def __init__(self, inner, outer, kernel, stride=1, padding=0, dilation=1, groups=1, bias=True):
            super().__init__()
            assert inner % groups == outer % groups == 0
            kernel = (kernel,) * axes if isinstance(kernel, int) else tuple(kernel)
            self.weight = Parameter((outer, inner // groups, *kernel))
            if bias:
                self.bias = Parameter((outer,))

    return Conv


class Linear(Module):
    def __init__(self, inner, outer, bias=True):
        super().__init__()
        self.weight = Parameter((outer, inner))
        if bias:
            self.bias = Parameter((outer,))


class Norm(Module):
    def __init__(self, size, eps=1e-5, momentum=0.1):
        super().__init__()
        self.weight, self.bias = Parameter((size,)), Parameter((size,))


class BatchNorm2d(Norm):
    def __init__(self, size, eps=1e-5, momentum=0.1):
        super().__init__(size)
        assert 0 <= momentum <= 1
        self.running_mean, self.running_var = Buffer((size,)), Buffer((size,))


class GroupNorm(Norm):
    def __init__(self, groups, size, eps=1e-5):
        super().__init__(size)
        assert size % groups == 0


class PReLU(Module):
    def __init__(self):
        super().__init__()
        self.weight = Parameter((1,))


def modules():
    """Return what takes torch's place in ``sys.modules``."""
    torch, nn = types.ModuleType('torch'), types.ModuleType('torch.nn')
    torch.nn, nn.functional = nn, types.ModuleType('torch.nn.functional')
    torch.autograd = types.SimpleNamespace(Function=object)
    torch.zeros = lambda *shape: shape
    for made in (Module, Sequential, Parameter, Linear, BatchNorm2d, GroupNorm, PReLU):
        setattr(nn, made.__name__, made)
    nn.Conv1d, nn.Conv2d, nn.LayerNorm = convolution(1), convolution(2), Norm
    plain = 'ReLU ReLU6 ELU SELU GELU SiLU Sigmoid Tanh Flatten Dropout MaxPool2d AvgPool2d AdaptiveAvgPool2d LeakyReLU'
    for name in plain.split():
        setattr(nn, name, layer(name))
    return {'torch': torch, 'torch.nn': nn, 'torch.nn.functional': nn.functional}


def parameters_of(source, monkeypatch):
    """Return ``{name: parameter}`` of the network that the module ``source`` defines."""
    for name, module in modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    made = types.ModuleType('net')
    exec(compile(source, 'net.py', 'exec'), made.__dict__)
    name = source.partition('    net = ')[2].partition('()')[0]
    return getattr(made, name)().parameters()


def count(parameters):
    return sum(prod(each.shape) for each in parameters.values() if not isinstance(each, Buffer))
