"""Check whether this Python can run MXNet, and if not, say in one sentence which command fixes it."""

import importlib
import importlib.util
import platform
import re
import sys
from pathlib import Path
from typing import Any, List, NamedTuple, Optional

from common.errors import SetupError
from environment.import_hook import NODEPS
from environment.memory import ADDRESSES, scarce_addresses

__all__ = [
    'Problem',
    'check_mxnet',
    'check_numpy',
    'check_platform',
    'check_python',
    'explain',
    'first_line',
    'import_extra',
    'installed',
    'mend',
    'missing',
    'problem',
    'require_mxnet',
]

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ((3, 8), (3, 13))  # first and last
NUMPY_BELOW = (2, 3)  # which removes numpy.ndarray.tostring(), called by MXNet's recordio

# import name: the flag of scripts/setup.sh that installs it
_PACKAGES = {
    'mxnet': '',
    'gluoncv': '',
    'numpy': '',
    'scipy': '',
    'sklearn': '',
    'matplotlib': '',
    'requests': '',
    'yaml': '',
    'tqdm': '',
    'portalocker': '',
    'PIL': '',
    'cv2': '',
    'distutils': '',
    'horovod': ' --horovod',
    'onnx': ' --onnx',
    'onnxruntime': ' --onnx',
    'tensorboard': ' --tensorboard',
    'uvicorn': ' --serve',
    'starlette': ' --serve',
    'python_multipart': ' --serve',
    'pytest': ' --dev',
    'hypothesis': ' --dev',
    'ruff': ' --dev',
}


class Problem(NamedTuple):
    """What is wrong, and the command that fixes it."""

    what: str
    command: str

    def __str__(self) -> str:
        return f'{self.what}; run: {self.command}'


def _requirements(extra: str) -> List[str]:
    """Return the requirements of this project, or of one of its extras; empty if pip did not install it."""
    try:
        from importlib import metadata

        ours = metadata.distribution('attention-networks')
    except ImportError:  # there is no such package, or this is Python 3.7
        return []
    if not ours.read_text('INSTALLER'):  # metadata that a build left in the project's folder
        return []
    found = []
    for line in ours.requires or ():
        requirement, _, named = re.sub(r'["\']', '"', line).partition('extra == ')
        if named.strip('" ') == extra:
            found.append("'{}'".format(re.sub(r'\s*(;|\band)\s*$', '', requirement)))
    return found


def _mend_by_pip(flags: str, package: str) -> str:
    """Return the pip command for a Python into which pip installed this project; '' for any other Python."""
    if not _requirements(''):
        return ''
    pip = f'{sys.executable} -m pip install'
    if package in ('', *NODEPS) and not flags:
        return f'{pip} --no-deps {" ".join(_requirements("nodeps"))}'
    wanted = _requirements(flags.strip().strip('-'))
    if flags and not wanted:
        return f'bash scripts/setup.sh{flags}, in the repository of this project'
    return f'{pip} {" ".join(wanted)}'


def mend(flags: str = '', package: str = '') -> str:
    """Return the command that repairs an installation.

    It activates the environment if there is one, else creates it, or calls pip if pip installed this project. `package`
    is what is missing. Of the `flags` of scripts/setup.sh, those that repair or change an environment are dropped for a
    Python outside of it; those that add a package are kept.
    """
    by_pip = _mend_by_pip(flags, package)
    if by_pip:
        return by_pip
    activate = ROOT / '.venv' / 'bin' / 'activate'
    inside = Path(sys.prefix).resolve() == (ROOT / '.venv').resolve()
    adds = bool(flags) and flags in _PACKAGES.values()
    if activate.exists() and not inside and not adds:
        return f'source {activate}'
    return f'bash {ROOT / "scripts" / "setup.sh"}{flags}'


def first_line(error: Exception) -> str:
    """Return the first line of an exception's message, or its type if there is none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def missing(package: str) -> Problem:
    """Describe a package that is not installed."""
    return Problem(f'{sys.executable} has no package {package}', mend(_PACKAGES.get(package, ''), package))


def check_python() -> Optional[Problem]:
    """Check the version of Python and the features that MXNet needs of it."""
    if sys.flags.optimize > 1:
        what = 'python -OO (or PYTHONOPTIMIZE=2) leaves out docstrings, from which MXNet makes its operators'
        return Problem(what, 'the same command without it')
    if PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        return None
    here = f'Python {platform.python_version()} ({sys.executable})'
    first, last = ('.'.join(map(str, version)) for version in PYTHONS)
    return Problem(f'{here} cannot run this project, which needs Python {first} to {last}', mend())


def check_platform() -> Optional[Problem]:
    """Check the operating system, the processor's architecture and the address space of the process."""
    limit = scarce_addresses()
    if limit:
        what = f'the address space of a process is limited to {limit >> 20} MB here, and MXNet needs {ADDRESSES >> 20}'
        return Problem(what, 'ulimit -v unlimited')
    system, machine = platform.system(), platform.machine()
    if system in ('Linux', 'Darwin') and machine == 'x86_64' and sys.maxsize > 2**32:
        return None
    bits = '64-bit' if sys.maxsize > 2**32 else '32-bit'
    what = (
        f'MXNet 1.9.1 has no build for {bits} Python on {system} {machine}, only for 64-bit Linux and macOS on x86_64'
    )
    return Problem(what, f'docker run --platform linux/amd64 -it -v {ROOT}:/project -w /project python:3.11 bash')


def check_numpy() -> Optional[Problem]:
    """Check that NumPy is installed, imports, and has a version that MXNet can work with."""
    try:
        import numpy

        version = tuple(int(number) for number in numpy.__version__.split('.')[:2])
    except ModuleNotFoundError as error:
        return missing('numpy') if error.name == 'numpy' else Problem(f'NumPy: {error}', mend(' --fresh'))
    except Exception as error:  # a half-installed package may throw anything
        return Problem(f'NumPy does not start ({first_line(error)})', mend(' --fresh'))
    if version >= NUMPY_BELOW:
        limit = '.'.join(map(str, NUMPY_BELOW))
        what = f'NumPy {numpy.__version__} is too new for MXNet 1.9.1, which needs a version below {limit}'
        return Problem(what, mend(' --fresh'))
    return None


def check_mxnet() -> Optional[Problem]:
    """Check that MXNet is installed and computes."""
    try:
        import mxnet

        total = mxnet.nd.ones((2, 2)).sum().asscalar()
    except ModuleNotFoundError as error:
        return missing((error.name or 'mxnet').partition('.')[0])
    except Exception as error:  # OSError for a broken library; MXNetError, AttributeError for a broken package
        if 'libcuda.so' in str(error):
            what = 'this MXNet is the CUDA build, and finds no NVIDIA driver (libcuda.so.1)'
            return Problem(what, mend(' --cpu'))
        return Problem(f'MXNet does not start ({first_line(error)})', mend(' --fresh'))
    if total != 4:
        return Problem(f'MXNet computes 1 + 1 + 1 + 1 = {total}', mend(' --fresh'))
    return None


def problem() -> Optional[Problem]:
    """Return why MXNet cannot be used here, or None. Imports MXNet."""
    return check_python() or check_platform() or check_numpy() or check_mxnet()


def explain(error: Exception) -> Optional[Problem]:
    """Return the fault of the installation behind an exception, or None if it has another cause."""
    package = (error.name or '').partition('.')[0] if isinstance(error, ModuleNotFoundError) else ''
    if package in _PACKAGES and package not in sys.modules:
        return check_python() or check_platform() or missing(package)
    return problem()


def require_mxnet() -> None:
    """Leave the process with one sentence and status 1 if MXNet cannot be used. For entry points."""
    found = problem()
    if found is not None:
        raise SystemExit(f'error: {found}')


def installed(name: str) -> bool:
    """Return whether a package can be imported, without importing it."""
    if name in sys.modules:
        return sys.modules[name] is not None
    return importlib.util.find_spec(name) is not None


def import_extra(name: str) -> Any:
    """Import an optional package or module, such as 'onnx' or 'horovod.mxnet'.

    Raises:
        SetupError: the package is not installed; the message contains the command that installs it.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name.partition('.')[0]
        if error.name != package:
            raise
        raise SetupError(str(missing(package))) from error
