r"""Make a small set of photos from a large one: a number of each class, in mixed sizes and formats.

    python tools/make_photos.py cifar10-images photos --split test --classes bird,cat,dog,frog,ship --images 60 \
        --sides 48,400 --formats jpg,png,webp,bmp,tiff
    python tools/make_photos.py cifar10-images small --images 100 --val 200
    python tools/make_photos.py cifar10-images longtail --images 500 --rarest 10 --val 200 --first

The source is anything that --dataset takes. The class folders are in the output folder or, with --val, in its folders
train/ and val/. The same flags always give the same photos.
"""

import _bootstrap  # noqa: F401
from environment import UsageError, UserError, answer_flags, require_mxnet, run_main  # isort: split

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, List, Optional, Sequence, Tuple

from common.files import expanded
from common.together import written_together
from common.usage import described
from training.config.fields import typed
from training.config.flags import number
from training.config.settings import Parser

FORMATS = {'jpg': 'JPEG', 'png': 'PNG', 'webp': 'WEBP', 'bmp': 'BMP', 'tiff': 'TIFF'}
SHAPES = (1, 4 / 3, 3 / 4)  # width / height
LONGEST = 4000  # pixels of a short side


def words(text: str) -> List[str]:
    return [word.strip() for word in text.split(',') if word.strip()]


def formats(text: str) -> List[str]:
    chosen = words(text)
    if not chosen or not set(chosen) <= set(FORMATS):
        raise argparse.ArgumentTypeError(f'{text!r} is not allowed; allowed: {", ".join(FORMATS)}, separated by commas')
    return chosen


def sides(text: str) -> Tuple[int, int]:
    found = [number(int, 8, LONGEST)(word) for word in words(text)]
    if not found or len(found) > 2 or found[0] > found[-1]:
        raise argparse.ArgumentTypeError(f'{text!r} is not allowed; give the smallest and the largest, such as 48,400')
    return found[0], found[-1]


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = Parser(prog='make_photos.py', **described(__doc__))
    parser.add_argument('source', help='the large set: anything that --dataset takes')
    parser.add_argument('output', help='the folder to make')
    parser.add_argument('--classes', type=words, help='the classes to take, separated by commas (default: all)')
    parser.add_argument('--images', type=number(int, 1), default=60, help='images of each class')
    parser.add_argument(
        '--rarest', type=number(int, 1), help='images of the last class; those between have exponentially fewer'
    )
    parser.add_argument(
        '--split', choices=('train', 'test', 'all'), default='train', help='the split of the source to take them from'
    )
    parser.add_argument(
        '--val',
        type=number(int, 1),
        help='held-out images of each class, from the split test, in a folder of their own',
    )
    parser.add_argument(
        '--sides',
        type=sides,
        metavar='LEAST,MOST',
        help='scale each to a short side drawn from this range, in pixels, and a shape of 1:1, 4:3 or 3:4',
    )
    parser.add_argument(
        '--formats', type=formats, help=f'{", ".join(FORMATS)}, separated by commas; one is drawn for each image'
    )
    parser.add_argument(
        '--first', action='store_true', help='take the first images of each class instead of random ones'
    )
    parser.add_argument('--seed', type=number(int, 0, 2**32 - 1), default=0, help='seed of the random choices')
    parser.add_argument('--data-dir', help="where CIFAR's archives are, if the source is cifar10 or cifar100")
    args = parser.parse_args(argv)
    if args.rarest is not None and args.rarest > args.images:
        raise UsageError(f'--rarest {args.rarest} must be at most --images, which is {args.images}')
    if args.split == 'all' and args.val is not None:
        raise UsageError('--split all includes the images that --val would hold out; leave one of them out')
    return args


answer_flags(__name__, parse)
require_mxnet()

import io

import numpy as np
from PIL import Image

from data.classification.by_name import default_preprocessing, open_dataset
from data.classification.dataset import ImageDataset
from data.images import read_image


@dataclass(frozen=True)
class Wanted:
    """How many photos of each class to take, from which split, and what to turn them into."""

    classes: Optional[List[str]]
    images: int
    rarest: Optional[int]
    split: str
    val: Optional[int]
    sides: Optional[Tuple[int, int]]
    formats: Optional[List[str]]
    first: bool
    data_dir: Optional[str]


def counts(most: int, fewest: Optional[int], classes: int) -> List[int]:
    """Return the images of each class: `most` of the first, falling exponentially to `fewest` of the last."""
    fall = 1.0 if fewest is None else fewest / most
    return [round(most * fall ** (i / max(1, classes - 1))) for i in range(classes)]


def pool(source: Any, name: str, wanted: Wanted, random: np.random.RandomState) -> List[int]:
    """Return the images of a class, in the order in which they are taken."""
    images = np.flatnonzero(source.labels == source.class_names.index(name))
    return (images if wanted.first else random.permutation(images)).tolist()


def stored(source: Any, i: int) -> Tuple[Any, str]:
    """Return an image of the source, as a file's content, a path or pixels, and the extension of its name."""
    if isinstance(source, ImageDataset):
        return source.images[i], ''
    return source.read(i), Path(source.title(i)).suffix.lower()


def photo(image: Any, ending: str, wanted: Wanted, random: np.random.RandomState) -> Tuple[bytes, str]:
    """Return the content of a photo's file and its extension; a file that need not change is copied."""
    chosen = wanted.formats[random.randint(len(wanted.formats))] if wanted.formats else ''
    if not chosen and not wanted.sides and ending:
        return (image.read_bytes() if isinstance(image, Path) else bytes(image)), ending
    picture = Image.fromarray(read_image(image))
    if wanted.sides:
        picture = reshaped(picture, wanted.sides, random)
    chosen = chosen or (ending[1:] if ending[1:] in FORMATS else 'png')
    file = io.BytesIO()
    picture.save(file, FORMATS[chosen], **({'quality': 95} if chosen in ('jpg', 'webp') else {}))
    return file.getvalue(), f'.{chosen}'


def reshaped(picture: Image.Image, sides: Tuple[int, int], random: np.random.RandomState) -> Image.Image:
    """Crop the middle of a picture to a random shape, and scale it to a random short side."""
    shape, side = SHAPES[random.randint(len(SHAPES))], random.randint(sides[0], sides[1] + 1)
    width, height = min(picture.width, picture.height * shape), min(picture.height, picture.width / shape)
    left, top = (picture.width - width) / 2, (picture.height - height) / 2
    size = (round(side * max(1, shape)), round(side * max(1, 1 / shape)))
    return picture.resize(size, Image.BICUBIC, box=(left, top, left + width, top + height))


def opened(name: str, split: str, wanted: Wanted) -> Any:
    """Return a split of the source. Raises `UserError` if it lacks a class, or an image has several labels."""
    source = open_dataset(name, split, wanted.data_dir, default_preprocessing(32))
    if source.several:
        raise UserError(f'{name} has several labels for an image; give a source with one label each')
    missing = [each for each in wanted.classes or () if each not in source.class_names]
    if missing:
        there = ', '.join(source.class_names[:20])
        raise UsageError(f'--classes: {name} has no class {missing[0]!r}; it has {there}')
    return source


def plan(name: str, wanted: Wanted, random: np.random.RandomState) -> List[Tuple[Path, Any, List[int]]]:
    """Return (class folder, relative to the output; source of its photos; which of them to take) for each class."""
    sources = {split: opened(name, split, wanted) for split in {wanted.split, 'test' if wanted.val else wanted.split}}
    classes = wanted.classes or list(sources[wanted.split].class_names)
    unfit = [each for each in classes if '/' in each or each in ('', '.', '..')]
    if unfit:
        raise UserError(
            f'{name} has a class {unfit[0]!r}, which cannot be the name of a folder; leave it out: --classes'
        )
    folders = []
    for each, count in zip(classes, counts(wanted.images, wanted.rarest, len(classes))):
        pools = {split: pool(sources[split], each, wanted, random) for split in sorted(sources)}
        parts = [(Path('train' if wanted.val else ''), wanted.split, count)]
        parts += [(Path('val'), 'test', wanted.val)] if wanted.val else []
        for folder, split, size in parts:
            taken, pools[split] = pools[split][:size], pools[split][size:]
            if len(taken) < size:
                raise UserError(
                    f'{name} has {len(taken)} images of {each} left in its split {split}, and {size} are asked for; '
                    'ask for fewer'
                )
            folders.append((folder / each, sources[split], taken))
    return folders


def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse(argv)
    wanted, output, random = typed(Wanted, vars(args)), expanded(args.output), np.random.RandomState(args.seed)
    if output.exists():
        raise UserError(f'{output} exists already; remove it, or name another folder')
    folders = plan(args.source, wanted, random)
    with written_together() as new:
        for folder, source, taken in folders:
            new.make_folder(output / folder)
            for number, i in enumerate(taken):
                content, ending = photo(*stored(source, i), wanted, random)
                new.write(output / folder / f'{number:04}{ending}', lambda file, content=content: file.write(content))
    for folder, _, taken in folders:
        print(f'{output / folder}: {len(taken)} photos')
    return 0


if __name__ == '__main__':
    run_main(main)
