"""The first import of MXNet prepares the process; nothing happens before it."""

import os
import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon, nd

from environment import import_hook, patches

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def run(code, folder=None, *flags):
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, [str(folder or ''), ROOT]))}
    command = [sys.executable, *flags, '-c', code]
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_importing_it_loads_the_standard_library_only():
    code = """
import sys, sysconfig
before = set(sys.modules)
import environment
top = {name.partition('.')[0] for name in set(sys.modules) - before} - {'environment'}
from importlib.util import find_spec
foreign = [name for name in top if '-packages' in (getattr(find_spec(name), 'origin', None) or '')]
print(foreign)
"""
    assert run(code).stdout == '[]\n'


def test_it_is_cheap():
    # Modules are what takes time; they are counted, because timings mean nothing on a busy machine.
    code = """
import typing, pathlib, platform, sys
before = set(sys.modules)
import environment
print(*set(sys.modules) - before)
"""
    modules = set(run(code).stdout.split())
    assert 'environment' in modules
    assert len(modules) < 80
    expensive = 'asyncio concurrent email http inspect logging multiprocessing socket subprocess unittest urllib'
    assert not modules & set(expensive.split())


def test_registering_twice_changes_nothing():
    before = list(sys.meta_path)
    import_hook.register()
    assert sys.meta_path == before


def test_the_hook_works_without_its_package():
    code = f"""
import sys
hook = {{}}
exec(open({os.path.join(ROOT, 'environment', 'import_hook.py')!r}).read(), hook)
hook['register']()
assert 'environment' not in sys.modules
import mxnet
assert 'environment' in sys.modules
import gluoncv
print(sum(getattr(finder, '__name__', '') == 'MxnetHook' for finder in sys.meta_path))
"""
    done = run(code)
    assert done.stdout == '1\n', done.stderr


def test_a_launcher_is_not_prepared(tmp_path):
    (tmp_path / 'horovod.py').write_text('')
    hook = os.path.join(ROOT, 'environment', 'import_hook.py')
    code = f"hook = {{}}; exec(open({hook!r}).read(), hook); hook['register'](); import horovod, sys; "
    assert run(code + "print('environment' in sys.modules)", tmp_path).stdout == 'False\n'


def test_mxnet_imported_first_is_mended_too():
    code = """
import numpy
numpy.__dict__.setdefault('bool', bool)
import mxnet
import environment
from mxnet import nd
print(nd.zeros((numpy.int64(2), 3)).shape)
"""
    if tuple(map(int, np.__version__.split('.')[:2])) >= (1, 24):
        pytest.skip('this NumPy does not let MXNet in without the hook')
    done = run(code)
    assert done.stdout == '(2, 3)\n', done.stderr


class TestNumbersInText:
    """NumPy 2 prints scalars inside tuples with their type."""

    class Scalar(np.int64):
        __module__ = 'numpy'

        def __repr__(self):
            return f'np.int64({int(self)})'

    def test_shapes(self):
        two = self.Scalar(2)
        assert repr((two,)) == '(np.int64(2),)'
        assert nd.zeros((two, 3)).shape == (2, 3)
        assert nd.ones((4,)).reshape((two, -1)).shape == (2, 2)

    def test_symbols(self):
        two = self.Scalar(2)
        assert mx.sym.var('a', shape=(two, 3)).attr('__shape__') == '(2, 3)'
        assert mx.sym.zeros((two, 3)).list_attr()['shape'] == '(2, 3)'

    def test_layers(self):
        three = self.Scalar(3)
        net = gluon.nn.HybridSequential()
        net.add(gluon.nn.Conv2D(three, (three, 3)), gluon.nn.Dense(three, weight_initializer=mx.init.Orthogonal()))
        net.initialize()
        net.hybridize()
        assert net(nd.ones((1, 2, 5, 5))).shape == (1, 3)

    def test_other_values_are_what_str_makes_of_them(self):
        for value in ('text', 1.5, None, True, (1, 'a'), [(1, 2), 3], np.float32(0.5), np.dtype('float32')):
            assert patches._Text(value) == str(value)
        assert isinstance('text', patches._Text)
        assert not isinstance(1, patches._Text)

    def test_all_modules_are_mended(self):
        assert set(patches.PATCHES) == set(import_hook.MENDED)
        # In a process of its own, because pytest imports files named test_*.py, and so mxnet.test_utils, differently.
        code = """
import sys, gluoncv
from environment import patches
print([name for name in patches.PATCHES if not isinstance(sys.modules[name].__loader__, patches._Loader)])
"""
        done = run(code)
        assert done.stdout == '[]\n', done.stderr


@pytest.mark.parametrize('version', ['1.13.1', '2.13.0+cpu'])
def test_gluoncv_is_imported_quietly_beside_torch(tmp_path, version):
    (tmp_path / 'torch.py').write_text(f'__version__ = {version!r}\n')
    done = run('import environment, gluoncv, torch; print(torch.__version__, gluoncv.model_zoo.__name__)', tmp_path)
    assert done.stdout == f'{version} gluoncv.model_zoo\n', done.stderr
    assert done.stderr == ''


class TestPackagesThatMXNetCanDoWithout:
    def test_they_are_not_imported(self):
        done = run("import environment, mxnet, sys; print({'sklearn', 'scipy.stats'} & set(sys.modules))")
        assert done.stdout == 'set()\n', done.stderr

    def test_they_can_be_imported_afterwards(self):
        code = """
import environment, mxnet, sys
from mxnet.contrib import quantization
assert quantization.stats is not None and 'scipy.stats' not in sys.modules
assert quantization.stats.entropy([0.5, 0.5]) > 0.69
assert mxnet.test_utils.ss.norm.ppf(0.5) == 0
import scipy.stats, sklearn.base
print(quantization.stats.entropy is scipy.stats.entropy, sklearn.base.BaseEstimator.__name__)
"""
        done = run(code)
        assert done.stdout == 'True BaseEstimator\n', done.stderr

    def test_who_has_them_already_gets_what_mxnet_gives(self):
        code = """
import scipy.stats, sklearn.base, environment, mxnet
from mxnet.contrib import quantization
assert mxnet.test_utils.ss is scipy.stats
print(quantization.stats is scipy.stats, mxnet.model.BASE_ESTIMATOR is sklearn.base.BaseEstimator)
"""
        done = run(code)
        assert done.stdout == 'True True\n', done.stderr

    def test_without_scipy_mxnet_hears_of_it(self):
        code = """
import sys, environment
sys.modules['scipy'] = sys.modules['scipy.sparse'] = None
import mxnet
from mxnet.contrib import quantization
print(quantization.stats, mxnet.test_utils.ss)
"""
        done = run(code)
        assert done.stdout == 'None None\n', done.stderr
