"""Which precisions this processor has instructions for."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Optional, Sequence, Tuple

__all__ = ['NEEDED', 'instruction_sets', 'lacks']

# Any one of them will do.
NEEDED: Dict[str, Tuple[str, ...]] = {
    'bfloat16': ('avx512_bf16', 'amx_bf16'),
    'int8': ('avx512_vnni', 'avx_vnni', 'amx_int8'),
}


def instruction_sets(cpuinfo: Path = Path('/proc/cpuinfo')) -> Sequence[str]:
    """Instruction sets of the first processor; none where the kernel does not say."""
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith('flags'):
                return line.split(':', 1)[1].split()
    return ()


def lacks(precision: str, flags: Optional[Sequence[str]] = None) -> Tuple[str, ...]:
    """The instruction sets of which ``precision`` needs one and this processor has none; empty where it can."""
    have = instruction_sets() if flags is None else flags
    needed = NEEDED.get(precision, ())
    return () if any(feature in have for feature in needed) else needed
