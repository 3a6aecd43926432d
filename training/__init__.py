"""Data, schedule, optimizer, loop, checkpoints and records of training."""

import environment

if not hasattr(environment, 'need'):
    raise ImportError(f'{environment.__file__} hides the package environment of attention-networks; rename that file')
environment.need('kernels', 'model', 'data')
