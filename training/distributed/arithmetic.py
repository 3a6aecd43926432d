"""Describe what determines the last bits of sums and matrix products on CPUs, besides the program."""

import os
from typing import Any, Dict, List, Sequence

import kernels
from environment.cpu import processor
from environment.threads import thread_setting

__all__ = ['arithmetic', 'in_words', 'without_kernels']


def arithmetic() -> Dict[str, str]:
    """Return the processor's name, the number of threads that MXNet computes with, and which kernels it has."""
    variable = thread_setting()
    return {
        'processor': processor().name,
        'threads': os.environ[variable] if variable else '',
        'kernels': kernels.identity(),
    }


def in_words(one: Dict[str, str], other: Dict[str, str]) -> str:
    """Describe how `one` differs from `other`, comparing shared keys only; empty if they agree."""
    names = [name for name, value in one.items() if other.get(name, value) != value]
    phrases = {
        'processor': '{} as processor',
        'threads': '{} threads',
        'kernels': 'the kernels {}' if one.get('kernels') else 'no kernels',
    }
    return ' and '.join(phrases[name].format(one[name]) for name in names)


def without_kernels(devices: Sequence[Any]) -> List[str]:
    """Return a line for the log if the run computes on the CPU in plain MXNet; empty if it has the kernels."""
    reason = kernels.absence()
    return [] if reason is None or devices[0].device_type == 'gpu' else [f'without the kernels: {reason}']
