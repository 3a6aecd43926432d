"""Types of flags for argparse, which state what is allowed."""

from argparse import ArgumentTypeError
from typing import Any, Callable, Union

from common.files import check_writable

__all__ = [
    'duration',
    'epoch_list',
    'number',
    'of_channels',
    'output_file',
    'seconds',
    'source_or_off',
    'workers',
]


def number(
    kind: Callable[[str], Any],
    low: float,
    high: float = float('inf'),
    open_low: bool = False,
    open_high: bool = False,
) -> Callable[[str], Any]:
    """Return a type for argparse: an int or float within bounds, excluding NaN and infinity."""

    def convert(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        fits = value is not None and low <= value <= high and abs(value) != float('inf')
        if not fits or (open_low and value == low) or (open_high and value == high):
            noun = 'whole numbers' if kind is int else 'numbers'
            bounds = f'{"above" if open_low else "from"} {low}'
            if high != float('inf'):
                bounds += f' {"to below" if open_high else "to"} {high}'
            raise ArgumentTypeError(f'{text!r} is not allowed; allowed: {noun} {bounds}')
        return value

    return convert


def workers(text: str) -> int:
    """Return a type for argparse: a number of threads besides the main one.

    MXNet's loaders take 0, which means 1 here.
    """
    return max(1, number(int, 0)(text))


def epoch_list(text: str) -> str:
    """Return a type for argparse: integers separated by commas, kept as text."""
    parts = [part.strip() for part in text.split(',') if part.strip()]
    if not all(part.isdigit() for part in parts):
        raise ArgumentTypeError(f'{text!r} is not allowed; give epoch numbers separated by commas, such as 40,60')
    return ','.join(parts)


def of_channels(low: float, open_low: bool = False) -> Callable[[str], str]:
    """Return a type for argparse: numbers for R, G, B separated by commas, kept as text."""
    one = number(float, low, open_low=open_low)

    def convert(text: str) -> str:
        parts = [part.strip() for part in text.split(',')]
        if len(parts) != 3:
            raise ArgumentTypeError(f'{text!r} is not allowed; give three numbers, such as 0.49,0.48,0.45')
        for part in parts:
            one(part)
        return ','.join(parts)

    return convert


_UNITS = {'s': 1, 'm': 60, 'h': 3600, 'd': 86400}  # seconds


def duration(text: str) -> str:
    """Return a type for argparse: a time with its unit, kept as text."""
    try:
        seconds(text)
    except ValueError:
        raise ArgumentTypeError(f'{text!r} is not allowed; give a time such as 45s, 90m, 1.5h or 2d') from None
    return text


def seconds(text: str) -> float:
    """Return the seconds of a text that `duration` accepts. Raises `ValueError` for others."""
    value = float(text[:-1]) * _UNITS.get(text[-1:], 0)
    if not 0 < value < float('inf'):
        raise ValueError(text)
    return value


def source_or_off(text: str) -> Union[str, bool]:
    """Return a type for argparse: any word, and False for 'off'."""
    return False if text == 'off' else text


def output_file(text: str) -> str:
    """Return a type for argparse: a file to be written at the end. Raises `UserError` if that is not possible."""
    check_writable(text)
    return text
