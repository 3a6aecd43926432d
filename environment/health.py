"""Whether this Python can run MXNet; where it cannot, one sentence that ends with the command to mend it."""

import importlib
import platform
import sys
from pathlib import Path
from typing import Any, Optional

from environment.errors import SetupError

__all__ = ['NUMPY_BELOW', 'PYTHONS', 'ROOT', 'explain', 'import_extra', 'mend', 'problem', 'require_mxnet']

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ((3, 8), (3, 13))  # first and last
NUMPY_BELOW = (2, 3)  # there numpy.ndarray loses tostring(), which MXNet's recordio calls

# import name: the flag of scripts/setup.sh that installs it
_PACKAGES = {
    'mxnet': '',
    'gluoncv': '',
    'numpy': '',
    'scipy': '',
    'sklearn': '',
    'matplotlib': '',
    'yaml': '',
    'tqdm': '',
    'PIL': '',
    'cv2': '',
    'horovod': ' --horovod',
    'onnx': ' --onnx',
    'onnxruntime': ' --onnx',
    'tensorboard': ' --tensorboard',
    'torch': ' --torch',
    'pytest': ' --dev',
    'hypothesis': ' --dev',
    'ruff': ' --dev',
}


def mend(flags: str = '') -> str:
    """The command that mends a set-up: to enter the environment where there is one, to make it where there
    is none.
    """
    activate = ROOT / '.venv' / 'bin' / 'activate'
    inside = Path(sys.prefix).resolve() == (ROOT / '.venv').resolve()
    if activate.exists() and not inside and not flags:
        return f'run: source {activate}'
    return f'run: bash {ROOT / "scripts" / "setup.sh"}{flags}'


def _missing(package: str) -> str:
    return f'{sys.executable} has no package {package}; {mend(_PACKAGES.get(package, ""))}'


def _python() -> Optional[str]:
    first, last = ('.'.join(map(str, version)) for version in PYTHONS)
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        here = f'Python {platform.python_version()} ({sys.executable})'
        return f'{here} cannot run this project, {first} to {last} can; {mend()}'
    machine = platform.machine()
    if sys.platform not in ('linux', 'darwin') or machine != 'x86_64' or sys.maxsize < 2**32:
        return (
            f'MXNet 1.9.1 has no build for {platform.system()} on {machine}; '
            'use 64-bit Linux or macOS on x86_64, for example in a container of that platform'
        )
    return None


def _numpy() -> Optional[str]:
    try:
        import numpy
    except ModuleNotFoundError as error:
        if error.name == 'numpy':
            return _missing('numpy')
        return f'NumPy does not start ({error}); {mend(" --fresh")}'
    except Exception as error:  # whatever a half-installed package throws
        return f'NumPy does not start ({_first_line(error)}); {mend(" --fresh")}'
    version = getattr(numpy, '__version__', None)
    if version is None:
        return f'the package numpy of {sys.executable} is empty; {mend(" --fresh")}'
    if tuple(int(number) for number in version.split('.')[:2]) >= NUMPY_BELOW:
        newest = '.'.join(map(str, NUMPY_BELOW))
        return (
            f'NumPy {version} is too new for MXNet 1.9.1, that needs less than {newest}; {mend(" --fresh")}'
        )
    return None


def _mxnet() -> Optional[str]:
    try:
        import mxnet
    except ModuleNotFoundError as error:
        return _missing((error.name or 'mxnet').partition('.')[0])
    except Exception as error:
        if 'libcuda.so' in str(error):
            return f'this MXNet is built for CUDA and finds no NVIDIA driver (libcuda.so.1); {mend(" --cpu")}'
        return f'MXNet does not start ({_first_line(error)}); {mend(" --fresh")}'
    if not hasattr(mxnet, 'nd'):
        return f'the package mxnet of {sys.executable} is empty; {mend(" --fresh")}'
    return None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def problem() -> Optional[str]:
    """Why MXNet cannot be used here, in one sentence with the command that mends it, or None. Imports
    MXNet.
    """
    return _python() or _numpy() or _mxnet()


def explain(error: Exception) -> Optional[str]:
    """The fault of the set-up behind an exception, in one sentence, or None where it comes from something
    else.
    """
    if isinstance(error, ModuleNotFoundError) and (error.name or '').partition('.')[0] in _PACKAGES:
        return _python() or _missing(error.name.partition('.')[0])
    return problem()


def require_mxnet() -> None:
    """Leave the process with one sentence and status 1 where MXNet cannot be used; at the top of every
    entry point.
    """
    message = problem()
    if message is not None:
        raise SystemExit(f'error: {message}')


def import_extra(name: str) -> Any:
    """Import an optional package, such as 'onnx'; `SetupError` names the command that installs it.

    Raises:
        SetupError: the package is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition('.')[0]:
            raise
        raise SetupError(_missing(error.name)) from error
