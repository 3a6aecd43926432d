"""The settings that a run stores in its folder, and those that may change when it is resumed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Dict, Sequence

from common.files import write_text
from environment import UsageError
from training.config.fields import SettingsParser
from training.config.groups import Settings

__all__ = ['NOT_SAVED', 'is_harmless', 'refuse_changes', 'resolved', 'save_settings']

# Flags for how a run is executed and recorded. All others determine its result.
HARMLESS = frozenset(
    'save_dir save_plot_dir summary json tensorboard checkpoint_interval keep save_period save_frequency '
    'num_data_workers resume config data_dir logging_file log_interval rec_train rec_train_idx rec_val '
    'rec_val_idx horovod max_skipped no_report train_annotations train_images val_annotations val_images plugin '
    'quiet verbose logger log_images results max_time weights_dir original_defaults'.split()
)
# Flags that are not part of a run and therefore not saved with it. A folder never causes code to run: a plugin counts
# by its content, which checkpoints record.
NOT_SAVED = frozenset(['config', 'resume', 'json', 'data_only', 'horovod', 'plugin', 'quiet', 'verbose'])


def is_harmless(flag: str) -> bool:
    """Return whether `flag`, as spelled in a settings file or a parser's attribute, does not affect a run's result."""
    return flag.replace('-', '_') in HARMLESS


def resolved(parser: SettingsParser, settings: Settings) -> Dict[str, Any]:
    """Return what `save_settings` writes: {flag without dashes: value}, for flags that are part of the run."""
    values = settings.values()
    saved = (name for name in parser.flags() if name not in NOT_SAVED and values[name] is not None)
    return {parser.spelled(name).lstrip('-'): values[name] for name in saved}


def save_settings(path: Path, parser: SettingsParser, settings: Settings) -> None:
    """Write the resolved settings; the file works with --config."""
    import yaml

    text = io.StringIO()
    text.write(f'# {parser.prog} --config {path.name} repeats this run.\n')
    yaml.safe_dump(resolved(parser, settings), text, sort_keys=False)
    write_text(path, text.getvalue())


def refuse_changes(parser: SettingsParser, before: Settings, now: Settings, free: Sequence[str] = ()) -> None:
    """Raise `UsageError` naming the first changed flag that determines the result.

    `free` lists further harmless ones.
    """
    for (name, old), new in zip(before.values().items(), now.values().values()):
        if not is_harmless(name) and name not in free and old != new:
            flag = parser.spelled(name)
            raise UsageError(
                f'{flag} is {new!r} and the run to resume was started with {old!r}, which '
                'determines its result; '
                f'leave {flag} out, or start a new run with another --save-dir'
            )
