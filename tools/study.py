r"""Train several networks with several seeds on one data set and the same budget, and report which of them differ.

    python tools/study.py --units none,se,eca,atac --model cifar_resnet8_v2 --seeds 0,1,2 -o runs/study \
        --flags '--dataset digits --num-epochs 3'
    python tools/study.py study.yaml -o runs/study --jobs 4
    python tools/study.py study.yaml -o runs/study          # again: continues unfinished runs, and starts missing ones

study.yaml holds the same flags, with those of the training script as a table:

    units: none,se,eca
    model: cifar_resnet8_v2
    seeds: 0,1,2
    flags: {dataset: digits, num-epochs: 3}

A study may also compare recipes: each is trained as it says, with --flags added to all of them, and with --swap in
networks of another size. The folders of recipes/ that stand for tables of papers contain such a study.yaml:

    python tools/study.py recipes/dianet/reduction/study.yaml -o runs/reduction \
        --flags '--dataset digits --num-epochs 3' --swap resnet164bn=resnet20bn

The output folder gets a folder for each run, results.csv, summary.csv, table.tex and study.html.
"""

import _bootstrap
from environment import UsageError, UserError, answer_flags, require_mxnet, run_main  # isort: split

import argparse
import json
import os
import queue
import shlex
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

from common.files import check_writable, make_folder, write_text
from common.lock import alone
from common.schema import read_json
from common.text import as_csv, printable
from common.together import written_together
from common.usage import described
from environment.threads import VARIABLES, physical_cores
from training.config.fields import typed
from training.config.flags import number
from training.config.settings import Parser, read_settings

SCRIPTS = ('train_cifar.py', 'train_imagenet.py', 'train_detection.py')
STUDY = 'study.yaml'  # the study in a folder of recipes
UNFINISHED = 'stopped before its end; the same command continues it'  # by --max-time in --flags
OURS = ('model', 'seed', 'save_dir', 'json', 'resume')  # flags of the training scripts that the study sets itself


def words(text: str) -> List[str]:
    return [word.strip() for word in str(text).split(',') if word.strip()]


def seeds(text: str) -> List[int]:
    return [number(int, 0)(word) for word in words(text)]


def swap(text: str) -> Dict[str, str]:
    pairs = dict(word.partition('=')[::2] for word in words(text))
    if '' in pairs or '' in pairs.values():
        raise argparse.ArgumentTypeError(f'{text!r} is not allowed; give A=B, such as resnet164bn=resnet20bn')
    return pairs


def make_parser() -> Parser:
    parser = Parser(prog='study.py', **described(__doc__))
    parser.add_argument(
        'study', nargs='?', metavar='YAML', help='a file with these flags; the command line overrides it'
    )
    parser.add_argument('--script', choices=SCRIPTS, default=SCRIPTS[0], help='the training script')
    parser.add_argument('--models', type=words, help='networks to compare, separated by commas')
    parser.add_argument(
        '--units', type=words, help='instead of --models: units to put into --model, separated by commas; none: no unit'
    )
    parser.add_argument(
        '--recipes', type=words, help='instead of --models: YAML files of flags or folders of them, separated by commas'
    )
    parser.add_argument(
        '--swap', type=swap, default='', metavar='A=B', help='with --recipes: replace A by B in the names of networks'
    )
    parser.add_argument('--model', help='the plain network that --units go into, such as cifar_resnet8_v2')
    parser.add_argument('--seeds', type=seeds, default='0,1,2', help='seeds of each network, separated by commas')
    parser.add_argument('--baseline', help='the network to compare the others with (default: the first)')
    parser.add_argument('--metric', default='top1', help='the figure of the last epoch to compare')
    parser.add_argument(
        '--flags',
        default='',
        help='flags of the training script for all runs, in quotes (a single one: --flags=--cutout)',
    )
    parser.add_argument('-o', '--output', default='runs/study', metavar='FOLDER', help='folder for runs and results')
    parser.add_argument('--jobs', type=number(int, 1), default=1, help='simultaneous runs; they share the cores')
    parser.add_argument('--title', default='Study', help='title of the page')
    return parser


def with_unit(model: str, unit: str) -> str:
    """Return the name of `model` with `unit`: 'cifar_se_resnet8_v2' for 'cifar_resnet8_v2' and 'se'.

    The unit 'none' adds nothing.
    """
    lead = 'cifar_' if model.startswith('cifar_') else ''
    return model if unit == 'none' else f'{lead}{unit}_{model[len(lead) :]}'


def as_argv(flags: Any) -> List[str]:
    """Return the training script's flags as a list of arguments, from a text or a table."""
    if isinstance(flags, str):
        return shlex.split(flags)
    argv: List[str] = []
    for name, value in flags.items():
        if value is True:
            argv.append(f'--{name}')
        elif value is not False and value is not None:
            argv.append(f'--{name}={",".join(map(str, value)) if isinstance(value, list) else value}')
    return argv


def recipes_in(paths: Sequence[str]) -> Dict[str, Path]:
    """Return the recipes among files and in folders, by their file names without extension."""
    found: Dict[str, Path] = {}
    for path in map(Path, paths):
        files = sorted(file for file in path.glob('*.yaml') if file.name != STUDY) if path.is_dir() else [path]
        if not files or not all(file.is_file() for file in files):
            raise UsageError(f'--recipes: {path} is neither a YAML file nor a folder that contains any; give one')
        for file in files:
            if file.stem in found:
                raise UsageError(f'--recipes: {found[file.stem]} and {file} have the same name; rename one of them')
            found[file.stem] = file
    return found


def rows_of_recipes(recipes: Sequence[str], swapped: Mapping[str, str]) -> Dict[str, List[str]]:
    """Return the flags of each recipe by its name, with `swapped` applied to the name of its network."""
    rows: Dict[str, List[str]] = {}
    for name, file in recipes_in(recipes).items():
        rows[name] = ['--config', str(file)]
        model = str(read_settings(file, 'mend it').get('model', ''))
        for old, new in swapped.items():
            model = model.replace(old, new)
        if swapped:
            rows[name] += ['--model', model]
    return rows


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.study is not None:
        settings = read_settings(args.study, 'mend it')
        flags = settings.pop('flags', '')
        file = Path(args.study)
        args = parser.parse_args([*parser.argv_from(settings, args.study), *(sys.argv[1:] if argv is None else argv)])
        args.flags = args.flags or flags
        if args.models is args.units is args.recipes is None:
            args.recipes = [str(file.parent)]  # a study file among recipes compares these
    if not isinstance(args.flags, (str, dict)):
        raise UsageError(f'{args.study}: flags must be a text or a table, not {type(args.flags).__name__}')
    given = [args.models is not None, args.units is not None, args.recipes is not None]
    if sum(given) != 1 or (args.units is None) != (args.model is None):
        raise UsageError('give either --models A,B or both --units none,A,B and --model NAME, or --recipes FOLDER')
    if args.swap and args.recipes is None:
        raise UsageError('--swap only applies to --recipes; leave it out')
    names = args.models or [with_unit(args.model, unit) for unit in args.units or ()]
    args.rows = (
        rows_of_recipes(args.recipes, args.swap) if args.recipes else {name: ['--model', name] for name in names}
    )
    args.models = list(args.rows)
    args.flags = as_argv(args.flags)
    for flag in args.flags:
        name = flag.lstrip('-').partition('=')[0].replace('-', '_')
        if flag.startswith('--') and name in OURS:
            raise UsageError(f'--flags contains {flag}, which the study sets itself; leave it out')
    args.baseline = args.baseline or args.models[0]
    if args.baseline not in args.models:
        raise UsageError(f'--baseline {args.baseline} is not one of the networks {", ".join(args.models)}')
    if not args.models or not args.seeds:
        raise UsageError('--seeds and the networks must each name at least one')
    return args


answer_flags(__name__, parse)
require_mxnet()

from common.console import remark
from training.config.run_folder import RunFolder
from training.distributed.signals import StopRequest
from training.logging.history import read_history
from training.report.study import as_latex, compare, lines, study_page, summary_csv
from training.suited import STARTS


def _states_start(argv: Sequence[str]) -> bool:
    """Return whether a training script's flags, or the files that they name with --config, state what to start from."""
    names = [word.partition('=')[0][2:] for word in argv if word.startswith('--')]
    for flag, file in zip(argv, argv[1:]):
        if flag == '--config' and Path(file).is_file():
            names += read_settings(file, 'mend it')
    return any(name.replace('-', '_') in STARTS for name in names)


@dataclass(frozen=True)
class Study:
    """What to train, with which flags, and what to compare."""

    script: str
    flags: List[str]  # for all runs
    rows: Dict[str, List[str]]  # network or recipe: the flags of its runs
    swap: Dict[str, str]  # replacements in the names of the recipes' networks
    baseline: str  # one of the networks or recipes
    metric: str
    title: str
    jobs: int  # simultaneous runs


@dataclass
class Run:
    """A network or recipe to be trained with a seed. The file `result` with its figures is written when it ends."""

    model: str
    seed: int
    folder: Path

    @property
    def result(self) -> Path:
        return self.folder.parent / f'seed-{self.seed}.json'

    @property
    def log(self) -> Path:
        return self.folder.parent / f'seed-{self.seed}.log'

    @property
    def name(self) -> str:
        return f'{self.model}, seed {self.seed}'

    def command(self, study: Study) -> List[str]:
        own = [
            '--seed',
            str(self.seed),
            '--save-dir',
            str(self.folder),
            '--json',
            str(self.result),
        ]
        resume = ['--resume'] if RunFolder(self.folder).holds_run() else []
        flags = [*study.rows[self.model], *study.flags]
        if study.script != 'train_detection.py' and not _states_start(flags):
            # On images of one's own, networks with trained parameters would start from these, and others from nothing.
            flags += ['--use-pretrained', 'off']
        return [sys.executable, str(_bootstrap.ROOT / study.script), *flags, *own, *resume]


class Pool:
    """Run several trainings at a time, each in a process with its share of the cores.

    On Ctrl-C, SIGTERM or a closed terminal all of them save and end.
    """

    def __init__(self, study: Study) -> None:
        self.study, self.failed = study, []
        self.errors: List[Exception] = []
        self.processes: Dict[str, subprocess.Popen] = {}
        self.stopping = threading.Event()
        threads = str(max(1, physical_cores() // study.jobs))
        self.environ = {**{k: v for k, v in os.environ.items() if k not in VARIABLES}, 'OMP_NUM_THREADS': threads}
        self.lock = threading.Lock()

    def train(self, runs: Sequence[Run]) -> int:
        """Train, and return 0, or the exit status after the signal that ended it.

        After an error that concerns all runs, such as an unknown --metric, no more are started, and it is raised.
        """
        waiting: queue.SimpleQueue[Run] = queue.SimpleQueue()
        for run in runs:
            waiting.put(run)

        def work() -> None:
            while not self.stopping.is_set():
                try:
                    self._one(waiting.get_nowait())
                except queue.Empty:
                    return
                except Exception as error:
                    self.errors.append(error)
                    self.stopping.set()

        threads = [threading.Thread(target=work, daemon=True) for _ in range(min(self.study.jobs, len(runs)))]
        with StopRequest() as stop:
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive() and not stop.requested:
                    thread.join(0.5)  # with a limit, so that signals are handled
            if stop.requested:
                self.stopping.set()
                remark('the same command continues the runs')
                with self.lock:
                    for process in self.processes.values():
                        process.send_signal(signal.SIGINT)
            for thread in threads:
                thread.join()
        if self.errors and not stop.requested:
            raise self.errors[0]
        return stop.status

    def _one(self, run: Run) -> None:
        make_folder(run.log.parent)
        with open(run.log, 'ab') as log:
            with self.lock:
                if self.stopping.is_set():
                    return
                # In a session of its own: else what a terminal sends would reach it twice, which kills it.
                process = subprocess.Popen(
                    run.command(self.study), env=self.environ, stdout=log, stderr=log, start_new_session=True
                )
                self.processes[run.name] = process
            print(f'{run.name}: started', flush=True)
            status = process.wait()
        with self.lock:
            del self.processes[run.name]
        if status == 0:
            told = described_result(run, self.study.metric) if run.result.exists() else UNFINISHED
            print(f'{run.name}: {told}', flush=True)
        elif not self.stopping.is_set():
            told = run.log.read_text(errors='replace').strip().splitlines() or ['it printed nothing']
            print(
                f'{run.name}: failed with status {status}: {printable(told[-1])} (full output: {run.log})',
                file=sys.stderr,
            )
            self.failed.append(run)


def known_json(file: Path, schema: Any) -> Any:
    try:
        return read_json(file, schema)
    except ValueError as error:
        raise UserError(f'{file} is damaged: {error}; remove it, and start again') from error


def figure_of(run: Run, metric: str) -> float:
    """Return the run's final value of `metric`, in per cent."""
    figures = known_json(run.result, {...: object})
    if not isinstance(figures.get(metric), (int, float)):
        known = ', '.join(name for name, value in figures.items() if isinstance(value, float))
        raise UsageError(f'--metric {metric} is not in {run.result}, which has: {known}')
    return 100 * figures[metric]


def described_result(run: Run, metric: str) -> str:
    return f'{metric} {figure_of(run, metric):.2f} %'


def require_same_study(study: Study, output: Path) -> None:
    """Raise `UserError` if the folder holds runs of another script, or with other flags."""
    now = {'script': study.script, 'flags': study.flags}
    rows = {name: flags for name, flags in study.rows.items() if flags != ['--model', name]}
    if rows:
        now['rows'] = rows
    if study.swap:
        now['swap'] = study.swap  # for the tables of papers
    file = output / 'study.json'
    if file.exists():
        before = known_json(file, {'script': str, 'flags': [str], ...: object})
        if {**before, 'swap': None} != {**now, 'swap': None}:  # the rows have what was swapped
            raise UserError(
                f'{output} holds a study of {before["script"]} {shlex.join(before["flags"])}; '
                'give the same --flags, --recipes and --swap, or choose another -o'
            )
    write_text(file, json.dumps(now, indent=2) + '\n')


def write_results(study: Study, runs: Sequence[Run], output: Path) -> List[str]:
    """Write the results of the finished runs, and return the lines of their table."""
    done = [run for run in runs if run.result.exists()]
    values: Dict[str, Dict[int, float]] = {model: {} for model in study.rows}
    histories: Dict[str, List[Any]] = {model: [] for model in study.rows}
    for run in done:
        values[run.model][run.seed] = figure_of(run, study.metric)
        histories[run.model].append(read_history(RunFolder(run.folder).history))
    rows = compare(values, study.baseline)
    with written_together() as new:
        each = [(run.model, run.seed, values[run.model][run.seed], run.folder) for run in done]
        new.write_text(output / 'results.csv', as_csv(('network', 'seed', f'{study.metric}_percent', 'folder'), each))
        new.write_text(output / 'summary.csv', summary_csv(rows))
        new.write_text(output / 'table.tex', as_latex(rows, study.metric, study.baseline))
        page = study_page(study.title, rows, study.metric, study.baseline, histories)
        new.write(output / 'study.html', lambda file: file.write(page))
    return lines(rows, study.metric)


def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse(argv)
    study = typed(Study, vars(args))
    output = Path(args.output)
    make_folder(output)
    check_writable(output / 'study.html')
    runs = [Run(model, seed, output / model / f'seed-{seed}') for seed in args.seeds for model in args.rows]
    with alone(output, 'a study'):
        require_same_study(study, output)
        to_do = [run for run in runs if not run.result.exists()]
        if len(to_do) < len(runs):
            print(f'{len(runs) - len(to_do)} of {len(runs)} runs are already finished')
        pool = Pool(study)
        status = pool.train(to_do)
        if any(run.result.exists() for run in runs):
            table = write_results(study, runs, output)
            if not status:
                print('\n'.join(map(printable, table)))
                print(f'page: {output / "study.html"}; results.csv, summary.csv and table.tex are beside it')
    return status or int(bool(pool.failed))


if __name__ == '__main__':
    run_main(main)
