"""The processor: its name, and which precisions it has instructions for."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path
from typing import Dict, NamedTuple, Optional, Sequence, Tuple

__all__ = ['NEEDED', 'Processor', 'lacks', 'processor']

# Any one of them will do.
NEEDED: Dict[str, Tuple[str, ...]] = {
    'bfloat16': ('avx512_bf16', 'amx_bf16'),
    'int8': ('avx512_vnni', 'avx_vnni', 'amx_int8'),
}


class Processor(NamedTuple):
    """`name` as the maker calls it; `instructions`, the sets it has, in the kernel's small letters."""

    name: str
    instructions: Tuple[str, ...]


def processor(cpuinfo: Path = Path('/proc/cpuinfo')) -> Processor:
    """The first processor; without instructions where the system does not say."""
    if sys.platform == 'darwin':
        keys = ['machdep.cpu.brand_string', 'machdep.cpu.features', 'machdep.cpu.leaf7_features']
        said = subprocess.run(['sysctl', '-n', *keys], stdout=subprocess.PIPE, text=True).stdout
        name, _, features = said.partition('\n')
        # Here alone it is one word.
        return Processor(name, tuple(features.lower().replace('avx512vnni', 'avx512_vnni').split()))
    fields: Dict[str, str] = {}
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            key, _, value = line.partition(':')
            fields.setdefault(key.strip(), value.strip())
    return Processor(fields.get('model name', platform.machine()), tuple(fields.get('flags', '').split()))


def lacks(precision: str, instructions: Optional[Sequence[str]] = None) -> Tuple[str, ...]:
    """The instruction sets of which ``precision`` needs one and this processor has none; empty where it can."""
    have = processor().instructions if instructions is None else instructions
    needed = NEEDED.get(precision, ())
    return () if any(one in have for one in needed) else needed
