"""The first step of a run: its flags are checked and settled before its data are opened."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Set, Tuple

from data.classification.survey import Survey
from environment import UsageError
from model.parameters.fetched import fetch_from
from model.plugins import check_recorded
from training.checkpoints.checkpoint import CheckpointStore
from training.checkpoints.resume import (
    check_resumed,
    newest,
    resumed_settings,
    share_batch,
)
from training.config.fields import SettingsParser
from training.config.groups import Settings
from training.config.idle import refuse_idle
from training.config.loggers import require_loggers
from training.config.model_options import with_plugins
from training.config.run_folder import RunFolder, claimed_folder, newest_folder, run_name
from training.distributed.devices import chosen_devices, without_notices
from training.distributed.horovod import require_alike, require_same_plugins
from training.distributed.ranks import Ranks
from training.optim.schedule import make_schedule
from training.precision import check as check_precision
from training.suited import suited
from training.task import Network, Task

__all__ = ['Checked', 'check', 'hold']


@dataclass(frozen=True)
class Checked:
    """A run whose flags are sound, before its data are opened."""

    parser: SettingsParser
    argv: List[str]
    task: Task
    folder: RunFolder
    store: CheckpointStore
    state: Optional[Dict[str, Any]]  # of the checkpoint to go on from, and its file on rank 0
    source: Optional[Path]
    plugins: Sequence[Any]
    device_line: str
    found: Optional[Survey] = None  # the images, on rank 0, if they are a user's own
    told: Sequence[str] = ()  # what was chosen for them

    @property
    def settings(self) -> Settings:
        return self.task.settings

    @property
    def ranks(self) -> Ranks:
        return self.task.ranks


def check(
    parser: SettingsParser,
    settings: Settings,
    argv: List[str],
    make_task: Callable[..., Task],
    ranks: Ranks,
    held: ExitStack,
) -> Checked:
    """Settle the settings, those of the run to resume if there is one, and check all that needs no data.

    Images of a user's own are looked over before, to choose what suits them.
    """
    stated = parser.stated(argv)
    fetch_from(settings.start.weights_dir)
    settings = settings.settled(stated)
    folder = run_folder(make_task(settings), ranks, held)
    store = CheckpointStore(folder.checkpoints)
    state, source, found, told = None, None, None, []
    if settings.run.resume:
        if ranks.first:
            held.enter_context(folder.held(resume=True))
        state, source = newest(store, ranks)
        settings = resumed_settings(parser, settings, argv, folder, state, ranks)
    plugins = with_plugins(settings.network.plugin)
    require_same_plugins(plugins, ranks)
    if state is not None:
        check_recorded(state.get('plugins', ()), 'the run to resume', exactly=True)
    devices, device_line = chosen_devices(settings.machine, ranks)
    check_precision(settings.machine.dtype, without_notices(devices)[0].device_type == 'gpu')
    require_alike(settings.optimizer, ranks)
    if not settings.run.resume or (state is None and not ranks.agree(folder.settings.exists())):
        known = None if parser.follows_recipe(argv) else stated
        settings, found, told = suit(parser, settings, known, make_task, devices, ranks)
    task = make_task(share_batch(settings, state, len(devices) * ranks.size), devices)
    check_settings(parser, task, argv)
    store.keep = settings.run.keep
    return Checked(parser, argv, task, folder, store, state, source, plugins, device_line, found, told)


def suit(
    parser: SettingsParser,
    settings: Settings,
    stated: Optional[Set[str]],
    make_task: Callable[..., Task],
    devices: Sequence[Any],
    ranks: Ranks,
) -> Tuple[Settings, Optional[Survey], List[str]]:
    """Return the settings with what suits a user's own images, these as rank 0 finds them, and lines on what suits.

    None for the fields that are `stated` stands for a recipe, which is followed as it is.
    """
    task, chosen, told = make_task(settings, devices), {}, []
    if task.measuring or (task.only_summary and settings.network.summary):
        return settings, None, told
    found = task.survey() if ranks.first else None
    if found is not None and stated is None:
        told = ['--config is one of the recipes, which is followed as it is: nothing else is chosen for these images']
    elif found is not None and not settings.images.original_defaults:

        def choose(settings: Settings) -> Network:
            return make_task(settings).choose(found.classes)

        suits = suited(parser, settings, stated, found, list(devices) * ranks.size, choose)
        chosen, told = suits.values, suits.lines
    return settings.with_values(ranks.agree(chosen)), found, told


def check_settings(parser: SettingsParser, task: Task, argv: Sequence[str]) -> None:
    """Raise `UsageError` for what the flags say of network and schedule and cannot be, or has no effect."""
    settings = task.settings
    network = task.choose(1)
    make_schedule(settings.schedule, steps_per_epoch=1)
    first, epochs = settings.run.resume_epoch, settings.schedule.num_epochs
    if first >= epochs:
        raise UsageError(f'--resume-epoch is {first}; allowed: 0 to below --num-epochs, which is {epochs}')
    refuse_idle(parser, settings, argv)
    task.check_flags(parser, argv, network)


def hold(checked: Checked, held: ExitStack) -> None:
    """Hold the run's folder, unless nothing is written there; refuse changes of the run that is resumed."""
    task, settings, folder = checked.task, checked.settings, checked.folder
    if checked.ranks.first:
        require_loggers(settings.telling.loggers)
    if checked.ranks.first and settings.run.save_dir and not settings.run.resume and not task.measuring:
        held.enter_context(folder.held(resume=False))
    workers = len(task.devices) * checked.ranks.size
    check_resumed(checked.parser, settings, folder, checked.state, task.mode, workers)


def run_folder(task: Task, ranks: Ranks, held: ExitStack) -> RunFolder:
    """Return where --save-dir says, or a folder in runs/ that is named by data set and network, `held` if it is new."""
    wanted, name, path = task.settings.run, run_name(*task.words()), None
    if wanted.save_dir or task.measuring:
        return RunFolder(Path(wanted.save_dir or name))
    if ranks.first:
        path = str((newest_folder(name) if wanted.resume else claimed_folder(name, held)).path)
    return RunFolder(Path(ranks.agree(path)))
