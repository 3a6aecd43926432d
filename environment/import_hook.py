"""Prepares the process at the moment MXNet, or a package that builds on it, is imported.

The hook stands in front of `sys.meta_path` and finds nothing itself. `environment` registers it, and so does
a `.pth` file in our `.venv`, for a plain `import mxnet` there. That one runs this file by itself whenever an
interpreter starts; hence nothing is imported here before it is needed.
"""

import sys

__all__ = ['PACKAGES', 'prepare', 'register']

PACKAGES = ('mxnet', 'gluoncv', 'autocfg', 'horovod')


class FirstImport:
    """A finder that finds nothing and prepares everything."""

    @staticmethod
    def find_spec(name, path=None, target=None) -> None:
        if name in PACKAGES:
            prepare()


def prepare() -> None:
    """Threads, the CUDA libraries, and NumPy's lost names; cheap the second time.

    Raises:
        ImportError: NumPy is missing or broken.
        OSError: a CUDA library does not load.
    """
    from environment import cuda_libraries, numpy_names, threads

    threads.set_threads()
    cuda_libraries.preload()
    numpy_names.install()


def register() -> None:
    """Prepare the process on the first import of one of `PACKAGES`, or at once where that has happened
    already.
    """
    if any(name in sys.modules for name in PACKAGES):
        prepare()
    elif not any(getattr(finder, '__name__', None) == FirstImport.__name__ for finder in sys.meta_path):
        sys.meta_path.insert(0, FirstImport)
