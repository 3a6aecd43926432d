"""Places in MXNet and GluonCV that newer packages break without any name missing; each mended in its own module only.

- NumPy 2 prints a scalar inside a tuple as `np.int64(4)`. MXNet hands the shape `(3, np.int64(4))` to its engine as
  text.
- GluonCV refuses to be imported where torch 2 is installed, and warns where torch 1 is. We use its MXNet half.
"""

import sys
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any, Optional, Sequence

__all__ = ['PATCHES', 'mend_loaded', 'mended_spec']


def _plain(value: Any) -> Any:
    """The same value with Python's numbers in place of NumPy's, inside tuples and lists too."""
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
    """Stands for `str` in MXNet's modules that turn operators' arguments into text."""


def _write_plain_numbers(module: ModuleType) -> None:
    module.str = _Text


def _leave_torch_alone(module: ModuleType) -> None:
    def _require_pytorch_version(*versions: str) -> None:
        raise ImportError("GluonCV's torch half is left alone")  # which gluoncv/__init__.py takes for an answer

    module._require_pytorch_version = _require_pytorch_version


# module: what mends it once it is imported
PATCHES = {
    'mxnet._ctypes.ndarray': _write_plain_numbers,
    'mxnet._ctypes.symbol': _write_plain_numbers,
    'mxnet.io.io': _write_plain_numbers,
    'mxnet.symbol.symbol': _write_plain_numbers,
    'gluoncv.check': _leave_torch_alone,
}


class _Loader(SourceFileLoader):
    """Loads a module as ever, and mends it."""

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        PATCHES[module.__name__](module)


def mended_spec(name: str, path: Optional[Sequence[str]]) -> Optional[ModuleSpec]:
    """Where to import a module of `PATCHES` from, and that it is to be mended then."""
    spec = PathFinder.find_spec(name, path)
    if spec is not None and isinstance(spec.loader, SourceFileLoader):
        spec.loader = _Loader(spec.loader.name, spec.loader.path)
    return spec


def mend_loaded() -> None:
    """Mend what was imported before the hook was registered."""
    for name in PATCHES:
        if name in sys.modules:
            PATCHES[name](sys.modules[name])
