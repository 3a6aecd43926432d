"""Recognise what people call the splits of a data set: train, Training, valid, dev, set_val, test2017."""

import re
from typing import Dict, Iterable, List, Optional, Tuple

__all__ = ['HELD_OUT', 'NAMES', 'held_out', 'parts_among', 'split_of']

#: The usual names of each part, in any case.
NAMES = {
    'train': ('train', 'training'),
    'val': ('val', 'valid', 'validation', 'dev'),
    'test': ('test', 'testing'),
}
HELD_OUT = (*NAMES['val'], *NAMES['test'])
_SPLIT = {word: split for split, words in NAMES.items() for word in words}
_PATTERN = re.compile(r'(|.*[ _.-])({})([ _.-]?\d+|)'.format('|'.join(_SPLIT)), re.IGNORECASE | re.DOTALL)


def split_of(name: str) -> Optional[Tuple[str, Tuple[str, str]]]:
    """Return which split is called `name`, and what surrounds the word: ('val', ('set_', '2017')) for 'set_Valid2017'.

    None if it is not a split's name.
    """
    match = _PATTERN.fullmatch(name)
    return match and (_SPLIT[match.group(2).lower()], (match.group(1), match.group(3)))


def parts_among(names: Iterable[str]) -> Dict[Tuple[str, str], Dict[str, List[str]]]:
    """Return {what surrounds the word: {'train': names, 'val': names, 'test': names}}, without what is missing.

    Plain names are always splits. Others, such as toy_train, may mean anything, unless a training and a held-out split
    share what surrounds them.
    """
    groups: Dict[Tuple[str, str], Dict[str, List[str]]] = {}
    for name in sorted(names):
        found = split_of(name)
        if found is not None:
            groups.setdefault(found[1], {}).setdefault(found[0], []).append(name)
    return {around: parts for around, parts in groups.items() if not any(around) or _is_whole(parts)}


def _is_whole(parts: Dict[str, List[str]]) -> bool:
    return 'train' in parts and len(parts) > 1


def held_out(parts: Iterable[str], split: str = 'val') -> Optional[str]:
    """Return which part stands for `split`, 'val' or 'test': that one, else the other; None if there is neither."""
    order = ('test', 'val') if split == 'test' else ('val', 'test')
    return next((part for part in order if part in parts), None)
