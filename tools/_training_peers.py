"""Training beside PyTorch: the same networks, optimizer and batches, in processes that take turns.

The networks of PyTorch are written of ours (`inference.torch_source`), and run in channels_last. A cell is a network, a
batch size and a precision. What is measured is kept in a file, cell by cell, so that a run that was stopped goes on.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import mxnet as mx

from common.files import write_json, write_text
from common.schema import read_json
from environment import UsageError, UserError
from inference.torch_source import torch_source
from model import get_model, input_size
from model.convert import to_state_dict
from model.convert.files import write_state

__all__ = ['beside_torch', 'cells_of', 'torch_python']

CONTENDERS = {
    'float32': ('ours', 'torch', 'torch compiled', 'ours, recomputing'),
    'bfloat16': ('ours', 'torch', 'torch compiled'),
}
#: What a row is: a cell and what was measured of each contender.
ROW = {
    'model': str,
    'batch_size': int,
    'precision': str,
    'contenders': {...: {'images_per_second': float, ...: object}},
    ...: object,
}


class Cell(NamedTuple):
    """What is measured at a time."""

    model: str
    batch: int
    precision: str

    @property
    def size(self) -> int:
        return input_size(self.model)

    @property
    def classes(self) -> int:
        return 10 if self.model.startswith('cifar') else 1000


def write_network(cell: Cell, folder: Path) -> None:
    """Write PyTorch's source and parameters of a cell's network into the folder."""
    mx.random.seed(0)
    net = get_model(cell.model, classes=cell.classes)
    net.initialize(mx.init.MSRAPrelu())
    write_text(folder / 'net.py', torch_source(net, cell.model, cell.size))
    write_state(folder / 'net.safetensors', to_state_dict(net))


class Contender:
    """A process that trains a cell's network."""

    def __init__(self, name: str, cell: Cell, torch: str, folder: Path, mode: str) -> None:
        self.name = name
        spec = {
            'model': cell.model,
            'batch': cell.batch,
            'precision': cell.precision,
            'size': cell.size,
            'classes': cell.classes,
            'mode': mode,
            'compiled': name.endswith('compiled'),
            'recompute': name.endswith('recomputing'),
            'warm': 2,
            'threads': int(os.environ.get('OMP_NUM_THREADS') or os.cpu_count() or 1),
        }
        tools = Path(__file__).parent
        ours = name.startswith('ours')
        command = [sys.executable, '_training_step.py'] if ours else [torch, '_torch_training.py', str(folder)]
        self._process = subprocess.Popen(
            [*command, json.dumps(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=tools,
            text=True,
        )

    def read(self) -> str:
        line = self._process.stdout.readline()
        if not line:
            raise UserError(f'{self.name}: its process ended early; the message is above')
        return line

    def ask(self, what: str) -> Dict[str, float]:
        self._process.stdin.write(what + '\n')
        self._process.stdin.flush()
        return json.loads(self.read())

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def measured(cell: Cell, torch: str, eager: bool, seconds: float, rounds: int, mode: str) -> Dict[str, Any]:
    """Return the row of a cell: each contender has `rounds` turns of at least so many seconds."""
    contenders = [name for name in CONTENDERS[cell.precision] if not (eager and name.endswith('compiled'))]
    with tempfile.TemporaryDirectory() as folder:
        write_network(cell, Path(folder))
        running: List[Contender] = []
        try:
            for name in contenders:
                running.append(Contender(name, cell, torch, Path(folder), mode))
                running[-1].read()
            speeds: Dict[str, List[float]] = {name: [] for name in contenders}
            for _ in range(rounds):
                for one in running:
                    speeds[one.name].append(one.ask(str(seconds))['images_per_second'])
            found = {
                one.name: {
                    'images_per_second': statistics.median(speeds[one.name]),
                    'measurements': speeds[one.name],
                    **one.ask('last'),
                }
                for one in running
            }
        finally:
            for one in running:
                one.close()
    return {'model': cell.model, 'batch_size': cell.batch, 'precision': cell.precision, 'contenders': found}


def torch_python(given: str) -> str:
    """Return the Python that --beside-torch names, or else TORCH_PYTHON; `UsageError` if it has no torch."""
    python = given or os.environ.get('TORCH_PYTHON', '')
    if not python:
        raise UsageError('--beside-torch needs a Python that has torch: --beside-torch PYTHON, or set TORCH_PYTHON')
    try:
        found = subprocess.run([python, '-c', 'import torch'], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except OSError as error:
        raise UsageError(f'--beside-torch {python} cannot be run ({error.strerror}); name a Python') from error
    if found.returncode:
        raise UsageError(f'--beside-torch {python} has no torch that can be imported; install it there')
    return python


def cells_of(text: str) -> List[Cell]:
    """Return the cells that --cells names, NAME:BATCH or NAME:BATCH:PRECISION, with commas."""
    cells = []
    for part in text.split(','):
        name, batch, precision, *_ = [*part.split(':'), '', '', '']
        if not batch.isdigit() or int(batch) < 1 or precision not in ('', *CONTENDERS):
            raise UsageError(f'--cells has {part!r}; give NAME:BATCH or NAME:BATCH:float32 or NAME:BATCH:bfloat16')
        try:
            input_size(name)
        except ValueError as error:
            raise UsageError(f'--cells: {error}') from error
        cells += [Cell(name, int(batch), one) for one in ([precision] if precision else CONTENDERS)]
    return cells


def known_rows(path: Optional[str]) -> Dict[Cell, Dict[str, Any]]:
    """Return what a run before this one has measured, by cell."""
    if path is None or not Path(path).exists():
        return {}
    try:
        content = read_json(path, {'beside_torch': [ROW], ...: object})
    except (OSError, ValueError) as error:
        raise UserError(f'--json {path} holds something else ({error}); name another file') from error
    return {Cell(row['model'], row['batch_size'], row['precision']): row for row in content['beside_torch']}


def line(row: Dict[str, Any]) -> str:
    """Return a row as a line of text."""
    speeds = {name: one['images_per_second'] for name, one in row['contenders'].items()}
    figures = ', '.join(f'{name} {speed:.1f} ({speeds["ours"] / speed:.2f})' for name, speed in speeds.items())
    return f'{row["model"]}, batch {row["batch_size"]}, {row["precision"]}: images/s (ours / theirs): {figures}'


def beside_torch(
    cells: Sequence[Cell], torch: str, eager: bool, seconds: float, rounds: int, mode: str, path: Optional[str]
) -> None:
    """Measure the cells that the file does not have yet, print a line for each, and write the file after each."""
    rows = known_rows(path)
    for cell in cells:
        if cell not in rows:
            rows[cell] = measured(cell, torch, eager, seconds, rounds, mode)
            if path is not None:
                write_json(path, {'beside_torch': list(rows.values())})
        print(line(rows[cell]), flush=True)
