"""Pack images into MXNet's RecordIO files, or read such a file through.

python scripts/make_recordio.py IMAGENET rec --resize 256     # folders of class folders below train/ and val/
python scripts/make_recordio.py --check rec/train.rec         # which records are bad
python scripts/make_recordio.py --index rec/train.rec         # its .idx anew
"""

import _bootstrap  # noqa: F401
from environment import UsageError, UserError, require_mxnet, run_main

require_mxnet()

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any, Dict, Optional, Sequence

from environment.files import check_writable, expanded, make_folder, write_json, write_text
from environment.form import TABLE, read_json
from environment.lock import alone
from training.data.recordio.checking import check_file, write_index
from training.data.recordio.index import CLASSES
from training.data.recordio.listing import Listing, list_images
from training.data.recordio.packing import Packed, pack_images
from training.flags.options import number
from training.flags.settings import Parser

SHOWN = 20  # sentences on stderr; --json has all


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = Parser(prog='make_recordio.py', description=__doc__.partition('\n\n')[0])
    parser.add_argument(
        'source',
        nargs='?',
        help='folder of class folders (directly, or below train/ and val/), tar file of one, .lst file, or .rec file',
    )
    parser.add_argument('output', nargs='?', help='folder for the files: train.rec, train.idx, train.lst, val.rec, ...')
    parser.add_argument(
        '--check', metavar='FILE.rec', help='read this file through, and its index, and list what is bad'
    )
    parser.add_argument('--index', metavar='FILE.rec', help='make the .idx of this file anew')
    parser.add_argument('--root', help="where the paths in a .lst file begin (default: that file's folder)")
    parser.add_argument('--resize', type=number(int, 1), help='bring longer short sides down to so many pixels')
    parser.add_argument('--quality', type=number(int, 1, 100), default=95, help='of the JPEGs that --resize makes')
    parser.add_argument('--shuffle', type=number(int, 0, 2**63), metavar='SEED', help='pack in a random order')
    parser.add_argument('--leave-out', action='store_true', help='pack the rest if some images cannot be read')
    parser.add_argument('--classes', type=number(int, 1), help='with --check: labels beyond them are bad')
    parser.add_argument('-j', '--threads', type=number(int, 1), default=os.cpu_count() or 1, help='that decode')
    parser.add_argument('--json', metavar='FILE', help='write the figures there')
    args = parser.parse_args(argv)
    modes = [bool(args.source), bool(args.check), bool(args.index)]
    if sum(modes) != 1 or (args.source and not args.output):
        raise UsageError('give a source and an output folder, or --check FILE.rec, or --index FILE.rec; see --help')
    packing = [name for name in ('root', 'resize', 'shuffle') if getattr(args, name) is not None]
    if not args.source and (packing or args.leave_out):
        flag = f'--{packing[0]}' if packing else '--leave-out'
        raise UsageError(f'{flag} is for packing, which needs a source and an output folder')
    if args.classes is not None and not args.check:
        raise UsageError('--classes goes with --check')
    return args


def tell(title: str, sentences: Sequence[str]) -> None:
    for sentence in sentences[:SHOWN]:
        print(f'{title}: {sentence}', file=sys.stderr)
    if len(sentences) > SHOWN:
        print(f'{title}: and {len(sentences) - SHOWN} more, which --json lists', file=sys.stderr)


def check(args: argparse.Namespace) -> Dict[str, Any]:
    if args.json:
        check_writable(args.json)
    result = check_file(Path(args.check), args.classes, args.threads)
    tell('bad', result.bad)
    tell('doubtful', result.doubtful)
    largest = '' if result.largest is None else f', {result.labels} different labels up to {result.largest:g}'
    seal = 'with checksums' if result.checksums else 'without checksums, so flipped bits may stay unseen'
    print(
        f'{args.check}: {result.count} records{largest}, {seal}: {len(result.bad)} bad, {len(result.doubtful)} doubtful'
    )
    return {'file': args.check, **vars(result)}


def _finished(path: Path, listing: Listing, args: argparse.Namespace) -> Optional[Dict[str, Any]]:
    """The figures of a file that an earlier start has finished."""
    manifest = path.with_suffix('.json')
    if not path.exists():
        return None
    try:
        figures = read_json(manifest, TABLE)
    except (OSError, ValueError):
        figures = {}
    made_of = {'listing': listing.digest(), 'resize': args.resize, 'quality': args.quality}
    if figures.get('made_of') != made_of or figures.get('bytes') != path.stat().st_size:
        raise UserError(f'{path} exists and is not what this command makes; remove it or choose another folder')
    return figures


def pack(args: argparse.Namespace) -> Dict[str, Any]:
    source, output = expanded(args.source), expanded(args.output)
    listings = list_images(source, expanded(args.root) if args.root else None)
    make_folder(output)
    if args.json:
        check_writable(args.json)
    for told in dict.fromkeys(listing.told for listing in listings.values() if listing.told):
        print(told)
    files, failed = [], False
    for name, listing in listings.items():
        if args.shuffle is not None:
            listing = listing.shuffled(args.shuffle)
        with alone(output, 'packing images', f'{name}.rec'):
            files.append(pack_file(listing, output / f'{name}.rec', args))
        failed = failed or not files[-1]['sha256']
    if failed and args.json:
        write_json(args.json, {'files': files})
    if failed:
        count = sum(len(file['unreadable']) for file in files)
        raise UserError(
            f'{count} images of {source} cannot be read; mend or remove them, or let --leave-out pack the others, '
            'which goes on where this ended'
        )
    return {'files': files}


def pack_file(listing: Listing, path: Path, args: argparse.Namespace) -> Dict[str, Any]:
    """The figures of one file; those of an earlier start that finished it, if there was one."""
    figures = _finished(path, listing, args)
    if figures is not None:
        print(f'{path} is finished already')
        return figures
    if listing.class_names:
        text = ''.join(f'{name}\n' for name in listing.class_names)
        write_text(path.parent / CLASSES, text)
    start = time.perf_counter()
    packed = pack_images(listing, path, args.resize, args.quality, args.threads, args.leave_out)
    return report(packed, listing, args, time.perf_counter() - start)


def report(packed: Packed, listing: Listing, args: argparse.Namespace, seconds: float) -> Dict[str, Any]:
    tell('unreadable', packed.unreadable)
    tell('doubtful', packed.doubtful)
    figures = {
        'file': str(packed.path),
        'images': packed.count,
        'classes': len(listing.class_names) or None,
        'bytes': packed.bytes,
        'sha256': packed.sha256,
        'made_of': {'listing': listing.digest(), 'resize': args.resize, 'quality': args.quality},
        'unreadable': packed.unreadable,
        'doubtful': packed.doubtful,
        'seconds': seconds,
    }
    if packed.sha256:
        write_json(packed.path.with_suffix('.json'), figures)
        print(f'{packed.path}: {packed.count} images, {packed.bytes} bytes, {len(packed.unreadable)} left out')
        print(f'sha256 {packed.sha256}')
    return figures


def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse(argv)
    if args.index:
        figures: Dict[str, Any] = {'file': args.index, 'records': write_index(Path(args.index))}
        print(f'{Path(args.index).with_suffix(".idx")}: {figures["records"]} records')
    else:
        figures = check(args) if args.check else pack(args)
    if args.json:
        write_json(args.json, figures)
    return 1 if args.check and figures['bad'] else 0


if __name__ == '__main__':
    run_main(main)
