"""Prepare the process so that `import mxnet` works, and is fast, on every supported Python.

    import environment            # before anything that imports MXNet

    environment.require_mxnet()   # in entry points only: one sentence and status 1 if the installation is broken

    import mxnet as mx

    def main(argv=None):
        ...                       # raises UserError or UsageError for what the user can fix

    if __name__ == '__main__':
        environment.run_main(main)

The import takes a few milliseconds, may be repeated, and needs the standard library only. It opens standard streams
that are closed (`environment.streams`) and sets the number of threads (`environment.threads`). On the first import of
`mxnet`, `gluoncv` or `horovod` it loads the CUDA libraries (`environment.cuda_libraries`) and supplies the NumPy names
that these packages miss (`environment.numpy_names`).

An entry point with a fast `--help` imports MXNet inside `main` and leaves out `require_mxnet`; `run_main` prints the
same sentence. Scripts in `scripts/` begin with `import _bootstrap`, which makes `import environment` work from any
working folder. Optional packages are imported where they are used, with `environment.import_extra('onnx')`.
"""

import sys

from environment.streams import open_missing_streams

open_missing_streams()  # before anything is printed or opened

import common

# `need` reports hidden packages, but it is not available before this one is imported.
if not hasattr(common, 'OWNER'):
    _place = getattr(common, '__file__', None) or next(iter(common.__path__))
    raise ImportError(f'{_place} hides the package common of attention-networks; rename that file or folder')

from common.errors import SetupError, UsageError, UserError
from environment.health import PYTHONS, check_python, import_extra, require_mxnet

# Python 3.6 can parse everything up to here, and the entry points; it cannot parse what follows.
if sys.version_info[:2] < PYTHONS[0] or sys.flags.optimize > 1:
    raise SystemExit(f'error: {check_python()}')

from environment import import_hook, memory, threads
from environment.entry import answer_flags, run_main
from environment.hidden import need

__all__ = [
    'SetupError',
    'UsageError',
    'UserError',
    'answer_flags',
    'import_extra',
    'need',
    'require_mxnet',
    'run_main',
]

threads.set_threads()
memory.keep_freed_memory()
memory.bound_primitives()
import_hook.register()
