"""Pack images into MXNet's RecordIO files, or check such a file.

python scripts/make_recordio.py imagenet rec --resize 256     # class folders below train/ and val/
python scripts/make_recordio.py --check rec/train.rec         # list bad records
python scripts/make_recordio.py --index rec/train.rec         # write a new .idx
python scripts/make_recordio.py set_0.rec set_1.rec rec       # join parts of one data set: rec/set.rec
"""

import _bootstrap  # noqa: F401
from environment import UsageError, UserError, answer_flags, require_mxnet, run_main  # isort: split

import argparse
import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Optional, Sequence

from common.console import say, timed
from common.files import check_writable, expanded, make_folder, sha256_file, write_json, write_text
from common.lock import alone
from common.schema import TABLE, read_json
from common.text import printable
from common.usage import described
from training.config.console import add_console_flags, heed_flags
from training.config.fields import typed
from training.config.flags import number
from training.config.settings import Parser


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = Parser(prog='make_recordio.py', **described(__doc__))
    parser.add_argument(
        'source',
        nargs='*',
        help='folder of class folders (directly, or below train/ and val/), tar file of one, .lst file, or .rec file; '
        'several .rec files are joined',
    )
    parser.add_argument('output', nargs='?', help='folder for the files: train.rec, train.idx, train.lst, val.rec, ...')
    parser.add_argument('--check', metavar='FILE.rec', help='read this file and its index, and list bad records')
    parser.add_argument('--index', metavar='FILE.rec', help='write a new .idx for this file')
    parser.add_argument(
        '--root', help="the folder to which paths in a .lst file are relative (default: that file's folder)"
    )
    parser.add_argument('--resize', type=number(int, 1), help='scale longer short sides down to this many pixels')
    parser.add_argument(
        '--quality', type=number(int, 1, 100), default=95, help='quality of the JPEGs that --resize makes'
    )
    parser.add_argument('--shuffle', type=number(int, 0, 2**63), metavar='SEED', help='pack in a random order')
    parser.add_argument('--leave-out', action='store_true', help='pack the rest if some images cannot be read')
    parser.add_argument('--classes', type=number(int, 1), help='with --check: labels beyond them are bad')
    parser.add_argument('-j', '--threads', type=number(int, 1), default=os.cpu_count() or 1, help='that decode')
    parser.add_argument('--json', metavar='FILE', help='write the figures to this file')
    add_console_flags(parser)
    args = parser.parse_args(argv)
    heed_flags(vars(args))
    if args.output is None and args.source:  # argparse assigns all of them to the first
        *args.source, args.output = args.source
    modes = [bool(args.source), bool(args.check), bool(args.index)]
    if sum(modes) != 1 or bool(args.source) != bool(args.output):
        raise UsageError('give a source and an output folder, or --check FILE.rec, or --index FILE.rec; see --help')
    packing = [name for name in ('root', 'resize', 'shuffle') if getattr(args, name) is not None]
    if not args.source and (packing or args.leave_out):
        flag = f'--{packing[0]}' if packing else '--leave-out'
        raise UsageError(f'{flag} is for packing, which needs a source and an output folder')
    if args.classes is not None and not args.check:
        raise UsageError('--classes is for --check')
    return args


answer_flags(__name__, parse)
require_mxnet()

from data.recordio.checking import check_file, write_index
from data.recordio.index import CLASSES
from data.recordio.listing import Listing, join_records, list_images
from data.recordio.packing import Packed, pack_images

# What the .json beside a file holds, as far as it is read.
FIGURES = {'sha256': str, 'made_of': TABLE, 'beside?': {'.idx': str, '.lst': str}, ...: object}
AGAIN = 'remove {} and start again'
SHOWN = 20  # sentences on stderr; --json has all


@dataclass(frozen=True)
class Packing:
    """How images are packed, and where the figures go."""

    root: Optional[str]  # where the paths in a .lst file begin
    resize: Optional[int]  # longest short side in pixels
    quality: int  # of the JPEGs that resizing makes
    shuffle: Optional[int]  # seed of a random order
    leave_out: bool  # images that cannot be read
    threads: int
    json: Optional[str]


def tell(title: str, sentences: Sequence[str]) -> None:
    for sentence in sentences[:SHOWN]:
        print(f'{title}: {printable(sentence)}', file=sys.stderr)
    if len(sentences) > SHOWN:
        print(f'{title}: and {len(sentences) - SHOWN} more, which --json lists', file=sys.stderr)


def check(file: str, classes: Optional[int], threads: int, json: Optional[str]) -> Dict[str, Any]:
    if json:
        check_writable(json)
    with timed(f'reading {file}'):
        result = check_file(Path(file), classes, threads)
    tell('bad', result.bad)
    tell('doubtful', result.doubtful)
    largest = '' if result.largest is None else f', {result.labels} different labels up to {result.largest:g}'
    seal = 'with checksums' if result.checksums else 'without checksums, so flipped bits may stay unseen'
    say(f'{file}: {result.count} records{largest}, {seal}: {len(result.bad)} bad, {len(result.doubtful)} doubtful')
    return {'file': file, **vars(result)}


def _finished(path: Path, listing: Listing, packing: Packing) -> Optional[Dict[str, Any]]:
    """Return the figures of a file that an earlier start completed.

    Raises `UserError` for a different or damaged file.
    """
    if not path.exists():
        return None
    try:
        figures = read_json(path.with_suffix('.json'), FIGURES)
    except (OSError, ValueError):
        figures = {}
    if figures.get('made_of') != _made_of(listing, packing):
        raise UserError(f'{path} exists and was not made by this command; remove it or choose another folder')
    if sha256_file(path) != figures['sha256']:
        raise UserError(
            f'{path} is damaged: it is not the file whose digest stands in {path.with_suffix(".json")}; remove it and '
            'start again'
        )
    for suffix, digest in figures.get('beside', {}).items():
        beside = path.with_suffix(suffix)
        if not beside.is_file() or sha256_file(beside) != digest:
            way = f'python scripts/make_recordio.py --index {path} makes a new one' if suffix == '.idx' else AGAIN
            raise UserError(f'{beside} is missing or damaged; {way.format(path)}')
    return figures


def _made_of(listing: Listing, packing: Packing) -> Dict[str, Any]:
    return {'listing': listing.digest(), 'resize': packing.resize, 'quality': packing.quality}


def pack(names: Sequence[str], folder: str, packing: Packing) -> Dict[str, Any]:
    sources, output = [expanded(name) for name in names], expanded(folder)
    if len(sources) > 1:
        listings = join_records(sources)
    else:
        listings = list_images(sources[0], expanded(packing.root) if packing.root else None)
    make_folder(output)
    if packing.json:
        check_writable(packing.json)
    for told in dict.fromkeys(listing.told for listing in listings.values() if listing.told):
        say(told)
    files, failed = [], False
    for name, listing in listings.items():
        if packing.shuffle is not None:
            listing = listing.shuffled(packing.shuffle)
        with alone(output, 'packing images', f'{name}.rec'):
            files.append(pack_file(listing, output / f'{name}.rec', packing))
        failed = failed or not files[-1]['sha256']
    if failed and packing.json:
        write_json(packing.json, {'files': files})
    if failed:
        count = sum(len(file['unreadable']) for file in files)
        raise UserError(
            f'{count} images of {" and ".join(names)} cannot be read; mend or remove them, or let --leave-out '
            'pack the others, which continues where this ended'
        )
    return {'files': files}


def pack_file(listing: Listing, path: Path, packing: Packing) -> Dict[str, Any]:
    """Return the figures of one file, packing it unless an earlier start completed it."""
    figures = _finished(path, listing, packing)
    names, classes = ''.join(f'{printable(name)}\n' for name in listing.class_names), path.parent / CLASSES
    if names:
        write_text(classes, names)
    elif classes.exists():
        say(f'{classes} exists already, and names the classes of {path.name} too')
    if figures is not None:
        with suppress(FileNotFoundError):  # of a start that was killed as it ended
            os.unlink(f'{path}.part.json')
        say(f'{path} is finished already')
        return figures
    start = time.perf_counter()

    def manifest(packed: Packed) -> Dict[str, Any]:
        return _figures(packed, listing, packing, time.perf_counter() - start)

    with timed(f'packing {path}'):
        packed = pack_images(
            listing, path, packing.resize, packing.quality, packing.threads, packing.leave_out, manifest
        )
    tell('unreadable', packed.unreadable)
    tell('doubtful', packed.doubtful)
    if packed.sha256:
        say(f'{path}: {packed.count} images, {packed.bytes} bytes, {len(packed.unreadable)} left out')
        say(f'sha256 {packed.sha256}')
    return manifest(packed)


def _figures(packed: Packed, listing: Listing, packing: Packing, seconds: float) -> Dict[str, Any]:
    return {
        'file': str(packed.path),
        'images': packed.count,
        'classes': len(listing.class_names) or None,
        'bytes': packed.bytes,
        'sha256': packed.sha256,
        'beside': dict(packed.beside),
        'made_of': _made_of(listing, packing),
        'unreadable': packed.unreadable,
        'doubtful': packed.doubtful,
        'seconds': seconds,
    }


def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse(argv)
    if args.index:
        figures: Dict[str, Any] = {'file': args.index, 'records': write_index(Path(args.index))}
        say(f'{Path(args.index).with_suffix(".idx")}: {figures["records"]} records')
    elif args.check:
        figures = check(args.check, args.classes, args.threads, args.json)
    else:
        figures = pack(args.source, args.output, typed(Packing, vars(args)))
    if args.json:
        write_json(args.json, figures)
    return 1 if args.check and figures['bad'] else 0


if __name__ == '__main__':
    run_main(main)
