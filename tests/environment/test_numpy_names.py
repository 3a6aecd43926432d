"""NumPy's removed names: only for MXNet and its companions, and only what is missing."""

import sys
from types import ModuleType

import pytest

from environment import numpy_names
from environment.numpy_names import PACKAGES


@pytest.fixture
def numpy_2(monkeypatch):
    """Stand in for a NumPy that lacks `float`, has `all`, and has an error message of its own."""
    module = ModuleType('numpy')
    module.__version__ = '2.1.3'
    module.all, module.inf, module.alltrue = all, float('inf'), 'its own'

    def __getattr__(name):
        raise AttributeError(f'NumPy itself has no {name}')

    module.__getattr__ = __getattr__
    monkeypatch.setitem(sys.modules, 'numpy', module)
    numpy_names.install()
    return module


def ask(code, caller):
    """Evaluate code in a module with that name."""
    scope = {'__name__': caller}
    exec(code, scope)
    return scope.get('answer')


@pytest.mark.parametrize('caller', [*PACKAGES, 'mxnet.numpy.utils', 'gluoncv.utils.metrics.coco_detection'])
@pytest.mark.parametrize(
    'code',
    [
        'import numpy as np; answer = np.float',
        'from numpy import float as answer',
        'import numpy; answer = getattr(numpy, "float")',
    ],
)
def test_the_packages_are_served(numpy_2, caller, code):
    assert ask(code, caller) is float


@pytest.mark.parametrize('caller', ['sklearn.utils', '__main__', 'mxnetish', 'numpy.lib'])
def test_others_get_numpys_own_answer(numpy_2, caller):
    with pytest.raises(AttributeError, match='NumPy itself has no float'):
        ask('import numpy; numpy.float', caller)
    with pytest.raises(ImportError):
        ask('from numpy import float', caller)
    assert ask('import numpy; answer = hasattr(numpy, "float")', caller) is False


def test_what_numpy_has_is_left_alone(numpy_2):
    assert ask('import numpy; answer = numpy.alltrue', 'mxnet.numpy.fallback') == 'its own'


def test_a_name_outside_the_table_stays_missing(numpy_2):
    with pytest.raises(AttributeError, match='NumPy itself has no nonsense'):
        ask('import numpy; numpy.nonsense', 'mxnet')


def test_twice_is_once(numpy_2):
    served = numpy_2.__getattr__
    numpy_names.install()
    assert numpy_2.__getattr__ is served


def test_old_numpy_is_not_touched(monkeypatch):
    module = ModuleType('numpy')
    module.__version__ = '1.23.5'
    monkeypatch.setitem(sys.modules, 'numpy', module)
    numpy_names.install()
    assert not hasattr(module, '__getattr__')


def test_financial_functions_say_where_they_went():
    with pytest.raises(NotImplementedError, match='pmt of the package numpy-financial'):
        numpy_names.NAMES['pmt'][0]()(0.1, 12, 1000)


def test_values_are_what_they_were():
    import numpy

    values = {name: give() for name, (give, _) in numpy_names.NAMES.items() if name not in ('core', 'trapz')}
    assert (values['bool'], values['int'], values['float']) == (bool, int, float)
    assert (values['PINF'], values['NINF'], values['Inf']) == (numpy.inf, -numpy.inf, numpy.inf)
    assert numpy.signbit(values['NZERO'])
    assert not numpy.signbit(values['PZERO'])
    assert values['NZERO'] == values['PZERO'] == 0
    assert numpy.isnan([values['NAN'], values['NaN']]).all()
    table = numpy.array([[3, 0], [1, 2]])
    assert values['msort'](table).tolist() == [[1, 0], [3, 2]]
    assert values['in1d']([1, 5], [5]).tolist() == [False, True]
    assert (values['alltrue'](table), values['sometrue'](table), values['product'](table + 1)) == (False, True, 24)
    assert values['round_'](2.567, 1) == 2.6


def test_every_name_says_who_asks():
    assert all(asker.startswith(PACKAGES) and '.py' in asker for _, asker in numpy_names.NAMES.values())
