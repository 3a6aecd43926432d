"""Compare N training processes of one thread each with one process of N threads, on the same noise.

    python tools/benchmark_processes.py
    python tools/benchmark_processes.py --processes 4 --batch-size 32 --json processes.json
    python tools/benchmark_processes.py --model resnet18_v1b --input-size 224 --batch-size 8

Both do the same steps with the same number of images, through train_imagenet.py. They take turns, so that other load on
the machine affects both equally, and medians are compared. The first epoch of each run is not counted.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Sequence

import _bootstrap
from common.files import write_json
from common.usage import described
from environment import UserError, import_extra, run_main
from environment.threads import VARIABLES, physical_cores
from training.config.fields import typed
from training.config.flags import number, output_file
from training.config.settings import Parser
from training.logging.events import read_events


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = Parser(prog='benchmark_processes.py', **described(__doc__))
    parser.add_argument('--model', default='cifar_atac_resnet20_v2', help='name of the network')
    parser.add_argument('--input-size', type=number(int, 1), default=32, help='side of the images in pixels')
    parser.add_argument(
        '--processes', type=number(int, 2), default=max(2, physical_cores()), help='number of processes, and of threads'
    )
    parser.add_argument('--batch-size', type=number(int, 1), default=64, help='images per step of each process')
    parser.add_argument('--steps', type=number(int, 2), default=20, help='steps of an epoch')
    parser.add_argument('--rounds', type=number(int, 1), default=3, help='runs of each kind')
    parser.add_argument('--json', type=output_file, metavar='FILE', help='write the figures to this file')
    return parser.parse_args(argv)


@dataclass(frozen=True)
class Work:
    """The work that both kinds of runs do."""

    model: str
    input_size: int  # in pixels
    batch_size: int  # of each process
    steps: int  # of an epoch


def speed(work: Work, processes: int, threads: int) -> float:
    """Return the images/s of a run's second epoch, in `processes` processes of `threads` threads each."""
    environ = {**{k: v for k, v in os.environ.items() if k not in VARIABLES}, 'OMP_NUM_THREADS': str(threads)}
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            'train_imagenet.py',
            *f'--benchmark {work.steps} --classes 10 --model {work.model} --input-size {work.input_size}'.split(),
            *f'--batch-size {work.batch_size * threads} --num-epochs 2 --mode static -j 1 --log-interval 0'.split(),
            *f'--checkpoint-interval 0 --save-dir {folder}/run'.split(),
        ]
        if processes > 1:
            launcher = Path(sys.executable).parent / 'horovodrun'
            command = [str(launcher), '-np', str(processes), '--gloo', *command, '--horovod']
        result = subprocess.run(
            command, env=environ, cwd=_bootstrap.ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if result.returncode != 0:
            raise UserError(f'{" ".join(command)} ended with status {result.returncode}: {result.stdout[-500:]}')
        epochs = [event for event in read_events(Path(folder) / 'run' / 'log.jsonl') if event['event'] == 'epoch']
        return epochs[-1]['images_per_second']


def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse(argv)
    import_extra('horovod')
    work = typed(Work, vars(args))
    speeds: Dict[str, List[float]] = {'processes': [], 'threads': []}
    for _ in range(args.rounds):
        speeds['processes'].append(speed(work, args.processes, 1))
        speeds['threads'].append(speed(work, 1, args.processes))
    ratio = statistics.median(a / b for a, b in zip(speeds['processes'], speeds['threads']))
    count = args.processes
    print(f'{args.model}, {args.batch_size * count} images per step; medians of {args.rounds} runs')
    print(f'{count} processes of 1 thread  {statistics.median(speeds["processes"]):8.0f} images/s')
    print(f'1 process of {count} threads  {statistics.median(speeds["threads"]):8.0f} images/s')
    print(f'{ratio:6.2f}  processes / threads')
    if args.json:
        figures = {**{k: v for k, v in vars(args).items() if k != 'json'}, 'images_per_second': speeds, 'ratio': ratio}
        write_json(args.json, figures)
    return 0


if __name__ == '__main__':
    run_main(main)
