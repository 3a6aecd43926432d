"""Train on a few digits, for seconds, for the tests of train_cifar.py."""

import hashlib
import json
import shlex
from pathlib import Path

import numpy as np
from PIL import Image

import train_cifar
from training.logging.history import read_history

ROOT = Path(__file__).resolve().parent.parent.parent
SMALL = '--dataset digits --limit-train 16 --limit-val 8 --batch-size 8 --mode hybrid --no-report'
BASE = f'{SMALL} --model cifar_resnet8_v2'
ORIGINAL = f'{SMALL} --model atac --act-type ChaATAC --r 2 --blocks 1'
TWO = f'{BASE} --num-epochs 2'


class Run:
    """Return a finished run in a folder of its own."""

    def __init__(self, folder, flags):
        self.folder = folder
        argv = [*shlex.split(flags), '--save-dir', str(folder), '--json', f'{folder}.json']
        assert train_cifar.main(argv) == 0
        self.figures = json.loads(Path(f'{folder}.json').read_text())
        log = folder / 'train.log'
        self.log = log.read_text() if log.exists() else ''
        self.manifest = json.loads(Path(self.figures['params']).with_suffix('.json').read_text())
        self.digest = hashlib.sha256(Path(self.figures['params']).read_bytes()).hexdigest()
        self.history = read_history(folder / 'history.csv')
        self.checkpoints = sorted(path.name for path in (folder / 'checkpoints').iterdir())


def folder_of_images(path):
    random = np.random.RandomState(0)
    for split in ('train', 'test'):
        for label in ('cat', 'dog'):
            (path / split / label).mkdir(parents=True)
            for index in range(4):
                pixels = random.randint(0, 256, (40, 36, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(path / split / label / f'{index}.png')
