"""Measure the time from a process's start to its first answer, and its peak memory, for ours and other runtimes.

Each is a program of its own that reads an existing file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict

from mxnet import gluon

import kernels.engine
from environment import UserError
from inference.engine.each_set import plans_of
from inference.exported_folder import exported_folder
from inference.onnx_file import export_onnx

__all__ = ['startups']

# sys.argv: a path, the number of threads, the shape. What is imported counts; what tells of memory comes afterwards.
_PROGRAMS = {
    'own': """
import sys, json, numpy as np
sys.path.insert(0, sys.argv[1])
from load_engine import load
net, _ = load(threads=int(sys.argv[2]))
answer = net(np.zeros(json.loads(sys.argv[3]), np.float32))
""",
    'onnxruntime': """
import sys, json, numpy as np, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(sys.argv[2])
net = onnxruntime.InferenceSession(sys.argv[1] + '/net.onnx', options, providers=['CPUExecutionProvider'])
answer = net.run(None, {net.get_inputs()[0].name: np.zeros(json.loads(sys.argv[3]), np.float32)})[0]
""",
    'openvino': """
import sys, json, numpy as np, openvino
core = openvino.Core()
model = core.read_model(sys.argv[1] + '/net.onnx')
model.reshape(json.loads(sys.argv[3]))
hints = {'PERFORMANCE_HINT': 'LATENCY', 'INFERENCE_PRECISION_HINT': 'f32', 'INFERENCE_NUM_THREADS': int(sys.argv[2])}
net = core.compile_model(model, 'CPU', hints)
answer = next(iter(net([np.zeros(json.loads(sys.argv[3]), np.float32)]).values()))
""",
}
_MEMORY = """
with open('/proc/self/status') as file:
    print(next(line.split()[1] for line in file if line.startswith('VmHWM')))
"""


def startups(net: gluon.HybridBlock, side: int, threads: int, folder: Path, rounds: int = 3) -> Dict[str, Any]:
    """Return the shortest of ``rounds`` times to the first answer in seconds, and peak megabytes, by runtime.

    ``folder`` receives the files. Runtimes that are not installed, or cannot run the network, are omitted.
    """
    shape = [1, 3, side, side]
    try:
        with exported_folder(folder) as new:
            new.write_info({'files': {'engine': new.write_plans(plans_of(net, shape, [kernels.engine.chosen()]))}})
    except UserError:  # no engine here
        pass
    try:
        export_onnx(net, folder / 'net.onnx', side)
    except UserError:  # without the extra
        pass
    found: Dict[str, Any] = {}
    for name, program in _PROGRAMS.items():
        measured = [_once(program + _MEMORY, folder, threads, shape) for _ in range(rounds)]
        if None not in measured:
            found[name] = {'seconds': min(seconds for seconds, _ in measured), 'peak_mb': measured[-1][1]}
    return found


def _once(program: str, folder: Path, threads: int, shape: Any) -> Any:
    command = [sys.executable, '-c', program, str(folder), str(threads), json.dumps(shape)]
    start = time.perf_counter()
    environment = {**os.environ, 'OMP_NUM_THREADS': str(threads)}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    seconds = time.perf_counter() - start
    return (seconds, int(done.stdout.split()[-1]) / 1024) if done.returncode == 0 else None
