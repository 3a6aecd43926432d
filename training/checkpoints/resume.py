"""Resume a run: what is read from its folder, what must be unchanged, and the state to begin with."""

import io
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from common.schema import is_below, shown
from environment import UsageError, UserError
from model.hybridization import MODES
from model.parameters.file_format import check_finite
from model.plugins import RECORDS
from training.checkpoints.checkpoint import CheckpointStore, decode_checkpoint, encode_checkpoint, require_schema
from training.checkpoints.position import POSITION, Position
from training.checkpoints.start import optimizer_state
from training.checkpoints.state import ARRAYS, LEARNER, capture, restore
from training.config.fields import SettingsParser
from training.config.groups import Settings
from training.config.run import RunSettings
from training.config.run_folder import RunFolder
from training.config.saved import NOT_SAVED, is_harmless, refuse_changes
from training.config.settings import read_settings
from training.distributed.arithmetic import arithmetic, in_words
from training.distributed.ranks import Ranks
from training.optim.loss_scaler import SCALE

__all__ = [
    'begin',
    'changed_settings',
    'check_determined',
    'check_position',
    'check_resumed',
    'finished',
    'free',
    'new_settings',
    'newest',
    'resumed_settings',
    'share_batch',
]

# Settings that name output files. Recorded ones must stay in the run's folder, which may come from anywhere.
WRITTEN = ('save_plot_dir', 'logging_file')
# Flags whose default is not what was done before there were the flags.
OTHERWISE_BEFORE = ('interpolation',)
_RESTORE = 'restore it, or start again with another --save-dir'

# What a run's checkpoint holds, as a schema.
STATE = {
    'settings': {'batch-size': int, ...: object},
    'mode': frozenset(MODES),
    'images per step': int,
    'training images': int,
    'classes?': [(str, float)],
    'arithmetic?': {...: str},
    'plugins?': RECORDS,
    'record': POSITION,
    'learner': {**LEARNER, 'loss_scale?': SCALE, 'average?': ARRAYS},
    ...: object,
}


def resumed_settings(
    parser: SettingsParser,
    settings: Settings,
    argv: List[str],
    folder: RunFolder,
    state: Optional[Dict[str, Any]],
    ranks: Ranks,
) -> Settings:
    """Return the settings of the run to resume, overridden by the flags that were given.

    They are the checkpoint's, or those of settings.yaml, as rank 0 finds them, if there is no checkpoint yet.
    """
    values, source = (None, str(folder.settings)) if state is None else (state['settings'], 'the checkpoint')
    if values is None and ranks.first and folder.settings.exists():
        values = read_settings(source, _RESTORE)
    values = ranks.agree(values)
    if values is None:
        return settings
    resumed = parser.parse(argv, below=_recorded(parser, values, source))
    for name in WRITTEN:
        path = resumed.values()[name]
        if path != settings.values()[name] and not is_below(path):
            flag = parser.spelled(name)
            raise UsageError(
                f'{source} sets {flag} to {path}, which is not in the folder of the run; give {flag} with this or '
                'another path'
            )
    return resumed


def _recorded(parser: SettingsParser, values: Dict[str, Any], source: str) -> List[str]:
    """Return the recorded settings of a run as a command line.

    Raises `UsageError` if there is more than a run records.
    """
    words = parser.argv_from(values, source)
    recorded = parser.parse_args(words).values()
    for name in NOT_SAVED:
        if recorded.get(name) != parser.get_default(name):
            raise UsageError(
                f'{source} sets {parser.spelled(name)}, which is not part of a run; remove it there, or {_RESTORE}'
            )
    return words


def changed_settings(
    parser: SettingsParser, settings: Settings, folder: RunFolder, state: Optional[Dict[str, Any]]
) -> List[str]:
    """Return a sentence for each setting that differs in settings.yaml from the checkpoint, which takes precedence."""
    if state is None or not folder.settings.exists():
        return []
    path = str(folder.settings)
    try:
        edited = parser.parse_args(parser.argv_from(read_settings(path), path))
    except UserError as error:
        return [f'{error}; rewritten from the checkpoint, which contains the settings']
    recorded = parser.parse_args(parser.argv_from(state['settings'], 'the checkpoint'))
    told = []
    both = zip(edited.values().values(), recorded.values().values())
    for (name, used), (there, here) in zip(settings.values().items(), both):
        if there != here and used != there:
            flag = parser.spelled(name)
            told.append(
                f'{path} has {flag} {there!r}, and the checkpoint {here!r}, which counts: {used!r}; to change it, give '
                f'{flag} on the command line'
            )
    return told


def new_settings(parser: SettingsParser, settings: Settings, state: Optional[Dict[str, Any]]) -> List[str]:
    """Return a sentence for each flag that changes the result and did not exist when the run was started.

    The default of a new flag is what was done before there was the flag, but for those in `OTHERWISE_BEFORE`.
    """
    if state is None:
        return []
    known = {key.replace('-', '_') for key in state['settings']}
    told = []
    for name, value in settings.values().items():
        flag = parser.spelled(name)
        if value is None or name in NOT_SAVED or is_harmless(name) or flag.lstrip('-').replace('-', '_') in known:
            continue
        if value == parser.get_default(name) and name not in OTHERWISE_BEFORE:
            continue
        told.append(
            f'{flag} is newer than the run, and {value!r} from here on: the result may differ from an unbroken one'
        )
    return told


def newest(store: CheckpointStore, ranks: Ranks) -> Tuple[Optional[Dict[str, Any]], Optional[Path]]:
    """Return the state to resume, as rank 0 finds it, and its file there. Raises `UserError` if no run wrote it."""
    state, source = (store.load_newest() or (None, None)) if ranks.first else (None, None)
    if source is not None:
        require_schema(state, STATE, source, 'remove it, and --resume takes the one before it')
    if ranks.size > 1:
        content = ranks.share(b'' if state is None else b''.join(encode_checkpoint(state)))
        state = decode_checkpoint(io.BytesIO(content)) if content else None
    return state, source


def share_batch(settings: Settings, state: Optional[Dict[str, Any]], devices: int) -> Settings:
    """Return the settings for another number of devices: each processes another share of the images of a step."""
    own, devices = settings.data.batch_size, devices * settings.gradient.accumulate
    if state is None or own * devices == state['images per step']:
        return settings
    if own != state['settings']['batch-size'] or state['images per step'] % devices:
        return settings
    return settings.changed('data', batch_size=state['images per step'] // devices)


def check_resumed(
    parser: SettingsParser,
    settings: Settings,
    folder: RunFolder,
    state: Optional[Dict[str, Any]],
    mode: str,
    devices: int,
) -> None:
    """Refuse to continue with settings, or in a mode, that would change the result of the run."""
    if not settings.run.resume:
        return
    if state is not None:
        before = state['settings']
    elif folder.settings.exists():
        before = read_settings(str(folder.settings), _RESTORE)
    else:
        return
    allowed = free(settings)
    per_step = settings.data.batch_size * settings.gradient.accumulate * devices
    if state is not None and per_step == state['images per step']:
        allowed.append('batch_size')
    epochs = settings.schedule.num_epochs
    if state is not None and epochs < state['record']['epoch']:
        raise UsageError(f'--num-epochs is {epochs}, and {state["record"]["epoch"]} epochs are done; give no fewer')
    if mode == 'auto' or (state is not None and mode == state['mode']):
        allowed.append('mode')
    refuse_changes(parser, parser.parse_args(parser.argv_from(before, str(folder.settings))), settings, allowed)


def check_position(state: Optional[Dict[str, Any]], per_step: int, images: int, told_apart: Sequence[Any]) -> None:
    """Raise `UsageError` if a step or an epoch has another number of images, or labels mean other classes."""
    if state is None:
        return
    for what, now, flag in (
        ('images per step', per_step, '--gpus or --batch-size'),
        ('training images', images, 'the data set'),
    ):
        if state[what] != now:
            raise UsageError(
                f'the run to resume had {state[what]} {what} and would now have {now}; {flag} must '
                'name as many as before'
            )
    for label, (known, now) in enumerate(zip(state.get('classes', ()), told_apart)):
        if known != now:
            raise UsageError(
                f'class {label} of the run to resume is {shown(known)} and would now be {shown(now)}; the data set '
                'must have the classes that it had'
            )


def check_determined(state: Optional[Dict[str, Any]], determined: Mapping[str, Any]) -> None:
    """Raise `UsageError` if something that determines the result was read again and has changed."""
    for what, now in determined.items() if state is not None else ():
        if state.get(what) != now:
            raise UsageError(
                f'the {what} of the run to resume are {shown(state.get(what))} and would now be {shown(now)}; restore '
                'the file that they are read from, or start a new run with another --save-dir'
            )


def begin(
    job: Any,
    state: Optional[Dict[str, Any]],
    source: Optional[Path],
    run: RunSettings,
    log: Callable[[str], None],
) -> Position:
    """Return where to start: the checkpoint's position, or the beginning."""
    if state is None:
        if run.resume:
            log('nothing to resume yet: starting at epoch 1')
        position = first_position(job, run)
        share_learner(job)
        if job.average:
            job.average.start()
        return position
    kept = {**({'loss_scale': SCALE} if job.scaler else {}), **({'average': ARRAYS} if job.average else {})}
    rows = [{**dict.fromkeys(job.scoring.columns, float), ...: float}]
    form = {'learner': {**kept, ...: object}, 'record': {'rows': rows, ...: object}, ...: object}
    require_schema(state, form, str(source), 'use the flags with which it was started')
    for part in ('parameters', *(['average'] if job.average else [])):
        check_finite(state['learner'][part], str(source))
    if job.average:
        job.average.set(state['learner']['average'], str(source))
    restore(job.net, job.step.trainer, state['learner'], str(source))
    if job.scaler:
        job.scaler.set(state['learner']['loss_scale'])
    before, now = state.get('arithmetic', {}), arithmetic()
    if in_words(now, before):
        log(
            f'computing with {in_words(now, before)}, and with {in_words(before, now)} before: the result will differ '
            'from that of an unbroken run in the last bits'
        )
    position = Position.from_tree(state['record'])
    log(f'resumed from {source} in epoch {position.epoch + 1}, after batch {position.batch}')
    return position


def share_learner(job: Any) -> None:
    """Give every rank the parameters with which rank 0 starts, and its optimizer's state."""
    if job.ranks.size > 1:
        content = job.ranks.share(b''.join(encode_checkpoint(capture(job.net, job.step.trainer))))
        restore(job.net, job.step.trainer, decode_checkpoint(io.BytesIO(content)), 'rank 0')


def first_position(job: Any, run: RunSettings) -> Position:
    """Return the beginning, or the position given by --resume-epoch and --resume-states."""
    if run.resume_states and job.ranks.first:
        optimizer = optimizer_state(run.resume_states)
        learner = {**capture(job.net, job.step.trainer), 'optimizer': optimizer}
        restore(job.net, job.step.trainer, learner, run.resume_states)
    return Position(epoch=run.resume_epoch, step=run.resume_epoch * len(job.train_data))


def finished(settings: Settings, folder: Path) -> str:
    """Return the message for a resumed run that has nothing left to do, and how to continue."""
    epochs = settings.schedule.num_epochs
    done = f'this run is finished: its {f"{epochs} epochs are" if epochs > 1 else "epoch is"} done'
    if 'num_epochs' in free(settings):
        return f'{done}; --resume --num-epochs {2 * epochs} would go on to as many'
    return (
        f'{done}, and its learning rate is planned for as many; a new run with --init-params {folder} goes on from its '
        'best parameters'
    )


def free(settings: Settings) -> List[str]:
    """Return flags that may change when a run is resumed, besides those that never matter."""
    # The device may change, but not the number of devices: see check_position.
    # When a run ends does not change anything before its end.
    names = ['gpus', 'num_gpus', 'patience']
    # How long a schedule of steps or cycles is followed does not change its rates.
    mode, cycles = settings.schedule.lr_mode, settings.schedule.cycle_epochs
    if (mode == 'step' or mode == 'cosine' and cycles) and not (settings.loss.mixes and settings.loss.mixup_off_epoch):
        names.append('num_epochs')
    return names
