"""Find the parameters that a path stands for: a file, or the folder of a run for its best ones."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Union

from common.run_files import BEST, EARLIER, LAST
from environment import UserError

__all__ = ['params_path']


def params_path(path: Union[str, os.PathLike]) -> str:
    """Return the parameter file that `path` names: itself, or the best parameters in the folder of a run.

    In a folder that has none of these names, its last parameters or its only .params file is meant.

    Raises:
        UserError: the folder holds none of these, or is an exported network.
    """
    folder = Path(path)
    if not os.path.isdir(path):  # which a folder that may not be looked into is not, either
        return os.fspath(path)
    found = [folder / BEST, *sorted(folder.glob(EARLIER), key=_written, reverse=True), folder / LAST]
    chosen = next((file for file in found if file.is_file()), None)
    if chosen is not None:
        return str(chosen)
    others = sorted(folder.glob('*.params'))
    if (folder / 'export.json').is_file():
        raise UserError(f'{path} is an exported network and not a run; scripts/predict.py --exported reads it')
    if len(others) == 1:
        return str(others[0])
    held = ', '.join(file.name for file in others[:3]) or 'no .params file'
    raise UserError(f'{path} is a folder without best parameters (it has {held}); give the path of a .params file')


def _written(file: Path) -> float:
    return file.stat().st_mtime  # each best file is better than those before it
