"""Training steps of ours, in a process: the other side of tools/_torch_training.py, with the same interface.

python _training_step.py SPEC, where SPEC is JSON. Prints a line once it is ready, and a JSON object for every line on
stdin.
"""

import _bootstrap  # noqa: F401
from environment import require_mxnet, run_main  # isort: split

import json
import os
import sys
import tempfile
import time
from typing import Any, Callable, Dict, Optional, Sequence

require_mxnet()

import mxnet as mx
import numpy as np
from mxnet import profiler

import kernels
from environment.memory import return_freed_memory
from inference.comparison.machine import peak_memory, reset_peak_memory, resident_memory
from model import get_model
from model.hybridization import apply_mode
from training.hybridization import trace_for_training
from training.loss import Criterion
from training.optim.optimizer import make_trainer
from training.precision import Precision
from training.recompute import Recomputed
from training.step import TrainingStep, build_network

# MXNet has no times of operators that it runs as one.
_APART = {'static_alloc': False, 'static_shape': False, 'forward_bulk_size': 1, 'backward_bulk_size': 1}


def training_step(spec: Dict[str, Any], profiled: bool = False) -> Callable[[], None]:
    """Return one step of Nesterov's momentum on a batch of noise, as the training scripts do it."""
    precision, size, options = Precision(spec['precision']), spec['size'], {'classes': spec['classes']}
    net = build_network(lambda: get_model(spec['model'], **options), 0, [mx.cpu()], size)
    precision.prepare(net)
    program = precision.program(net)
    apply_mode(program, spec['mode'])
    fuses = kernels.have(precision.dtype)  # as `training.task.Task.fuses` on a CPU
    if profiled:
        program.hybridize(**_APART)
    if spec['recompute']:
        if not kernels.pool_memory():
            return_freed_memory()
        program = Recomputed(program, net, True, False, fuses)
    else:
        trace_for_training(program, spec['mode'], size, mx.cpu(), fuses)
    trainer = make_trainer(net, lr=1e-3)
    step = TrainingStep(program, trainer, Criterion(spec['classes']), [mx.cpu()])
    data = np.random.RandomState(0).standard_normal((spec['batch'], 3, size, size)).astype(np.float32)
    labels = np.arange(spec['batch']) % spec['classes']
    return lambda: step(data, labels)


def timed(step: Callable[[], None], steps: int) -> float:
    """Return the seconds of a step, of so many that Python does not wait for each."""
    start = time.perf_counter()
    for _ in range(steps):
        step()
    mx.nd.waitall()
    return (time.perf_counter() - start) / steps


def convolutions(step: Callable[[], None], steps: int = 2) -> float:
    """Return the share of the operators' time that convolutions and their gradients have."""
    with tempfile.TemporaryDirectory() as folder:  # MXNet removes the file, which must not be a device
        file = os.path.join(folder, 'profile.json')
        profiler.set_config(filename=file, profile_imperative=True, profile_symbolic=True, aggregate_stats=True)
        profiler.set_state('run')
        timed(step, steps)
        profiler.set_state('stop')
        operators = json.loads(profiler.dumps(reset=True, format='json'))['Time']['operator']
    totals = {name: float(row['Total']) for name, row in operators.items() if name != 'WaitForVar'}
    return sum(value for name, value in totals.items() if 'conv' in name.lower()) / sum(totals.values())


def main(argv: Optional[Sequence[str]] = None) -> int:
    spec = json.loads((sys.argv[1:] if argv is None else argv)[0])
    kernels.load()
    before = resident_memory()
    reset_peak_memory()
    step = training_step(spec)
    timed(step, spec['warm'])
    peak = peak_memory() - before
    print('ready', flush=True)
    for line in sys.stdin:
        if line.strip() == 'last':
            share = convolutions(training_step(spec, profiled=True))
            print(json.dumps({'megabytes': peak, 'convolutions': share}), flush=True)
            continue
        once = timed(step, 1)
        seconds = timed(step, max(2, round(float(line) / once)))
        print(json.dumps({'images_per_second': spec['batch'] / seconds}), flush=True)
    return 0


if __name__ == '__main__':
    run_main(main)
