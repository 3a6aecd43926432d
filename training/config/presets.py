"""Settings by name: the files in recipes/presets, which --config accepts without their paths."""

from __future__ import annotations

from pathlib import Path
from typing import List, Optional

from environment import UsageError

__all__ = ['FOLDER', 'is_recipe', 'preset', 'presets']

FOLDER = Path(__file__).resolve().parents[2] / 'recipes' / 'presets'


def presets(script: str) -> List[str]:
    """Return the names of a script's presets."""
    return sorted(path.stem for path in (FOLDER / Path(script).stem).glob('*.yaml'))


def preset(name: str, script: str) -> Optional[Path]:
    """Return the file of the preset that --config names; None if it is a path.

    Raises `UsageError` for a word that is neither a file nor a preset.
    """
    if Path(name).suffix or len(Path(name).parts) != 1 or Path(name).exists():
        return None
    known = presets(script)
    if name not in known:
        allowed = f'or a preset of {script}: {", ".join(known)}' if known else f'as {script} has no presets'
        raise UsageError(f'--config {name} is not a file; give a YAML file, {allowed}')
    return FOLDER / Path(script).stem / f'{name}.yaml'


def is_recipe(file: str) -> bool:
    """Return whether a file of flags is one of the project's own, in recipes/."""
    return FOLDER.parent in Path(file).resolve().parents
