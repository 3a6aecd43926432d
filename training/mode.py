"""Choose how a run computes its network, by measuring once if `--mode` leaves it open."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Optional

from common.files import write_json
from common.schema import read_json
from model.hybridization import MODES
from training.config.run_folder import RunFolder
from training.logging.text_log import RunLog
from training.task import Task, fastest_mode_of

__all__ = ['resolve_mode']


def resolve_mode(task: Task, folder: RunFolder, state: Optional[Dict[str, Any]], log: RunLog) -> str:
    """Return the mode of this run.

    Measured once, and on the disk before the first step: the modes differ in the last bits.
    """
    ranks = task.ranks
    if state is not None:
        return state['mode']
    if task.mode != 'auto':
        return task.mode
    if task.settings.run.resume:
        known = ranks.agree(known_mode(folder.mode, log) if ranks.first else None)
        if known is not None:
            return known
    mode, speeds = ranks.agree(fastest_mode_of(task, task.data.train.batch_size))
    listed = ', '.join(f'{name} {speed:.0f}' for name, speed in speeds.items())
    log(f'--mode auto: {mode} is the fastest here (images/s: {listed})')
    if ranks.first:
        write_json(folder.mode, {'mode': mode, 'images_per_second': speeds})
    return mode


def known_mode(path: Path, log: RunLog) -> Optional[str]:
    """Return the mode that was measured when the run was started; None where the file does not say, which is logged."""
    if not path.exists():
        return None
    try:
        content = read_json(path, {'mode': frozenset(MODES), ...: object})
    except (OSError, ValueError) as error:
        log(f'{path} does not say which mode was the fastest ({error}): measuring again')
        return None
    return content['mode']
