"""Start train_cifar.py, kill it at all sorts of moments, and compare what it ends with.

The tools of test_kill.py; by itself, the record of many kills:

    python -m tests.training.killing --kills 100 --json FILE [flags of train_cifar.py]
"""

import argparse
import atexit
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from training.checkpoints.checkpoint import CheckpointStore

ROOT = Path(__file__).resolve().parents[2]
# A small network on a few of the embedded digits, with everything that draws random numbers; a checkpoint
# after every other batch, and parameters after every epoch.
FLAGS = (
    '--dataset digits --model cifar_atac_resnet8_v2 --num-epochs 4 --batch-size 16 --limit-train 192 '
    '--limit-val 48 --lr 0.1 --lr-mode cosine --drop-rate 0.2 --mixup --label-smoothing --mode static '
    '--cutmix-alpha 1 --auto-augment rand --random-erase 0.5 --aug-repeats 2 '
    '--checkpoint-interval 2 --save-period 1 --seed 3 --no-report'
).split()
TIMINGS = {'seconds', 'val_seconds', 'images_per_second'}
WAYS = ('any moment', 'while training', 'while saving', 'while writing a file', 'after replacing a file')


def start(folder: Path, *flags: str) -> subprocess.Popen:
    """Start train_cifar.py with FLAGS and `flags`, which take precedence; its output goes to FOLDER.txt."""
    command = [sys.executable, 'train_cifar.py', *FLAGS, '--save-dir', str(folder), *flags]
    with open(f'{folder}.txt', 'ab') as output:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # A test runner in the background ignores SIGINT, and its children would inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )


def said(folder: Path) -> str:
    """Return what all processes of this folder have printed."""
    return Path(f'{folder}.txt').read_text(errors='replace')


def status(process: subprocess.Popen) -> int:
    """Return the process's status, within five minutes; end it in any case."""
    try:
        return process.wait(timeout=300)
    finally:
        process.kill()


@lru_cache(maxsize=None)
def never_stopped(*flags: str) -> Path:
    """Return the folder of an uninterrupted run, made once per process and removed at its exit."""
    place = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, place)
    finish(Path(place, 'run'), *flags)
    return Path(place, 'run')


def finish(folder: Path, *flags: str) -> None:
    """Run to the end; raise an error with all output if that fails."""
    if status(start(folder, *flags)) != 0:
        raise AssertionError(f'train_cifar.py did not end with status 0:\n{said(folder)}')


def leaves(tree: Any, path: str = '') -> Iterator[Tuple[str, str]]:
    """Yield every leaf of a state by its path, as text that is equal if all bits are, without timings."""
    if isinstance(tree, dict):
        for key, child in tree.items():
            if key not in TIMINGS:
                yield from leaves(child, f'{path}/{key}')
    elif isinstance(tree, list):
        for index, child in enumerate(tree):
            yield from leaves(child, f'{path}/{index}')
    elif isinstance(tree, np.ndarray):
        yield path, f'{tree.dtype}{tree.shape} {hashlib.sha256(tree.tobytes()).hexdigest()}'
    else:
        yield path, repr(tree)


def outcome(folder: Path) -> Dict[str, str]:
    """Return all results of a finished run, bit for bit: parameter files, last checkpoint, history."""
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob('*.params')}
    state, _ = CheckpointStore(folder / 'checkpoints').load_newest()
    rows = [line.split(',') for line in (folder / 'history.csv').read_text().split()]
    kept = [index for index, name in enumerate(rows[0]) if name not in TIMINGS]
    history = {f'history {n}': ','.join(row[index] for index in kept) for n, row in enumerate(rows)}
    learner = {f'state{path}': value for path, value in leaves([state['learner'], state['record']])}
    return dict(sorted({**files, **history, **learner}.items()))


def differences(one: Dict[str, str], other: Dict[str, str]) -> List[str]:
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


def files(folder: Path) -> Dict[str, int]:
    """Return the files of a run with their inode numbers, quickly."""
    found = {}
    for place in (folder, folder / 'checkpoints'):
        if place.is_dir():
            with os.scandir(place) as entries:
                found.update({entry.name: entry.inode() for entry in entries})
    return found


def appears(process: subprocess.Popen, folder: Path, kind: str, count: int = 1) -> bool:
    """Wait until `count` new files whose names match `kind` appear; False if the process ends first."""
    seen = set(files(folder).items())
    while process.poll() is None:
        new = set(files(folder).items()) - seen
        count -= sum(bool(re.fullmatch(kind, name)) for name, _ in new)
        if count <= 0:
            return True
        seen |= new
        time.sleep(0.0002)  # far shorter than a save, and leaves the processor to the training
    return False


def wait_for_moment(process: subprocess.Popen, folder: Path, way: str, chance: random.Random) -> None:
    """Wait for the moment to kill the process, or for its end."""
    if way == 'any moment':
        delay = chance.uniform(0, 4)
    elif way == 'while training':
        appears(process, folder, r'.+\.ckpt')
        delay = chance.uniform(0, 1.5)
    elif way in ('while saving', 'while writing a file'):
        appears(process, folder, r'\.check.+\.part' if way == 'while saving' else r'.+\.part', chance.randint(1, 12))
        # A save takes some milliseconds from the first byte to the last old checkpoint deleted.
        delay = chance.choice([0, chance.uniform(0, 0.005)])
    else:
        appears(
            process,
            folder,
            chance.choice([r'.+\.ckpt', r'.+\.(params|json|csv|png)']),
            chance.randint(1, 4),
        )
        delay = 0
    if delay:
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            pass


def kill_once(folder: Path, way: str, chance: random.Random, flags: Sequence[str]) -> Optional[str]:
    """Start or resume the run and kill it; return where that hit, or None if the run ended before."""
    log = folder / 'train.log'
    before, lines = set(files(folder)), len(log.read_text().split('\n')) if log.exists() else 0
    process = start(folder, '--resume', *flags)
    try:
        wait_for_moment(process, folder, way, chance)
    finally:
        process.kill()
        process.wait()
    if process.returncode == 0:
        return None
    if process.returncode != -signal.SIGKILL:
        raise AssertionError(f'train_cifar.py ended with {process.returncode}:\n{said(folder)}')
    for name in sorted(set(files(folder)) - before):
        if name.endswith('.part'):
            return f'writing {name.split(".")[-3]}'
    now = log.read_text() if log.exists() else ''
    if 'epoch' not in '\n'.join(now.split('\n')[max(lines - 1, 0) :]):
        return 'start-up'
    return 'between writes'


def kill_until(
    kills: int, folder: Path, seed: int, flags: Sequence[str] = ()
) -> Tuple[List[Dict[str, Any]], List[Path]]:
    """Kill runs below `folder` until `kills` have hit, and let all finish; return the hits and the runs' folders."""
    chance = random.Random(seed)
    hits: List[Dict[str, Any]] = []
    runs: List[Path] = []
    while len(hits) < kills:
        run = folder / f'run{len(runs)}'
        runs.append(run)
        while len(hits) < kills:
            way = WAYS[len(hits) % len(WAYS)]
            began = time.monotonic()
            where = kill_once(run, way, chance, flags)
            if where is None:
                break
            hits.append({'way': way, 'hit': where, 'seconds': round(time.monotonic() - began, 3), 'run': run.name})
        else:
            finish(run, '--resume', *flags)
    return hits, runs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--kills', type=int, default=100)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--json', metavar='FILE', help='write the outcome there')
    arguments, flags = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        expected = outcome(never_stopped(*flags))
        hits, runs = kill_until(arguments.kills, Path(folder), arguments.seed, flags)
        different = {run.name: differences(expected, outcome(run)) for run in runs}
    figures = {
        'kills': len(hits),
        'runs': len(runs),
        'runs that ended differently': sum(map(bool, different.values())),
        'compared': len(expected),
        'ways': Counter(hit['way'] for hit in hits),
        'hits': Counter(hit['hit'] for hit in hits),
        'flags': ' '.join([*FLAGS, *flags]),
        'every kill': hits,
        'differences': {name: names for name, names in different.items() if names},
    }
    print(json.dumps({key: value for key, value in figures.items() if key != 'every kill'}, indent=2))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=2) + '\n')
    return 1 if any(different.values()) else 0


if __name__ == '__main__':
    sys.exit(main())
