"""The ground floor: prepares the process, so that `import mxnet` works and is fast on every supported Python.

    import environment            # before anything that imports MXNet

    def parse(argv):              # flags; needs nothing that takes long to import
        ...

    environment.answer_flags(__name__, parse)   # --help, and what is wrong with the flags, at once
    environment.require_mxnet()   # in entry points only: one sentence and status 1 where the set-up is broken

    import mxnet as mx

    def main(argv=None):
        ...                       # raises UserError or UsageError for what the user can put right

    if __name__ == '__main__':
        environment.run_main(main)

Importing it takes a few milliseconds, may be repeated, and imports nothing outside the standard library. At
once it opens what is closed of the standard streams (`environment.streams`) and sets the threads
(`environment.threads`); on the first `import mxnet`, `gluoncv` or `horovod` it loads the CUDA libraries
(`environment.cuda_libraries`) and gives these packages the NumPy names they miss (`environment.numpy_names`).

An entry point may also import MXNet inside `main` and leave out `require_mxnet`: `run_main` gives the same
sentence. Scripts below `scripts/` begin with `import _bootstrap`, which does
`import environment` from any working folder. Optional packages are imported where they are used, with
`environment.import_extra('onnx')`.
"""

import sys

from environment.streams import open_missing_streams

open_missing_streams()  # before anything is said, or a file opened

import common

# The one package of ours that is imported before `need` is there to say what hides another.
if not hasattr(common, 'OWNER'):
    _place = getattr(common, '__file__', None) or next(iter(common.__path__))
    raise ImportError(f'{_place} hides the package common of attention-networks; rename that file or folder')

from common.errors import SetupError, UsageError, UserError
from environment.health import PYTHONS, check_python, import_extra, require_mxnet

# So far, and in the entry points themselves, Python 3.6 can read everything; what comes now it cannot.
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
