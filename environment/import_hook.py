"""Prepares the process at the moment MXNet is imported, and not before.

A launcher such as `horovodrun` never imports MXNet: the variables that would be set there are inherited by its
processes, which are to divide the cores among themselves.

The hook stands in front of `sys.meta_path`. `environment` registers it, and so does a `.pth` file in our
`.venv`, for a plain `import mxnet` there. That one runs this file by itself whenever an interpreter starts;
hence nothing is imported here before it is needed.
"""

import sys

__all__ = ['MENDED', 'NODEPS', 'PACKAGES', 'prepare', 'register']

# The modules that `environment.patches` mends.
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


# Ours, and what pip is to install without what it asks for.
PACKAGES = ('environment', 'common', 'kernels', 'model', 'data', 'inference', 'detection', 'training')
NODEPS = ('mxnet', 'gluoncv')


class MxnetHook:
    """A finder that prepares the process for MXNet, and finds only the modules that need mending."""

    # `object`: the exact types would have to be imported.
    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> object:
        if name == 'mxnet':  # which the others import before they need anything
            prepare()
        elif name in MENDED:
            from environment import patches

            return patches.mended_spec(name, path)
        return None


def prepare() -> None:
    """Threads, the CUDA libraries, and NumPy's lost names; cheap the second time.

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
        raise ImportError('the addresses of this process are limited (ulimit -v) to fewer than MXNet needs')

    threads.set_threads()
    cuda_libraries.preload()
    numpy_names.install()


def explain_uncaught() -> None:
    """Let the traceback of a failed import say so where a file of the user's hides a package of ours, or MXNet is not
    installed.
    """
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
    """Prepare the process on the first import of MXNet, or at once where that has happened already."""
    if not any(getattr(finder, '__name__', None) == MxnetHook.__name__ for finder in sys.meta_path):
        sys.meta_path.insert(0, MxnetHook)
    explain_uncaught()
    if 'mxnet' in sys.modules:
        from environment import patches

        prepare()
        patches.mend_loaded()
