"""Training steps of PyTorch, run by a Python that has torch: the other side of tools/_training_peers.py.

python _torch_training.py FOLDER SPEC, where FOLDER has a net.py and SPEC is JSON. Prints a line once it is ready, and a
JSON object for every line on stdin.
"""

import importlib.util
import json
import pathlib
import sys
import time
from typing import Any, Callable, Dict

import torch

STATUS = pathlib.Path('/proc/self/status')


def resident(key: str) -> float:
    """Return a row of the process's memory in megabytes."""
    row = next(line for line in STATUS.read_text().splitlines() if line.startswith(key + ':'))
    return int(row.split()[1]) / 1024


def training_step(folder: pathlib.Path, spec: Dict[str, Any]) -> Callable[[], None]:
    """Return one step of Nesterov's momentum on a batch of noise, as our side does it."""
    module = importlib.util.spec_from_file_location('net', folder / 'net.py')
    made = importlib.util.module_from_spec(module)
    module.loader.exec_module(made)
    if hasattr(made, 'BatchNorm'):  # PyTorch's own is one operator, whose running variance alone differs
        made.BatchNorm.forward = torch.nn.BatchNorm2d.forward
    torch.manual_seed(0)
    net = made.load().train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), 1e-3, 0.9, weight_decay=1e-4, nesterov=True)
    data = torch.randn(spec['batch'], 3, spec['size'], spec['size']).to(memory_format=torch.channels_last)
    labels = torch.arange(spec['batch']) % spec['classes']
    narrow = spec['precision'] == 'bfloat16'
    program = torch.compile(net) if spec['compiled'] else net

    def step() -> None:
        with torch.autocast('cpu', torch.bfloat16, enabled=narrow):
            loss = torch.nn.functional.cross_entropy(program(data).float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def timed(step: Callable[[], None], steps: int) -> float:
    """Return the seconds of a step, of so many."""
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - start) / steps


def convolutions(step: Callable[[], None], steps: int = 2) -> float:
    """Return the share of the operators' time that convolutions and their gradients have."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        for _ in range(steps):
            step()
    rows = {row.key: row.self_cpu_time_total for row in profiler.key_averages()}
    ours = sum(value for key, value in rows.items() if 'conv' in key.lower())
    return ours / sum(rows.values())


def main() -> None:
    folder, spec = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2])
    torch.set_num_threads(spec['threads'])
    before = resident('VmRSS')
    step = training_step(folder, spec)
    for _ in range(spec['warm']):
        step()
    if spec['compiled']:
        before = 0.0  # the compiler's own memory is in it: no figure
    peak = resident('VmHWM') - before
    print('ready', flush=True)
    for line in sys.stdin:
        if line.strip() == 'last':
            known = {'convolutions': convolutions(step)}
            if not spec['compiled']:
                known['megabytes'] = peak
            print(json.dumps(known), flush=True)
            continue
        once = timed(step, 1)
        seconds = timed(step, max(2, round(float(line) / once)))
        print(json.dumps({'images_per_second': spec['batch'] / seconds}), flush=True)


if __name__ == '__main__':
    main()
