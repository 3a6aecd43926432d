"""Prepare the process at the moment MXNet is imported, and not before.

A launcher such as `horovodrun` never imports MXNet. If variables were set there, its processes would inherit the number
of threads for the whole machine, although they share its cores.

The hook is the first entry of `sys.meta_path`. `environment` registers it, and so does a `.pth` file in our `.venv`,
for a plain `import mxnet`. The latter runs this file whenever an interpreter starts, so nothing is imported before it
is needed.
"""

import sys

__all__ = ['MENDED', 'NODEPS', 'PACKAGES', 'prepare', 'register']

# The modules that `environment.patches` repairs.
MENDED = (
    'mxnet.ndarray.register',
    'mxnet.symbol.register',
    'mxnet._ctypes.ndarray',
    'mxnet._ctypes.symbol',
    'mxnet.io.io',
    'mxnet.symbol.symbol',
    'mxnet.gluon.block',
    'mxnet.gluon.parameter',
    'mxnet.model',
    'mxnet.contrib.quantization',
    'mxnet.test_utils',
    'gluoncv.check',
)


# Our packages, and those that pip has to install without their dependencies.
PACKAGES = ('environment', 'common', 'kernels', 'model', 'data', 'inference', 'detection', 'training')
NODEPS = ('mxnet', 'gluoncv')


class MxnetHook:
    """A finder that prepares the process for MXNet, and handles only the modules that need repair."""

    # `object`: the exact types would have to be imported.
    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> object:
        if name == 'mxnet':  # the other packages import it first
            prepare()
        elif name in MENDED:
            from environment import patches

            return patches.mended_spec(name, path)
        return None


def prepare() -> None:
    """Set the threads, load the CUDA libraries and supply NumPy's removed names. Cheap when repeated.

    Raises:
        ImportError: NumPy is missing or broken.
        OSError: a CUDA library does not load.
    """
    import environment

    if not hasattr(environment, 'need'):
        raise ImportError(
            f'{environment.__file__} hides the package environment of attention-networks, without which MXNet does not '
            'start here; rename that file'
        )
    from environment import cuda_libraries, memory, numpy_names, threads

    if memory.scarce_addresses():
        raise ImportError('the address space of this process is limited (ulimit -v) to less than MXNet needs')

    threads.set_threads()
    cuda_libraries.preload()
    numpy_names.install()


def explain_uncaught() -> None:
    """Let the traceback of a failed import say that a file hides a package of ours, or that MXNet is not installed."""
    usual = sys.excepthook
    if getattr(usual, '__name__', None) == 'explain_import':
        return

    def explain_import(kind: type, error: BaseException, traceback: object) -> None:
        if isinstance(error, ImportError) and (error.name or '').partition('.')[0] in (*PACKAGES, *NODEPS):
            try:
                from environment import hidden

                error.msg = hidden.explained(error) or error.msg
            except ImportError:  # `environment` itself is hidden; the error has its path
                pass
        usual(kind, error, traceback)

    sys.excepthook = explain_import


def register() -> None:
    """Prepare the process on the first import of MXNet, or at once if it has already been imported."""
    if not any(getattr(finder, '__name__', None) == MxnetHook.__name__ for finder in sys.meta_path):
        sys.meta_path.insert(0, MxnetHook)
    explain_uncaught()
    if 'mxnet' in sys.modules:
        from environment import patches

        prepare()
        patches.mend_loaded()
