"""Public weights as files: fetched, known by their checksums, converted once, and kept.

    ~/.cache/attention-networks/weights/   XDG_CACHE_HOME moves it
        resnet50-0676ba61.pth              as it came
        torchvision-resnet50.IMAGENET1K_V1.params, .json   ours, with their manifest

``ATTENTION_WEIGHTS`` is a folder that has the files, for machines without a network, or the URL of a mirror that does.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, Optional

from common.download import Checksum, check_file, download
from common.files import expanded, explained, sha256_file
from common.lock import alone
from environment import UserError
from model.parameters.load import read_manifest, read_params, save_params
from model.parameters.pretrained import Build
from model.parameters.weights import Address, Weights

__all__ = ['VARIABLE', 'converted', 'fetch', 'fetch_from']

VARIABLE = 'ATTENTION_WEIGHTS'
_BY_HAND = f'name a folder that has it, or a mirror, with --weights-dir PLACE or in the environment: {VARIABLE}=PLACE'


def _cache() -> Path:
    root = Path(os.environ.get('XDG_CACHE_HOME') or expanded('~/.cache'))
    return root / 'attention-networks' / 'weights'


def fetch_from(place: Optional[str]) -> None:
    """Have the files taken from there, what --weights-dir names, in place of their authors' servers."""
    if place is not None:
        os.environ[VARIABLE] = place


def _place() -> str:
    return os.environ.get(VARIABLE, '')


def _unzipped(file: str, source: str) -> str:
    """Return the name of a file that comes in an archive, once it is out of it."""
    if not file.endswith('.zip'):
        return file
    return file[: -len('.zip')] + ('.params' if source == 'gluoncv' else '')


def _in_folder(weights: Weights, folder: Path) -> Path:
    """Return the file in the user's own folder. Raises ``UserError`` if it is not there."""
    files = [name for a in weights.addresses for name in (a.file, _unzipped(a.file, weights.source))]
    for file in dict.fromkeys(files):
        if (folder / file).is_file():
            return folder / file
    first = weights.addresses[0]
    raise UserError(
        f'{weights.name}: {folder} has no {" or ".join(dict.fromkeys(files))}; put it there, from {first.url}, or name '
        f'another folder with --weights-dir FOLDER or in the environment: {VARIABLE}=FOLDER'
    )


def _from_server(weights: Weights, mirror: str) -> Path:
    """Return the file in the cache, downloaded if need be, from the first address that has it."""
    error: Optional[UserError] = None
    for address in weights.addresses:
        path = _cache() / address.file
        url = f'{mirror.rstrip("/")}/{address.file}' if mirror else address.url
        try:
            download(url, path, None if address.file.endswith('.zip') else address.checksum, _BY_HAND)
            return path
        except UserError as raised:
            error = error or raised
    raise error


def _checksum(weights: Weights, path: Path) -> Optional[Checksum]:
    """Return the checksum of the content of a file that :func:`fetch` returned, None where none is known."""
    own = {name: a for a in weights.addresses for name in (a.file, _unzipped(a.file, weights.source))}
    address: Address = own[path.name]
    return address.checksum


def fetch(weights: Weights) -> Path:
    """Return the file as its authors offer it: the user's own, the cache's, or downloaded into that.

    Raises ``UserError`` if there is none, there is no network, or the file is another one.
    """
    place = _place()
    if place and '://' not in place:
        path = _in_folder(weights, expanded(place))
    else:
        path = _from_server(weights, place)
    checksum = _checksum(weights, path)
    if checksum is not None and path.suffix != '.zip':
        check_file(path, checksum)
    return path


@contextmanager
def _content(path: Path, checksum: Optional[Checksum]) -> Iterator[Path]:
    """Yield the file, or what the archive that it is holds, which then has the checksum."""
    if path.suffix != '.zip':
        yield path
        return
    from model.convert.stored import Archive

    with explained('read', path):
        data = path.read_bytes()
    advice = 'delete it and start again to download it once more'
    try:
        archive = Archive(data)
        members = [name for name in archive.names if name.endswith(('.pth', '.params'))]
        if len(members) != 1:
            raise ValueError(f'it holds {len(members)} files of weights')
        content = archive.read(members[0])
    except ValueError as error:
        raise UserError(f'{path}: not an intact archive of weights: {error}; {advice}') from error
    with tempfile.TemporaryDirectory() as folder:
        inner = Path(folder) / Path(members[0]).name
        with explained('write', inner):
            inner.write_bytes(content)
        fault = checksum and checksum.fault(inner)
        if fault:
            raise UserError(f'{path}: {members[0]} in it {fault}: it is damaged or another file; {advice}')
        yield inner


def _manifest(weights: Weights, path: Path) -> Dict[str, Any]:
    return {
        'model': weights.network,
        'model_kwargs': weights.options,
        'classes': weights.options['classes'],
        'dataset': weights.dataset,
        'preprocessing': weights.preprocessing,
        'pretrained': {**weights.facts(), 'file': path.name, 'sha256': sha256_file(path)},
    }


def converted(weights: Weights, build: Build) -> Path:
    """Return the file of our parameters, with its manifest; fetched and converted unless they are there.

    ``build`` is ``get_model``. Raises ``UserError`` also if the file holds parameters other than the network's.
    """
    target = _cache() / f'{weights.source}-{weights.model}.{weights.tag}.params'
    with alone(target.parent, f'converting {weights.name}', target.name, wait=True):
        known = (read_manifest(target) or {}) if target.exists() else {}
        facts = weights.facts()
        if known.get('model_kwargs') == weights.options and facts.items() <= known.get('pretrained', {}).items():
            return target
        from model.convert import load_state_dict
        from model.convert.files import read_state

        path = fetch(weights)
        net = build(weights.network, **weights.options)
        with _content(path, _checksum(weights, path)) as file:
            # open-atac's own way of saving is one of Gluon's, of which there are several.
            state = read_params(net, file) if weights.source == 'open-atac' else read_state(file)
            load_state_dict(net, state, weights.source, origin=str(path))
        save_params(net, target, _manifest(weights, path))
    return target
