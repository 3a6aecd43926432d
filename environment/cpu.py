"""Describe the processor: its name, and the precisions that it has instructions for."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Dict, NamedTuple, Optional, Sequence, Tuple

__all__ = ['LIMIT', 'NEEDED', 'Processor', 'lacks', 'processor']

# The instruction sets of which each precision needs one.
NEEDED: Dict[str, Tuple[str, ...]] = {
    'bfloat16': ('avx512_bf16', 'amx_bf16'),
    'int8': ('avx512_vnni', 'avx_vnni', 'amx_int8'),
}

# The variable that limits oneDNN to older instructions, and which of the sets above each of its values allows.
LIMIT = 'DNNL_MAX_CPU_ISA'
_LEFT: Dict[str, Tuple[str, ...]] = {
    **dict.fromkeys(('SSE41', 'AVX', 'AVX2', 'AVX512_MIC', 'AVX512_MIC_4OPS', 'AVX512_CORE'), ()),
    'AVX2_VNNI': ('avx_vnni',),
    'AVX512_CORE_VNNI': ('avx512_vnni',),
    'AVX512_CORE_BF16': ('avx512_vnni', 'avx512_bf16'),
}


class Processor(NamedTuple):
    """A processor: its maker's `name`, and `instructions`, its instruction sets in the kernel's lower-case names."""

    name: str
    instructions: Tuple[str, ...]


def processor(cpuinfo: Path = Path('/proc/cpuinfo')) -> Processor:
    """Return the first processor, without instructions if the system does not report them."""
    if sys.platform == 'darwin':
        keys = ['machdep.cpu.brand_string', 'machdep.cpu.features', 'machdep.cpu.leaf7_features']
        said = subprocess.run(['sysctl', '-n', *keys], stdout=subprocess.PIPE, text=True).stdout
        name, _, features = said.partition('\n')
        # Only macOS writes it as one word.
        return Processor(name, tuple(features.lower().replace('avx512vnni', 'avx512_vnni').split()))
    fields: Dict[str, str] = {}
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            key, _, value = line.partition(':')
            fields.setdefault(key.strip(), value.strip())
    return Processor(fields.get('model name', platform.machine()), tuple(fields.get('flags', '').split()))


def lacks(precision: str, instructions: Optional[Sequence[str]] = None) -> Tuple[str, ...]:
    """Return the instruction sets of which ``precision`` needs one if oneDNN may use none of them, else ()."""
    have = instructions
    if have is None:
        have = processor().instructions
        left = _LEFT.get(os.environ.get(LIMIT, '').upper(), have)
        have = [one for one in have if one in left]
    needed = NEEDED.get(precision, ())
    return () if any(one in have for one in needed) else needed
