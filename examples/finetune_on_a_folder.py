"""Fine-tune a network that comes with the project on a folder of class folders, and predict with the result.

    python examples/finetune_on_a_folder.py            # on simple shapes that it draws
    python examples/finetune_on_a_folder.py photos     # on your own photos: photos/CLASS/*.jpg

This does in Python what `train_cifar.py` and `scripts/predict.py` do on the command line.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Optional, Sequence

import train_cifar
from common.files import make_folder
from environment import UserError, run_main
from model.parameters.pretrained import trained_in

SHAPES = {'circles': 'ellipse', 'lines': 'line', 'squares': 'rectangle'}


def draw_shapes(folder: Path, images: int = 90) -> None:
    """Draw a data set of three classes: bright shapes on a dark, noisy background."""
    import numpy as np
    from PIL import Image, ImageDraw

    random = np.random.RandomState(0)
    for number in range(images):
        name = sorted(SHAPES)[number % 3]
        image = Image.fromarray(random.randint(0, 80, (48, 48, 3)).astype('uint8'))
        left, top, size = (int(value) for value in random.randint((4, 4, 16), (20, 20, 24)))
        colour = tuple(int(value) for value in random.randint(150, 255, 3))
        more = {'width': 3} if name == 'lines' else {}
        getattr(ImageDraw.Draw(image), SHAPES[name])((left, top, left + size, top + size), fill=colour, **more)
        make_folder(folder / name)
        image.save(folder / name / f'{number:03}.jpg')


def main(argv: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folder', nargs='?', type=Path, help='folder of class folders (default: drawn shapes)')
    parser.add_argument('--model', default='cifar_se_resnet20_v2', help='one of params/cifar10 (default: %(default)s)')
    parser.add_argument('--epochs', type=int, default=5, help='(default: %(default)s)')
    parser.add_argument('--save-dir', type=Path, default=Path('runs/finetuned'), help='(default: %(default)s)')
    args = parser.parse_args(argv)
    folder = args.folder
    if folder is None:
        folder = Path(tempfile.mkdtemp()) / 'shapes'
        draw_shapes(folder)
    start = Path(train_cifar.__file__).parent / 'params' / 'cifar10' / args.model / 'seed-0.params'
    if not start.exists():
        known = sorted({run.manifest['model'] for run in trained_in(start.parents[2]) if run.path.exists()})
        raise UserError(f'--model {args.model}: there are no trained parameters of it; allowed: {", ".join(known)}')

    flags = f'--model {args.model} --num-epochs {args.epochs} --batch-size 16 --lr 0.02 --lr-mode cosine'
    places = ['--dataset', str(folder), '--init-params', str(start), '--save-dir', str(args.save_dir)]
    train_cifar.main([*flags.split(), *places])

    # Prediction needs nothing but what training wrote: the manifest names the network and its classes.
    from inference import Predictor

    ask = Predictor(args.save_dir)
    for answer in ask([next(folder.rglob(f'{name}/*')) for name in ask.class_names]):
        print(f'{answer.image}: {answer.label} ({100 * answer.probability:.0f} %)')
    return 0


if __name__ == '__main__':
    run_main(main)
