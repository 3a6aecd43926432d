"""Make the table of detectors: cost and published accuracy."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence

from detection import get_detector
from detection.published import PUBLISHED, SIZE
from detection.zoo import KINDS
from model.count import count_params
from model.published import PUBLISHED as CLASSIFIERS

__all__ = ['detector_rows', 'detector_table']


def detector_rows() -> List[Dict[str, Any]]:
    """Return the figures of each published detector, as it was trained.

    That is from the published classifier, whose stem and first stage are frozen.
    """
    rows = []
    for name, figures in PUBLISHED.items():
        kind = next(kind for kind in KINDS if name.startswith(kind + '_'))
        det = get_detector(name, **CLASSIFIERS[name[len(kind) + 1 :]].options)
        params = count_params(det)
        det.freeze()
        rows.append(
            {
                'model': name,
                'input': SIZE,
                'params': params,
                'learning': count_params(det),
                'macs': det.macs(*SIZE),
                'published': figures._asdict(),
            }
        )
    return rows


def detector_table(rows: Sequence[Dict[str, Any]]) -> str:
    height, width = SIZE
    lines = [
        f'| detector | parameters | trainable | multiply-adds, {width}x{height} | AP | AP50 | AP75 | small '
        '| medium | large |',
        f'| --- |{" ---: |" * 9}',
    ]
    for row in rows:
        cost = f'{row["params"]:,} | {row["learning"]:,} | {row["macs"] / 1e9:.1f} G'
        found = ' | '.join(f'{value:.1f}' for value in row['published'].values())
        lines.append(f'| `{row["model"]}` | {cost} | {found} |')
    return '\n'.join(lines)
