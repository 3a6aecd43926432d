"""The table of training beside PyTorch, of the file that `tools/benchmark_training.py --beside-torch` wrote."""

from __future__ import annotations

from typing import Any, Dict, Optional

__all__ = ['BESIDE_TORCH', 'beside_torch_table']

#: The form of such a file.
BESIDE_TORCH = {
    'beside_torch': [
        {
            **dict.fromkeys(('model', 'precision'), str),
            'batch_size': int,
            'contenders': {...: {'images_per_second': float, ...: object}},
            ...: object,
        }
    ],
    ...: object,
}
_TITLES = (
    'network',
    'batch',
    'precision',
    'images/s',
    "PyTorch's",
    'compiled',
    'ours / the better',
    'in convolutions',
    "PyTorch's",
    'memory of a step',
    "PyTorch's",
)


def _share(value: Optional[float]) -> str:
    return '' if value is None else f'{100 * value:.0f} %'


def _memory(value: Optional[float]) -> str:
    return '' if value is None else f'{value / 1024:.2f} GB' if value >= 1024 else f'{value:.0f} MB'


def _cells(row: Dict[str, Any]) -> str:
    ours, torch, compiled = (row['contenders'].get(name, {}) for name in ('ours', 'torch', 'torch compiled'))
    speeds = [one.get('images_per_second') for one in (ours, torch, compiled)]
    theirs = [speed for speed in speeds[1:] if speed]
    texts = ['' if speed is None else f'{speed:.0f}' if speed >= 100 else f'{speed:.1f}' for speed in speeds]
    ratio = f'{speeds[0] / max(theirs):.2f}' if theirs else ''
    shares = [_share(one.get('convolutions')) for one in (ours, torch)]
    memory = [_memory(one.get('megabytes')) for one in (ours, torch)]
    return ' | '.join([f'`{row["model"]}`', str(row['batch_size']), row['precision'], *texts, ratio, *shares, *memory])


def beside_torch_table(content: Dict[str, Any]) -> str:
    """Return a line for each network, batch and precision."""
    lines = [f'| {" | ".join(_TITLES)} |', '| --- | ---: | --- |' + ' ---: |' * (len(_TITLES) - 3)]
    return '\n'.join([*lines, *(f'| {_cells(row)} |' for row in content['beside_torch'])])
