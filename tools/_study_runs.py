"""Train the networks of a study: each with each seed in a process of its own, several at a time."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Sequence

import _bootstrap
from common.console import remark
from common.files import make_folder
from common.schema import read_json
from common.text import printable
from environment import UsageError, UserError
from environment.threads import VARIABLES, physical_cores
from training.config.run_folder import RunFolder
from training.config.settings import read_settings
from training.distributed.signals import StopRequest
from training.suited import STARTS

__all__ = ['Pool', 'Run', 'Study', 'figure_of', 'known_json']

UNFINISHED = 'stopped before its end; the same command continues it'  # by --max-time in --flags


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
