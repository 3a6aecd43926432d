"""Interpret the folders of a data set: class folders, directly or below folders of splits such as train/ and val/.

`data.split_names` knows what splits are called, and one folder may enclose everything. An ambiguous layout is refused
with what was seen; otherwise a sentence says how it was interpreted.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Dict, Iterable, List, Mapping, Optional, Sequence, Set, Tuple, TypeVar

from common.text import printable
from data.images import SUFFIXES, folders_below, is_image
from data.split_names import HELD_OUT, NAMES, held_out, parts_among, split_of
from environment import UserError

__all__ = ['Layout', 'find_layout', 'folder_layout', 'resolve_links']

SHOWN = 6  # folders in a message
T = TypeVar('T')


@dataclass(frozen=True)
class Layout:
    """The roles of a data set's folders.

    Attributes:
        name: of the data set, for messages.
        paths: of its images, relative to it, with slashes, sorted.
        outer: the enclosing folder with its slash, or ''.
        parts: {'train', 'val' or 'test': its folder, below `outer`}; empty if the class folders lie in `outer`.
        class_names: the class folders of the training split, sorted.
        left_out: what belongs to none of it.
        same: the splits that are links to the training split.
    """

    name: str
    paths: Tuple[str, ...]
    outer: str
    parts: Mapping[str, str]
    class_names: Tuple[str, ...]
    left_out: Tuple[str, ...] = ()
    same: Tuple[str, ...] = ()

    def held_out(self, split: str = 'val') -> str:
        """Return the part that stands for `split`, 'val' or 'test'. Raises `UserError` if nothing is held out."""
        part = held_out(self.parts, split)
        if part is None:
            raise UserError(
                f'{self.name} has a folder {self.parts["train"]} but none with images of {", ".join(HELD_OUT)}; add '
                f'one, or move the class folders of {self.parts["train"]} one level up: every fifth image is held out'
            )
        return part

    def members(self, part: str) -> Tuple[List[str], List[int]]:
        """Return paths and labels of the images of a part, or of all without parts.

        Raises `UserError` for stray images.
        """
        prefix = self.outer + (f'{self.parts[part]}/' if self.parts else '')
        label = {name: i for i, name in enumerate(self.class_names)}
        paths, labels = [], []
        for path in self.paths:
            if not path.startswith(prefix):
                continue
            name, slash, _ = path[len(prefix) :].partition('/')
            if not slash:
                raise UserError(f'{self.name}/{path} lies outside the class folders; move it into one or remove it')
            if name not in label:
                raise UserError(
                    f'{self.name}/{path} belongs to the class {name!r}, which has no folder with images below '
                    f'{self.name}/{self.outer}{self.parts["train"]}; add that folder or remove this one'
                )
            paths.append(path)
            labels.append(label[name])
        return paths, labels

    def sentence(self, unused: Iterable[str] = (), otherwise: str = '') -> str:
        """Describe how the folders were interpreted and what is left out, including the `unused` parts.

        Without parts, `otherwise` says what happens to the images.
        """
        unused = tuple(unused)
        purposes = {'train': 'for training', 'val': 'for validation', 'test': 'for testing'}
        used = [part for part in self.parts if part not in unused]
        if 'val' not in used:
            purposes['test'] = purposes['val']
        same = dict.fromkeys(self.same, f', the same folder as {self.parts.get("train")}/')
        told = [f'{self.outer}{self.parts[part]}/ is {purposes[part]}{same.get(part, "")}' for part in used]
        if not self.parts:
            where = f' in {self.outer}' if self.outer else ''
            named = ''.join(f', {name}/ being one of them,' for name in self.class_names if split_of(name))
            classes = _counted(len(self.class_names), 'class folder')
            told = [f'{classes}{where}{named} and none for train/ and val/{otherwise}']
        left_out = [*(f'{self.outer}{self.parts[part]}/' for part in unused), *self.left_out]
        shown = left_out[:SHOWN] + ([f'{len(left_out) - SHOWN} more'] if len(left_out) > SHOWN else [])
        return printable(f'{self.name}: {", ".join(told)}' + (f'; skipped: {", ".join(shown)}' if shown else ''))


@dataclass
class _Top:
    """The content of a folder: its own images, folders with images, and images in total."""

    direct: int = 0
    folders: Set[str] = field(default_factory=set)
    images: int = 0


def _tops(counts: Mapping[str, int], prefix: str) -> Dict[str, _Top]:
    """Return the content of the folders in `prefix`, given the images per folder; '' stands for `prefix` itself."""
    tops: Dict[str, _Top] = {}
    for folder, count in counts.items():
        first, _, rest = f'{folder}/'[len(prefix) :].partition('/')
        top = tops.setdefault(first, _Top())
        top.images += count
        if rest:
            top.folders.add(rest.partition('/')[0])
        else:
            top.direct += count
    return tops


def _counted(count: int, word: str) -> str:
    return f'{count} {word}' if count == 1 else f'{count} {word}s'


def _seen(tops: Mapping[str, _Top]) -> str:
    def content(top: _Top) -> str:
        words = [_counted(len(top.folders), 'folder')] if top.folders else []
        return ' and '.join([*words, _counted(top.direct, 'image')] if top.direct else words)

    shown = [f'{name}/ with {content(top)}' for name, top in sorted(tops.items()) if name]
    more = [f'{len(shown) - SHOWN} more'] if len(shown) > SHOWN else []
    return ', '.join(shown[:SHOWN] + more)


def _is_data_set(names: Iterable[str]) -> bool:
    """Return whether these folder names are splits: one to train on and one held out."""
    return any(len(parts) > 1 and 'train' in parts for parts in parts_among(names).values())


def _outer(counts: Mapping[str, int]) -> str:
    """Return the single enclosing folder, with its slash, unless it is the only class or split; else ''.

    Archives often have such a folder, named like the data set, or unpacking created it.
    """
    tops = _tops(counts, '')
    if len(tops) != 1:
        return ''
    ((name, top),) = tops.items()
    if not name or top.direct:
        return ''
    if _is_data_set(top.folders) or (not parts_among(tops) and (len(top.folders) > 1 or parts_among(top.folders))):
        return f'{name}/'
    return ''


def find_layout(name: str, paths: Iterable[str], folders: Iterable[str] = (), left_out: Sequence[str] = ()) -> Layout:
    """Interpret the folders of a data set as its parts and classes.

    Args:
        name: the data set's name, for messages.
        paths: its images, relative to it, with slashes.
        folders: all folders, to find those without images.
        left_out: what has already been left out.

    Raises:
        UserError: the layout is ambiguous or unknown; the sentence says what was seen.
    """
    paths = sorted(paths)
    counts = Counter(path.rpartition('/')[0] for path in paths)
    outer = _outer(counts)
    tops = _tops(counts, outer)
    place = f'{name}/{outer}'.rstrip('/')
    if not any(tops):
        if tops:
            raise UserError(f'{place}/{paths[0]} lies outside the class folders; move it into one or remove it')
        raise UserError(
            f'{name} has no class folders with images ({", ".join(sorted(SUFFIXES))}); it must hold one folder for '
            'each class, directly or below train/ and val/'
        )
    parts = _parts(place, tops)
    remarks: List[str] = []
    if parts:
        others = [top for top in sorted(tops) if top and top not in parts.values()]
        remarks += [f'{outer}{top}/ ({_counted(tops[top].images, "image")})' for top in others]
        remarks += [f'{_counted(tops[""].images, "image")} in no folder'] if '' in tops else []
        class_names = tops[parts['train']].folders
        prefix = f'{outer}{parts["train"]}/'
    else:
        class_names, prefix = {top for top in tops if top}, outer
        nested = _nested(counts)
        if nested:
            raise UserError(
                f'{place} has {_seen(tops)}, and {nested[0]}/ has {", ".join(sorted(nested[1]))}: the '
                'parts for training and validation must lie above the class folders; name one data set, or move them'
            )
    full = {prefix + top for top in class_names}.union(outer + top for top in tops)
    empty = [f for f in folders if f and f not in full and f.rpartition('/')[0] in (outer[:-1], prefix[:-1])]
    remarks += [f'{folder}/ (no images)' for folder in sorted(empty)]
    return Layout(name, tuple(paths), outer, parts, tuple(sorted(class_names)), (*left_out, *remarks))


def _nested(folders: Iterable[str]) -> Optional[Tuple[str, Set[str]]]:
    """Return a folder that encloses the splits of a data set, and its content; None if there is none."""
    inside: Dict[str, Set[str]] = {}
    for folder in folders:
        while '/' in folder:
            folder, _, name = folder.rpartition('/')
            inside.setdefault(folder, set()).add(name)
    return next(((folder, names) for folder, names in sorted(inside.items()) if _is_data_set(names)), None)


def _parts(place: str, tops: Mapping[str, _Top]) -> Dict[str, str]:
    """Return {part: folder}, without superfluous ones that have no class folders; empty if the folders are classes."""
    groups = list(parts_among(top for top in tops if top).values())
    if not groups:
        return {}
    advice = (
        f'give a folder (or an archive) that has class folders and nothing else, or them below {NAMES["train"][0]}/ '
        f'and {NAMES["val"][0]}/'
    )
    found = groups[0]
    several = next((names for names in found.values() if len(names) > 1), None)
    if several or len(groups) > 1:
        which = several or [parts['train'][0] for parts in groups if 'train' in parts]
        raise UserError(f'{place} has {_seen(tops)}: {" and ".join(which)} would be the same part; {advice}')
    parts = {part: found[part][0] for part in NAMES if part in found}
    others = [top for top in tops if top and top not in parts.values()]
    train = parts.get('train')
    if train is None or (others and len(parts) == 1):
        if train is not None and tops[train].direct and others:
            return {}  # a class of that name: pictures of trains
        raise UserError(
            f'{place} has {_seen(tops)}: {", ".join(parts.values())} may be a class or a part of the data set; rename '
            f'or move what is meant otherwise, and {advice}'
        )
    if tops[train].direct and not tops[train].folders:
        raise UserError(f'{place} has {_seen(tops)}: images of {train}/ lie outside class folders; {advice}')
    flat = [part for part in parts if tops[parts[part]].direct and not tops[parts[part]].folders]
    if flat and len(flat) == len(parts) - 1:
        raise UserError(f'{place} has {_seen(tops)}: images of {parts[flat[0]]}/ lie outside class folders; {advice}')
    return {part: folder for part, folder in parts.items() if part not in flat}


def folder_layout(root: Path) -> Layout:
    """Interpret a folder on disk. Raises `UserError` as `find_layout` does, and for a folder that cannot be read."""
    paths: List[str] = []
    folders: List[str] = []
    left_out: List[str] = []
    for folder in folders_below(root):
        folders.append(folder.path)
        paths += folder.images
        left_out += folder.left_out
    layout = find_layout(str(root), paths, folders, left_out)
    places = {part: root / layout.outer / folder for part, folder in layout.parts.items()}
    same = [part for part, place in places.items() if part != 'train' and place.samefile(places['train'])]
    return replace(layout, same=tuple(same))


def resolve_links(tree: Dict[str, T], links: Mapping[str, str]) -> List[str]:
    """Add to `tree`, {path: anything}, the targets of an archive's `links`, {path: path}, files and folders alike.

    Returns a sentence for each link that is broken or leads back to a folder around it.
    """
    ahead = dict(links)
    while True:
        to_files = [link for link, target in ahead.items() if target in tree and is_image(link)]
        if not to_files:
            break
        for link in to_files:
            tree[link] = tree[ahead.pop(link)]
    loops = [link for link, target in ahead.items() if target == '.' or f'{link}/'.startswith(f'{target}/')]
    for link in loops:
        del ahead[link]
    folders = {path[:i] for path in tree for i, letter in enumerate(path) if letter == '/'}
    nowhere = {link for link, target in ahead.items() if target not in folders and not _crosses(target, ahead)}
    for link in nowhere:
        del ahead[link]
    # Files that are not images are not mentioned.
    told = sorted(link for link in nowhere if is_image(link) or not posixpath.splitext(link)[1])
    left_out = [f'{link} (a broken link)' for link in told]
    while ahead:
        # First into folders that no other link has still to fill.
        ready = [link for link, target in ahead.items() if not _crosses(target, ahead)]
        if not ready:
            loops += ahead
            break
        for link in ready:
            target = ahead.pop(link)
            inside = [path for path in tree if path.startswith(f'{target}/')]
            tree.update({link + path[len(target) :]: tree[path] for path in inside})
    return left_out + [f'{link} (a link that leads back to a folder around it)' for link in sorted(loops)]


def _crosses(target: str, links: Iterable[str]) -> bool:
    """Return whether one of the links lies in the folder `target`, or on the way to it."""
    return any(f'{target}/'.startswith(f'{link}/') or f'{link}/'.startswith(f'{target}/') for link in links)
