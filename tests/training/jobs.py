"""Start train_imagenet.py on small RecordIO files, by itself or in several processes under horovodrun."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, List, Optional

import pytest

from tests.data.conftest import make_jpeg, write_rec
from tests.training import killing

ROOT = killing.ROOT
# Group norm does not depend on the batch, so the number of processes only changes rounding.
FLAGS = (
    '--model cifar_resnet11bn_v1 --use-gn --input-size 32 --num-epochs 2 --lr 0.0003 --mode hybrid --use-rec -j 1 '
    '--checkpoint-interval 2 --log-interval 1 --no-report --original-defaults'
).split()
# Each rank takes one core.
ENVIRON = {'OMP_NUM_THREADS': '1'}


def needs_horovod() -> str:
    """Return the path of horovodrun; skip the test if Horovod is not installed."""
    pytest.importorskip('horovod', reason='Horovod is not installed (bash scripts/setup.sh --horovod)')
    path = Path(sys.executable).parent / 'horovodrun'
    if not path.exists():
        pytest.skip(f'Horovod is installed without {path}')
    return str(path)


def write_records(folder: Path, train: int = 40, val: int = 11, classes: int = 4, kinds: int = 10000) -> Path:
    """Write a --data-dir with rec/train.rec and rec/val.rec of noisy images, with `kinds` different ones."""
    (folder / 'rec').mkdir(parents=True)
    for part, count, first in (('train', train, 0), ('val', val, 1000)):
        images = [make_jpeg((first + i) % kinds, 40, 40) for i in range(count)]
        write_rec(folder / 'rec' / f'{part}.rec', images, [float(i % classes) for i in range(count)])
    return folder


def start(
    data: Path, folder: Path, *flags: str, processes: int = 0, script: Optional[List[str]] = None
) -> subprocess.Popen:
    """Start a run with FLAGS and `flags`, which take precedence, as a job of `processes` if given."""
    command = script or [
        'train_imagenet.py', *FLAGS, '--data-dir', str(data), '--save-dir', str(folder), *flags
    ]  # fmt: skip
    command = [sys.executable, *command]
    if processes:
        command = [
            needs_horovod(),
            '-np',
            str(processes),
            '--gloo',
            '--gloo-timeout-seconds',
            '120',
            *command,
            *([] if script else ['--horovod']),
        ]
    environ: Dict[str, str] = {**os.environ, **ENVIRON}
    with open(f'{folder}.txt', 'ab') as output:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environ,
            start_new_session=True,
        )


def finish(data: Path, folder: Path, *flags: str, **how) -> Path:
    """Run to the end, and assert status 0."""
    status = wait(start(data, folder, *flags, **how), folder)
    assert status == 0, killing.said(folder)
    return folder


def wait(process: subprocess.Popen, folder: Path, seconds: float = 240) -> int:
    """Return the job's status, within a limit of seconds; end all its processes."""
    try:
        return process.wait(timeout=seconds)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)
        for rank in ranks(folder):
            os.kill(rank, signal.SIGKILL)


def ranks(folder: Path) -> List[int]:
    """Return the processes that train into this folder, rank 0 first if they were started in order."""
    found = []
    for entry in Path('/proc').iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / 'cmdline').read_bytes().decode(errors='replace').split('\0')
            except OSError:  # it has ended
                continue
            # Only ranks, not horovodrun or the shell between.
            if str(folder) in words and {'train_imagenet.py', 'train_detection.py'} & set(words[:3]):
                found.append(int(entry.name))
    return sorted(found)


def rank_of(process: int) -> int:
    environ = Path(f'/proc/{process}/environ').read_bytes().decode().split('\0')
    return int(next(word.split('=')[1] for word in environ if word.startswith('HOROVOD_RANK=')))


def wait_for_checkpoint(folder: Path, process: subprocess.Popen, count: int = 1, seconds: float = 120) -> None:
    """Wait until the run has written this many checkpoints."""
    end = time.monotonic() + seconds
    while len(list((folder / 'checkpoints').glob('*.ckpt'))) < count:
        assert process.poll() is None, killing.said(folder)
        assert time.monotonic() < end, killing.said(folder)
        time.sleep(0.01)
