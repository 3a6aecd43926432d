"""Prepares the process at the moment MXNet, or a package that builds on it, is imported.

The hook stands in front of `sys.meta_path`. `environment` registers it, and so does a `.pth` file in our
`.venv`, for a plain `import mxnet` there. That one runs this file by itself whenever an interpreter starts;
hence nothing is imported here before it is needed.
"""

import sys

__all__ = ['PACKAGES', 'prepare', 'register']

PACKAGES = ('mxnet', 'gluoncv', 'horovod')


class MxnetHook:
    """A finder that prepares the process for `PACKAGES`, and finds only the modules that need mending."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in PACKAGES:
            prepare()
        elif name.partition('.')[0] in PACKAGES:
            from environment import patches

            if name in patches.PATCHES:
                return patches.mended_spec(name, path)
        return None


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
    if not any(getattr(finder, '__name__', None) == MxnetHook.__name__ for finder in sys.meta_path):
        sys.meta_path.insert(0, MxnetHook)
    if any(name in sys.modules for name in PACKAGES):
        from environment import patches

        prepare()
        patches.mend_loaded()
