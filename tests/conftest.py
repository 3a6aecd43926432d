"""Prepare the process for MXNet, with as many threads as share the machine well, and isolate tests from each other."""

import ctypes
import itertools
import os
import signal
import sys
from pathlib import Path

import pytest

# Networks in tests are small: one thread is fastest for them. It also keeps sums, and so results, the same on
# machines with more cores. Set the variable to try other numbers.
os.environ.setdefault('OMP_NUM_THREADS', '1')

import environment  # noqa: F401  (before anything imports MXNet)
from common.console import heed

# The memory that `environment.memory` keeps for the next array adds up in a process that builds a thousand
# networks of all sizes: beyond this many bytes, it is given back to the system.
KEPT = 1 << 29


def pytest_runtest_logfinish():
    libc = ctypes.CDLL(None)
    if sys.platform.startswith('linux') and hasattr(libc, 'malloc_trim'):
        with open('/proc/self/statm') as file:
            resident = int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')
        if resident > KEPT:
            libc.malloc_trim(0)


_NUMBERS = itertools.count()


@pytest.fixture
def monkeypatch(tmp_path):
    """Undo a test's patches before its folder is removed, which may need what they replace, such as `os.scandir`."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture
def own_handlers():
    """Restore Python's own signal handlers around a test: a runner in the background may ignore Ctrl-C, or SIGHUP."""
    own = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in own.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def _alone(tmp_path_factory):
    """Keep each test from depending on those before it: on their random draws, and on what `optimize` remembers.

    What `optimize` measures decides nothing that a test may rest on, so it measures briefly.
    """
    if 'mxnet' in sys.modules:
        import mxnet as mx
        import numpy as np

        mx.random.seed(0)
        np.random.seed(0)
    heed(quiet=False, verbose=False)
    with pytest.MonkeyPatch.context() as patch:
        optimizer = sys.modules.get('inference.optimization.optimizer')
        if optimizer is not None:
            patch.setattr(optimizer, 'ENOUGH', 0.0)
        choices = sys.modules.get('inference.engine.choices')
        if choices is not None:
            here = tmp_path_factory.getbasetemp() / 'remembered' / str(next(_NUMBERS))
            patch.setattr(choices, 'cache', lambda: here)
        yield


# The files whose tests are marked ``numeric``: their results may depend on the processor, or on NumPy. `.ci/run`
# repeats them as on an older processor, and those that are also marked ``numpy`` with other Pythons: the
# others test MXNet's binary and ours, which are the same there.
NUMERIC = """
detection/test_boxes.py detection/test_detectors.py detection/test_losses.py detection/test_matching.py
detection/test_roi.py detection/test_postprocess.py detection/test_step.py detection/test_targets.py
environment/test_numpy_names.py
inference/optimization/test_optimize.py inference/test_engine.py inference/test_engine_narrow.py
kernels/test_atac.py kernels/test_multi_tensor.py kernels/test_operators.py kernels/test_sharing.py
model/layers/test_broadcast.py model/layers/test_group_norm.py model/layers/test_input_norm.py
model/layers/test_pool.py model/layers/test_single_map.py
model/test_activation.py model/test_attention.py
model/test_golden_dianet.py model/test_golden_open_atac.py model/test_residual_attention.py
training/optim/test_muon.py training/optim/test_optimizer.py training/optim/test_trainer.py
training/test_loss.py training/test_precision.py training/test_teacher.py
""".split()


COMPILED = ('kernels/', 'inference/', 'model/test_golden_')


def pytest_ignore_collect(collection_path, config):
    """Skip files without any requested test: importing all of them takes a quarter of a minute."""
    if config.option.markexpr.split(' ')[0] in ('numeric', 'numpy') and collection_path.name.startswith('test_'):
        return str(collection_path.relative_to(Path(__file__).parent)) not in NUMERIC or None
    return None


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    files = {here / name: name for name in NUMERIC}
    assert all(file.exists() for file in files)
    for item in items:
        if item.path in files:
            item.add_marker('numeric')
            if not files[item.path].startswith(COMPILED):
                item.add_marker('numpy')
