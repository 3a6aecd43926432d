"""Read an exported folder's description, and check its files against their digests. Exported folders have a copy."""

import hashlib
import json
import os
from typing import Any, Dict

__all__ = ['AGAIN', 'INFO', 'DamagedExport', 'check', 'content', 'digest', 'place', 'read_info']

INFO = 'export.json'
AGAIN = 'get the folder again from where it was exported'


class DamagedExport(ValueError):
    """A file of the folder is not as it was exported."""


def digest(info: Dict[str, Any]) -> str:
    """Return the sha256 of the content of export.json without the digest; indentation and order do not matter."""
    rest = {key: value for key, value in info.items() if key != 'digest'}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def read_info(folder: str) -> Dict[str, Any]:
    """Return what the folder holds: model, class_names, preprocessing, files; older folders have no digests."""
    path = os.path.join(folder, INFO)
    with open(path, 'rb') as file:
        text = file.read()
    try:
        info = json.loads(text.decode('utf-8'))
    except (ValueError, RecursionError) as error:
        raise DamagedExport(f'{path} is damaged: it is not JSON ({error}); {AGAIN}') from error
    if not isinstance(info, dict):
        raise DamagedExport(f'{path} is damaged: it is not a table; {AGAIN}')
    if ('digest' in info or 'sha256' in info) and info.get('digest') != digest(info):
        raise DamagedExport(f'{path} is not as it was exported: its digest differs; {AGAIN}')
    return info


def place(folder: str, name: Any) -> str:
    """Return where a file of the folder lies, which can be nowhere else."""
    if not isinstance(name, str) or os.path.basename(name) != name or name in ('', '.', '..') or '\0' in name:
        raise DamagedExport(f'{os.path.join(folder, INFO)}: the name {name!r} leads out of the folder; {AGAIN}')
    return os.path.join(folder, name)


def content(folder: str, name: Any, info: Dict[str, Any]) -> bytes:
    """Return the bytes of a file of the folder, checked against its digest where ``info`` has them."""
    path = place(folder, name)
    with open(path, 'rb') as file:
        found = file.read()
    if 'sha256' in info and hashlib.sha256(found).hexdigest() != info['sha256'].get(name):
        raise DamagedExport(f'{path} is not as it was exported: its sha256 differs; {AGAIN}')
    return found


def check(folder: str) -> Dict[str, Any]:
    """Return the folder's ``export.json``. Raises ``ValueError`` for the first file that is not as it was exported."""
    info = read_info(folder)
    for name in info.get('sha256', ()):
        content(folder, name, info)
    return info
