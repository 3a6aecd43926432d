"""Decide which RecordIO files belong together: splits of a data set by their names, and shards of one split."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Mapping, Sequence, Tuple

from common.text import printable
from data.split_names import held_out, parts_among, split_of
from environment import UserError

__all__ = ['RecordParts', 'find_records', 'joined_name', 'pieces_beside']

_PIECE = re.compile(r'(.*?)[ _.-]?(\d+)', re.DOTALL)
JOIN = 'python scripts/make_recordio.py {} FOLDER'


@dataclass(frozen=True)
class RecordParts:
    """The files of a data set.

    Attributes:
        name: of the data set, for messages.
        parts: {'train', 'val' or 'test': files}; only 'train' if the data set is undivided.
        left_out: files beside them that are not read.
    """

    name: str
    parts: Mapping[str, Sequence[Path]]
    left_out: Tuple[str, ...] = ()

    def files(self, split: str) -> List[Path]:
        """Return the files of 'train', 'val', 'test', or of 'all', which is 'train' and 'val'."""
        other = held_out(self.parts, split)
        if split == 'train' or other is None:
            return list(self.parts['train'])
        return [*self.parts['train'], *self.parts[other]] if split == 'all' else list(self.parts[other])

    def sentence(self, unused: Sequence[str] = (), otherwise: str = '') -> str:
        """Describe the parts as `data.layout.Layout.sentence` does."""
        purposes = {'train': 'for training', 'val': 'for validation', 'test': 'for testing'}
        used = [part for part in self.parts if part not in unused]
        if 'val' not in used:
            purposes['test'] = purposes['val']
        names = {part: ' and '.join(file.name for file in files) for part, files in self.parts.items()}
        if len(self.parts) > 1:
            told = ', '.join(f'{names[part]} is {purposes[part]}' for part in used)
        else:
            told = f'{names["train"]}, with none beside it for validation{otherwise}'
        left_out = ', '.join([*(names[part] for part in unused), *self.left_out])
        return printable(f'{self.name}: {told}' + (f'; skipped: {left_out}' if left_out else ''))


def find_records(path: Path) -> RecordParts:
    """Find the files that belong to `path`, a `.rec` file or a folder of them.

    They are train.rec and val.rec, set_train.rec and set_val.rec, or set_0.rec and set_1.rec, of which all in a folder
    form one data set.

    Raises:
        UserError: the names can be interpreted in more than one way.
    """
    folder = path if path.is_dir() else path.parent
    files = {file.stem: file for file in sorted(folder.glob('*.rec')) if file.is_file()}
    whole = {around: parts for around, parts in parts_among(files).items() if len(parts) > 1 and 'train' in parts}
    if not path.is_dir():
        files[path.stem] = path
        part, around = split_of(path.stem) or ('', ('', ''))
        if path.stem in whole.get(around, {}).get(part, []):
            others = whole[around] if part == 'train' else {'train': whole[around]['train']}
            return _of_parts(path, files, {**others, part: [path.stem]})
        return RecordParts(str(path), {'train': [path]}, pieces_beside(path))
    if len(whole) == 1:
        return _of_parts(path, files, next(iter(whole.values())))
    if not whole and len(files) == 1:
        return RecordParts(str(path), {'train': list(files.values())})
    alone = parts_among(files).get(('', ''), {}).get('train', []) if not whole else []
    if len(alone) == 1:
        return RecordParts(str(path), {'train': [files[alone[0]]]}, _names(files, alone))
    pieces = _pieces(files)
    if not whole and len(pieces) == 1 and len(files) == len(next(iter(pieces.values()))):
        return RecordParts(str(path), {'train': [files[stem] for stem in next(iter(pieces.values()))]})
    raise UserError(
        f'{path} has {", ".join(f"{stem}.rec" for stem in files)}, and it is not clear what belongs together; name one '
        f'of them instead of the folder, or join what does with {JOIN.format("A.rec B.rec")}'
    )


def pieces_beside(path: Path) -> Tuple[str, ...]:
    """Return a sentence about files beside `path` that look like more shards of its data set, if there are any."""
    files = {file.stem: file for file in sorted(path.parent.glob('*.rec'))}
    others = [name for name in _pieces(files).get(_stem(path.stem), []) if name != path.stem]
    if not others:
        return ()
    return (f'{", ".join(f"{name}.rec" for name in others)} beside it ({JOIN.format(f"{path} OTHER.rec")} joins them)',)


def _names(files: Mapping[str, Path], used: Sequence[str]) -> Tuple[str, ...]:
    return tuple(f'{stem}.rec' for stem in files if stem not in used)


def _of_parts(path: Path, files: Mapping[str, Path], parts: Mapping[str, Sequence[str]]) -> RecordParts:
    several = next((stems for stems in parts.values() if len(stems) > 1), None)
    if several:
        raise UserError(
            f'{" and ".join(f"{stem}.rec" for stem in several)} in {files[several[0]].parent} would be the same part '
            'of the data set; move one of them elsewhere'
        )
    ordered = {part: [files[stem] for stem in parts[part]] for part in ('train', 'val', 'test') if part in parts}
    used = [stem for stems in parts.values() for stem in stems]
    return RecordParts(str(path), ordered, _names(files, used) if path.is_dir() else ())


def _stem(name: str) -> str:
    match = _PIECE.fullmatch(name)
    return match.group(1) if match else name


def _pieces(files: Mapping[str, Path]) -> Dict[str, List[str]]:
    """Return {name without its number: names, by number} of files that may be shards of one data set."""
    groups: Dict[str, List[Tuple[int, str]]] = {}
    for name in files:
        match = _PIECE.fullmatch(name)
        if match:
            groups.setdefault(match.group(1), []).append((int(match.group(2)), name))
    return {stem: [name for _, name in sorted(group)] for stem, group in groups.items() if len(group) > 1}


def joined_name(names: Sequence[str]) -> str:
    """Return a common name for several files: what precedes their numbers if they share it, else the first's name."""
    stems = {_stem(name) for name in names}
    return stems.pop() if len(stems) == 1 and '' not in stems else names[0]
