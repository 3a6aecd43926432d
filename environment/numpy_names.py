"""Supply NumPy names that MXNet and its companions use and newer releases of NumPy have removed.

MXNet 1.9.1 was written for NumPy 1.16 to 1.23. `install` wraps `numpy.__getattr__`, which Python calls only for missing
names. It only answers code in `PACKAGES`: everybody else still gets NumPy's own `AttributeError`, and feature tests
such as `hasattr(numpy, 'float')` work as before.
"""

import importlib
import sys
from types import SimpleNamespace
from typing import Any, Callable

__all__ = ['NAMES', 'PACKAGES', 'install']

PACKAGES = ('mxnet', 'gluoncv', 'horovod')


def _numpy(path: str) -> Callable[[], Any]:
    """Return a lookup of the successor within NumPy, made when it is needed."""

    def find() -> Any:
        found = sys.modules['numpy']
        for name in path.split('.'):
            found = getattr(found, name)
        return found

    return find


def _numpy_financial(name: str) -> Callable[[], Any]:
    """Return a stand-in for a financial function, which left NumPy in 1.20. MXNet merely re-exports them."""

    def moved(*args: Any, **kwargs: Any) -> None:
        raise NotImplementedError(f'numpy.{name} is gone; use {name} of the package numpy-financial')

    return lambda: moved


# name: (its replacement, who uses it)
NAMES = {
    'bool': (lambda: bool, 'mxnet/numpy/utils.py, mxnet/ndarray/numpy/_op.py'),
    'int': (lambda: int, 'mxnet/test_utils.py, gluoncv/model_zoo/hrnet.py'),
    'float': (lambda: float, 'gluoncv/utils/metrics/coco_detection.py, gluoncv/model_zoo/rcnn/rpn/anchor.py'),
    'compat': (lambda: SimpleNamespace(basestring=str), 'mxnet/ndarray/numpy/_op.py: pad'),
    'core': (lambda: importlib.import_module('numpy._core'), 'mxnet/ndarray/ndarray.py: moveaxis'),
    'Inf': (_numpy('inf'), 'mxnet/gluon/contrib/estimator/event_handler.py'),
    'PINF': (_numpy('inf'), 'mxnet/numpy/utils.py'),
    'NINF': (lambda: -sys.modules['numpy'].inf, 'mxnet/numpy/utils.py'),
    'PZERO': (lambda: 0.0, 'mxnet/numpy/utils.py'),
    'NZERO': (lambda: -0.0, 'mxnet/numpy/utils.py'),
    'NAN': (_numpy('nan'), 'mxnet/numpy/utils.py'),
    'NaN': (_numpy('nan'), 'mxnet/numpy/utils.py'),
    'alltrue': (_numpy('all'), 'mxnet/numpy/fallback.py'),
    'sometrue': (_numpy('any'), 'mxnet/numpy_dispatch_protocol.py'),
    'product': (_numpy('prod'), 'mxnet/numpy_dispatch_protocol.py'),
    'round_': (_numpy('round'), 'mxnet/numpy_dispatch_protocol.py'),
    'in1d': (_numpy('isin'), 'mxnet/numpy/fallback.py'),
    'msort': (lambda: lambda a: sys.modules['numpy'].sort(a, axis=0), 'mxnet/numpy/fallback.py'),
    'trapz': (_numpy('trapezoid'), 'mxnet/numpy/fallback.py'),
}
for _name in ('mirr', 'npv', 'pmt', 'ppmt', 'pv', 'rate'):
    NAMES[_name] = (_numpy_financial(_name), 'mxnet/numpy/fallback.py')


def install() -> None:
    """Provide `NAMES` to the packages that need them, where the installed NumPy lacks them.

    Imports NumPy. A second call changes nothing.
    """
    import numpy

    if tuple(int(number) for number in numpy.__version__.split('.')[:2]) < (1, 24):
        return  # nothing is missing there
    original = getattr(numpy, '__getattr__', None)
    if getattr(original, 'serves_mxnet', False):
        return

    def __getattr__(name: str) -> Any:
        if name in NAMES:
            # The caller's module, which is the importing one for `from numpy import name` too.
            caller = sys._getframe(1).f_globals.get('__name__') or ''
            if caller.partition('.')[0] in PACKAGES:
                return NAMES[name][0]()
        if original is None:
            raise AttributeError(f'module {numpy.__name__!r} has no attribute {name!r}')
        return original(name)

    __getattr__.serves_mxnet = True
    numpy.__getattr__ = __getattr__
