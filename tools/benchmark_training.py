"""Measure training speed: the whole loop against its bare step, ATAC against ReLU, ours against the original's set-up.

    python tools/benchmark_training.py --json training.json
    python tools/benchmark_training.py --model cifar_se_resnet20_v1 --baseline cifar_resnet20_v1
    python tools/benchmark_training.py --contender bare,loop --rounds 2
    python tools/benchmark_training.py --beside-torch PYTHON --json results/training_beside_torch.json

The contenders take turns, so that other load on the machine affects all equally, and medians are compared. Those with
the same settings share a process and take turns every few steps, because two processes that do the same differ by up to
a tenth in speed, depending on where their memory lies. The others have processes of their own. All use the same random
images.

- bare: forward, backward and update on one batch that is already on the device
- loop: the loop of train_cifar.py: data, metrics, checks, progress, checkpoints, log, history
- bare-baseline: as bare, for the network of --baseline
- bare-muon: as bare, with --optimizer muon instead of nag
- default-threads: as loop, with the number of threads that MXNet takes by default: half of the processors
- original-data: as loop, fed by Gluon's DataLoader with a transform for every image, as in the original
- original-set-up: default-threads and original-data together
- feeding: only the data pipeline of train_cifar.py
- original-feeding: only the original's data pipeline

With --beside-torch the contenders are ours and PyTorch's (channels_last, eager and compiled), in float32 and bfloat16,
on the networks and batches that --cells names. --json is written after each cell, and a second run goes on from there.
"""

import _bootstrap
from environment import UsageError, UserError, answer_flags, require_mxnet, run_main  # isort: split

import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from common.files import write_json
from common.usage import described
from environment.threads import VARIABLES
from training.config.flags import number, output_file
from training.config.run_folder import RunFolder
from training.config.settings import Parser

CONTENDERS = (
    'bare',
    'loop',
    'bare-baseline',
    'bare-muon',
    'default-threads',
    'original-data',
    'original-set-up',
    'feeding',
    'original-feeding',
)
# Of --beside-torch.
DEFAULT = 'cifar_resnet20_v2:128,cifar_atac_resnet20_v2:128,resnet50_v1b:16,se_resnet50_v1b:16,mobilenet_v2:16'
TURN_SECONDS = 2.0
TURN = 20  # steps before it is the next team member's turn
INTERVAL = 200  # steps from one checkpoint to the next: the default of --checkpoint-interval
# Each team shares a process.
TEAMS = (CONTENDERS[:4], *((name,) for name in CONTENDERS[4:]))


@dataclass(frozen=True)
class Options:
    """What to measure, and how: the `steps` of a measurement are split into turns of `turn` steps."""

    model: str
    baseline: str
    batch_size: int
    mode: str
    steps: int
    rounds: int
    num_data_workers: int
    contender: Tuple[str, ...]
    beside_torch: Optional[str]
    cells: str
    quick: bool
    eager: bool
    json: Optional[str]

    @property
    def turn(self) -> int:
        return min(TURN, self.steps)


def parse(argv: Optional[Sequence[str]]) -> Options:
    parser = Parser(prog='benchmark_training.py', **described(__doc__))
    parser.add_argument('--model', default='cifar_atac_resnet20_v2', help='name of the network')
    parser.add_argument('--baseline', default='cifar_resnet20_v2', help='network whose step it is compared with')
    parser.add_argument('--batch-size', type=number(int, 1), default=128, help='images per step')
    parser.add_argument(
        '--mode', default='auto', choices=('auto', 'imperative', 'hybrid', 'static'), help='how networks run'
    )
    parser.add_argument(
        '--steps', type=number(int, 2), default=INTERVAL, help=f'steps of a measurement, in turns of {TURN}'
    )
    parser.add_argument('--rounds', type=number(int, 1), default=4, help='measurements of each contender')
    parser.add_argument(
        '-j', '--num-data-workers', type=number(int, 0), default=4, help="processes of the original's loader"
    )
    parser.add_argument(
        '--contender', metavar='NAMES', help='only these, in this process: each line on stdin starts a measurement'
    )
    parser.add_argument(
        '--beside-torch',
        metavar='PYTHON',
        nargs='?',
        const='',
        help='beside the torch of this Python, or of the one that TORCH_PYTHON names',
    )
    parser.add_argument(
        '--cells', default=DEFAULT, help='of --beside-torch: NAME:BATCH or NAME:BATCH:PRECISION, with commas'
    )
    parser.add_argument('--quick', action='store_true', help='of --beside-torch: one short turn each')
    parser.add_argument(
        '--eager', action='store_true', help='of --beside-torch: without torch.compile, which takes minutes at first'
    )
    parser.add_argument('--json', type=output_file, metavar='FILE', help='write the figures to this file')
    given = vars(parser.parse_args(argv))
    options = Options(**{**given, 'contender': tuple(given['contender'].split(',')) if given['contender'] else ()})
    for name in options.contender:
        if name not in CONTENDERS:
            raise UsageError(f'--contender has {name!r}; allowed: {", ".join(CONTENDERS)}')
    return options


answer_flags(__name__, parse)
require_mxnet()

import mxnet as mx
import numpy as np
from mxnet import autograd

import _training_peers
from _gluon_loader import gluon_loader, noise
from data.augmentation.shift import Augment
from data.classification.dataset import ImageDataset
from data.classification.loader import Loader
from data.sampler import Sampler
from training.checkpoints.checkpoint import CheckpointStore
from training.checkpoints.position import Position
from training.config.cifar import CifarSettings
from training.config.optimizer import OptimizerSettings
from training.logging.outputs import Outputs
from training.logging.text_log import RunLog
from training.loop import checked_state, train_epoch
from training.task import Network, RunData, fastest_mode_of
from training.tasks.cifar import CifarTask

CLASSES = 10
RATE = 1e-3
# (name, numerator, denominator, description)
RATIOS = (
    ('loop_to_bare', 'loop', 'bare', 'whole loop / bare step'),
    ('baseline_to_model_step', 'bare-baseline', 'bare', 'step time of the model / of the baseline'),
    ('muon_to_nag_step', 'bare', 'bare-muon', 'step time with Muon / with NAG'),
    ('to_default_threads', 'loop', 'default-threads', "loop / loop with MXNet's threads"),
    ('to_original_data', 'loop', 'original-data', "loop / loop with the original's data pipeline"),
    ('to_original', 'loop', 'original-set-up', 'loop / loop with both'),
    ('feeding_to_bare', 'feeding', 'bare', 'data pipeline alone / bare step'),
    ('to_original_feeding', 'feeding', 'original-feeding', "data pipeline alone / the original's"),
)


class SampleTransforms:
    """The original's pipeline in place of a `Loader`: Gluon's loader, with processes and a transform per image."""

    def __init__(self, dataset: ImageDataset, batch_size: int, workers: int) -> None:
        self._loader = gluon_loader(dataset, batch_size, workers)
        self.dataset, self.batch_size = dataset, batch_size

    def __len__(self) -> int:
        return len(self._loader)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Tuple[int, np.ndarray, np.ndarray, int]]:
        for index, (data, labels) in enumerate(self._loader):
            yield index, data.asnumpy(), labels.asnumpy(), len(labels)


class NoiseTask(CifarTask):
    """A task that trains a network on a loader's noise at a constant learning rate."""

    def __init__(self, network: str, loader: Any, optimizer: str = 'nag') -> None:
        defaults = CifarSettings()
        schedule = replace(defaults.schedule, num_epochs=10**6, lr=RATE, lr_decay_epoch='')
        settings = replace(defaults, schedule=schedule, optimizer=OptimizerSettings(optimizer=optimizer))
        super().__init__(settings.changed('run', checkpoint_interval=0), [mx.cpu()])
        self.loader = loader
        self.assign(self.load(), Network(network, {'classes': CLASSES}), None)

    def load(self) -> RunData:
        images = self.loader.dataset
        names = tuple(map(str, range(CLASSES)))
        return RunData(self.loader, self.loader, 'noise', names, images.preprocessing, len(images), len(images))


def bare_block(options: Options, name: str, optimizer: str = 'nag') -> Callable[[], float]:
    """Return a function that runs `options.turn` steps and returns the seconds that they took."""
    task = NoiseTask(name, feeding(options, original=False), optimizer)
    step = task.learner(task.new_network(), options.mode)
    step.trainer.set_learning_rate(RATE)
    data = mx.nd.random.normal(shape=(options.batch_size, 3, 32, 32))
    labels = mx.nd.array(np.arange(options.batch_size) % CLASSES)

    def run() -> float:
        start = time.perf_counter()
        for _ in range(options.turn):
            with autograd.record():
                loss = step.criterion(step.program(data), labels)
            loss.backward()
            step.trainer.step(options.batch_size)
        mx.nd.waitall()
        return time.perf_counter() - start

    return run


def feeding(options: Options, original: bool) -> Any:
    """Return a loader with as many batches as a turn has steps."""
    dataset = noise(options.turn * options.batch_size)
    if original:
        return SampleTransforms(dataset, options.batch_size, options.num_data_workers)
    return Loader(dataset, Sampler(options.batch_size, shuffle=True, last='discard'), Augment())


def feeding_block(options: Options, original: bool) -> Callable[[], float]:
    """Return a function as `bare_block` does, which only brings the data to the device."""
    loader, epochs = feeding(options, original), itertools.count()

    def run() -> float:
        start = time.perf_counter()
        for _, data, labels, _ in loader.batches(next(epochs)):
            mx.nd.array(data)
            mx.nd.array(labels)
        mx.nd.waitall()
        return time.perf_counter() - start

    return run


def loop_block(options: Options, original_data: bool, folder: Path) -> Callable[[], float]:
    """Return a function as `bare_block` does, for the whole loop, with a checkpoint every `INTERVAL` steps."""
    loader = feeding(options, original_data)
    task = NoiseTask(options.model, loader)
    job = task.job(options.mode)
    run_folder = RunFolder(folder)
    outputs = Outputs(
        folder=run_folder,
        store=CheckpointStore(run_folder.checkpoints),
        log=RunLog(run_folder.log),
        manifest={},
        wording=task,
    )
    position = Position()

    def run() -> float:
        start = time.perf_counter()
        train_epoch(job, position, outputs, lambda: False)
        if position.step % INTERVAL == 0:
            outputs.checkpoint(position, checked_state(job, position, outputs))
        mx.nd.waitall()
        seconds = time.perf_counter() - start
        position.close_epoch({'val_top1': 0.0})
        return seconds

    return run


def block(options: Options, contender: str, folder: Path) -> Callable[[], float]:
    if contender == 'bare':
        return bare_block(options, options.model)
    if contender == 'bare-baseline':
        return bare_block(options, options.baseline)
    if contender == 'bare-muon':
        return bare_block(options, options.model, 'muon')
    if contender.endswith('feeding'):
        return feeding_block(options, contender.startswith('original'))
    return loop_block(options, contender.startswith('original'), folder)


def work(options: Options) -> int:
    """Work as a team: print 'ready', then for every line on stdin a line with the images/s of each member."""
    with tempfile.TemporaryDirectory() as folder:
        runs = [block(options, name, Path(folder)) for name in options.contender]
        for run in runs:
            run()
        print('ready', flush=True)
        for _ in sys.stdin:
            turns = [[run() for run in runs] for _ in range(-(-options.steps // options.turn))]
            seconds = [sum(times) for times in zip(*turns)]
            print(*(len(turns) * options.turn * options.batch_size / each for each in seconds), flush=True)
    return 0


def start(options: Options, team: Sequence[str], mode: str) -> subprocess.Popen:
    values = {**asdict(options), 'contender': ','.join(team), 'mode': mode}
    command = [sys.executable, __file__]
    for name in ('contender', 'mode', 'model', 'baseline', 'batch_size', 'steps', 'num_data_workers'):
        command.append(f'--{name.replace("_", "-")}={values[name]}')
    environ = dict(os.environ)
    if team[0] in ('default-threads', 'original-set-up'):
        # What MXNet does unless a variable says otherwise. OMP_NUM_THREADS, because oneDNN reads no other.
        for name in VARIABLES:
            environ.pop(name, None)
        environ['OMP_NUM_THREADS'] = str(max(1, (os.cpu_count() or 1) // 2))
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ, text=True, cwd=_bootstrap.ROOT
    )


def read(process: subprocess.Popen, team: Sequence[str]) -> str:
    line = process.stdout.readline()
    if not line:
        names = ','.join(team)
        raise UserError(f'{names} ended early; see the message above, or run --contender {names}')
    return line.strip()


def compete(options: Options, mode: str) -> Dict[str, List[float]]:
    """Measure every contender in turn, `options.rounds` times, and return their images/s."""
    processes: Dict[Sequence[str], subprocess.Popen] = {}
    speeds: Dict[str, List[float]] = {name: [] for name in CONTENDERS}
    try:
        for team in TEAMS:
            processes[team] = start(options, team, mode)
            read(processes[team], team)
        for _ in range(options.rounds):
            for team, process in processes.items():
                process.stdin.write('go\n')
                process.stdin.flush()
                for name, speed in zip(team, read(process, team).split()):
                    speeds[name].append(float(speed))
    finally:
        for process in processes.values():
            process.stdin.close()
            process.wait()
            process.stdout.close()
    return speeds


def main(argv: Optional[Sequence[str]] = None) -> int:
    options = parse(argv)
    if options.beside_torch is not None:
        cells, torch = _training_peers.cells_of(options.cells), _training_peers.torch_python(options.beside_torch)
        seconds, rounds = (0.0, 1) if options.quick else (TURN_SECONDS, options.rounds)
        mode = 'static' if options.mode == 'auto' else options.mode
        _training_peers.beside_torch(cells, torch, options.eager, seconds, rounds, mode, options.json)
        return 0
    modes: Dict[str, float] = {}
    mode = options.mode
    if mode == 'auto':
        mode, modes = fastest_mode_of(NoiseTask(options.model, feeding(options, original=False)), options.batch_size)
    if options.contender:
        return work(replace(options, mode=mode))
    speeds = compete(options, mode)
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    ratios = {
        name: statistics.median([a / b for a, b in zip(speeds[above], speeds[below])])
        for name, above, below, _ in RATIOS
    }
    measured = f'medians of {options.rounds} x {options.steps} steps'
    print(f'{options.model}, batch {options.batch_size}, mode {mode}; {measured}')
    for name in CONTENDERS:
        print(f'{name:18} {medians[name]:8.0f} images/s')
    for name, _, _, text in RATIOS:
        print(f'{ratios[name]:6.2f}  {text}')
    if options.json:
        figures = {name: getattr(options, name) for name in ('model', 'baseline', 'batch_size', 'steps', 'rounds')}
        figures.update(mode=mode, modes=modes, images_per_second=medians, ratios=ratios, measurements=speeds)
        write_json(options.json, figures)
    return 0


if __name__ == '__main__':
    run_main(main)
