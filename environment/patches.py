"""Repair what newer packages break in MXNet and GluonCV, and what is slow or leaks there, within the modules concerned.

- NumPy 2 prints a scalar inside a tuple as `np.int64(4)`, and MXNet passes shapes such as `(3, np.int64(4))` to its
  engine as text.
- GluonCV refuses to be imported if torch 2 is installed, and warns if torch 1 is, although we only use its MXNet half.
- MXNet imports scikit-learn for the base class of its `FeedForward`, which has long been deprecated, and `scipy.stats`
  for its own tests: a third of the time of its import. Here the former import fails, which MXNet allows for, and the
  latter waits until it is used, unless they were imported before.
- MXNet compiles a Python function for each operator whenever it is imported (`environment.operator_code`).
- A Gluon network refers to itself: through the scope of its names, its trainer, and a recursive closure that looks for
  blocks in containers. After the last outside reference was gone, its arrays and compiled graphs therefore stayed until
  Python's cycle collector ran, which counts objects, not bytes. Without these references, a network is freed with the
  last reference to it.
"""

import sys
import weakref
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any, Dict, Iterator, Optional, Sequence

from environment.operator_code import keep_code, write_code

__all__ = ['PATCHES', 'mend_loaded', 'mended_spec']


def _plain(value: Any) -> Any:
    """Replace NumPy's scalars by Python's numbers, inside tuples and lists too."""
    if type(value).__module__ == 'numpy' and hasattr(value, 'item') and not getattr(value, 'ndim', 1):
        return value.item()
    if type(value) in (tuple, list):
        return type(value)(map(_plain, value))
    return value


class _TextType(type):
    def __call__(cls, value: Any = '') -> str:
        return str(_plain(value) if isinstance(value, (tuple, list)) else value)

    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, str)


class _Text(metaclass=_TextType):
    """Stand in for `str` in MXNet's modules that turn operators' arguments into text."""


def _write_plain_numbers(module: ModuleType) -> None:
    module.str = _Text


def _leave_torch_alone(module: ModuleType) -> None:
    def _require_pytorch_version(*versions: str) -> None:
        raise ImportError("GluonCV's torch half is left alone")  # which gluoncv/__init__.py catches

    module._require_pytorch_version = _require_pytorch_version


def _as_it_is(module: ModuleType) -> None:
    """Leave the module as it is; only what it imports, or what is done before, matters."""


class _Stats(ModuleType):
    """Stand in for `scipy.stats`, which is imported when one of its names is used."""

    def __getattr__(self, name: str) -> Any:
        from scipy import stats

        return getattr(stats, name)


def _end_of_operators(module: ModuleType) -> None:
    _promise_scipy_stats(module)
    write_code()


def _promise_scipy_stats(module: ModuleType) -> None:
    name = 'ss' if module.__name__ == 'mxnet.test_utils' else 'stats'
    if getattr(module, name) is None and sys.modules.get('scipy') is not None:
        setattr(module, name, _Stats('scipy.stats'))


class _Weak:
    """A descriptor that holds its value weakly; `None` once the value is gone."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, owner: Any, kind: Optional[type] = None) -> Any:
        if owner is None:
            return self
        value = owner.__dict__[self.name]
        return value() if isinstance(value, weakref.ref) else value

    def __set__(self, owner: Any, value: Any) -> None:
        owner.__dict__[self.name] = None if value is None else weakref.ref(value)


def _make_weak(kind: type, name: str) -> None:
    """Make an attribute of a class refer to its value weakly. Copying and pickling instances still works."""

    def state(self: Any) -> Dict[str, Any]:
        return {**self.__dict__, name: getattr(self, name)}

    def restore(self: Any, values: Dict[str, Any]) -> None:
        self.__dict__.update(values)
        setattr(self, name, values[name])

    setattr(kind, name, _Weak(name))
    kind.__getstate__, kind.__setstate__ = state, restore  # type: ignore[attr-defined]


def _let_networks_go(module: ModuleType) -> None:
    _make_weak(module._BlockScope, '_block')
    block = module.Block
    warn = block._check_container_with_block

    def holds_others(data: Any, children: Any) -> bool:
        if isinstance(data, (list, tuple, dict)):
            return any(holds_others(item, children) for item in (data.values() if isinstance(data, dict) else data))
        return isinstance(data, block) and data not in children

    def check_containers(self: Any) -> None:
        children = set(self._children.values())
        if any(name != '_children' and holds_others(value, children) for name, value in self.__dict__.items()):
            warn(self)

    block._check_container_with_block = check_containers


def _let_trainers_go(module: ModuleType) -> None:
    _make_weak(module.Parameter, '_trainer')


# module: the optional import that it is not to find
HIDDEN = {
    'mxnet.model': 'sklearn.base',
    'mxnet.contrib.quantization': 'scipy.stats',
    'mxnet.test_utils': 'scipy.stats',
}

# module: what prepares it before it is run
FIRST = {'mxnet.ndarray.register': keep_code, 'mxnet.symbol.register': keep_code}

# module: what repairs it once it is imported
PATCHES = {
    'mxnet.ndarray.register': _as_it_is,
    'mxnet.symbol.register': _as_it_is,
    'mxnet._ctypes.ndarray': _write_plain_numbers,
    'mxnet._ctypes.symbol': _write_plain_numbers,
    'mxnet.io.io': _write_plain_numbers,
    'mxnet.symbol.symbol': _write_plain_numbers,
    'mxnet.gluon.block': _let_networks_go,
    'mxnet.gluon.parameter': _let_trainers_go,
    'gluoncv.check': _leave_torch_alone,
    'mxnet.model': _as_it_is,
    'mxnet.contrib.quantization': _promise_scipy_stats,
    'mxnet.test_utils': _end_of_operators,  # all operators have their functions then
}


@contextmanager
def _hidden(name: Optional[str]) -> Iterator[None]:
    """Make the import of the named module fail within the block, unless it was imported before."""
    if name is None or name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # which makes Python raise ImportError
    try:
        yield
    finally:
        del sys.modules[name]


class _Loader(SourceFileLoader):
    """Load a module as usual, then repair it."""

    def exec_module(self, module: ModuleType) -> None:
        FIRST.get(module.__name__, _as_it_is)(module)
        with _hidden(HIDDEN.get(module.__name__)):
            super().exec_module(module)
        PATCHES[module.__name__](module)


def mended_spec(name: str, path: Optional[Sequence[str]]) -> Optional[ModuleSpec]:
    """Return the spec of a module of `PATCHES`, with a loader that repairs it."""
    spec = PathFinder.find_spec(name, path)
    if spec is not None and isinstance(spec.loader, SourceFileLoader):
        spec.loader = _Loader(spec.loader.name, spec.loader.path)
    return spec


def mend_loaded() -> None:
    """Repair the modules that were imported before the hook was registered."""
    for name in PATCHES:
        if name in sys.modules:
            PATCHES[name](sys.modules[name])
