"""One run from its settings to its last line: checked, loaded, built, trained."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Set, Tuple, Type

from common.console import heed, say, timed
from common.files import check_writable, make_folder, write_json
from common.schema import read_json
from data.classification.survey import Survey
from environment import UsageError
from model.hybridization import MODES
from model.parameters.fetched import fetch_from
from model.plugins import check_recorded, names_of
from training.checkpoints.checkpoint import CheckpointStore
from training.checkpoints.position import Position
from training.checkpoints.resume import (
    begin,
    changed_settings,
    check_determined,
    check_position,
    check_resumed,
    finished,
    new_settings,
    newest,
    resumed_settings,
    share_batch,
)
from training.checkpoints.start import optimizer_state
from training.config.fields import SettingsParser
from training.config.flags import seconds
from training.config.groups import Settings
from training.config.idle import refuse_idle, unreached
from training.config.loggers import require_loggers
from training.config.model_options import with_plugins
from training.config.run_folder import RunFolder, claimed_folder, dataset_word, newest_folder, run_name
from training.config.saved import resolved, save_settings
from training.distributed.arithmetic import arithmetic, without_kernels
from training.distributed.devices import chosen_devices, without_notices
from training.distributed.horovod import join, require_alike, require_flag, require_same_plugins
from training.distributed.ranks import Ranks
from training.distributed.signals import StopRequest
from training.ending import enter, tell
from training.logging.loggers import Loggers, make_loggers
from training.logging.outputs import NoOutputs, Outputs, command_line, tell_versions, versions
from training.logging.text_log import RunLog
from training.loop import Job, train
from training.optim.schedule import make_schedule
from training.precision import check as check_precision
from training.suited import suited
from training.task import Network, RunData, Task, TrainedNetworks, fastest_mode_of

__all__ = ['run']

CLASSES = 1000  # of the layers that are printed before the data are known
STOPPED = 143  # the status of a rank that stops because another was asked to


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


@dataclass(frozen=True)
class Built:
    """A run that is ready to train, with lines on its data and network."""

    job: Job
    outputs: Outputs
    position: Position
    described: Sequence[str]


def run(
    parser: SettingsParser,
    settings: Settings,
    argv: List[str],
    kind: Type[Task],
    trained: Optional[TrainedNetworks] = None,
) -> int:
    """Train as the settings say; the exit status: 0, or 130 or 143 after SIGINT or SIGTERM.

    Raises `UserError` and `UsageError` for what the user can put right. What is cheap to check is checked
    first.
    """
    heed(settings.telling.quiet, settings.telling.verbose)
    require_flag(settings.machine.horovod)
    ranks = join(settings.machine.horovod)
    with ranks.together(), ExitStack() as held:

        def make_task(settings: Settings, devices: Sequence[Any] = ()) -> Task:
            return kind(settings, devices, ranks, trained)

        checked = check(parser, settings, argv, make_task, ranks, held)
        task = checked.task
        if task.only_summary and task.settings.network.summary:
            task.print_layers(task.choose(task.settings.data.classes or CLASSES))
            return 0
        hold(checked, held)
        tell_versions()
        with timed('opening the data'):
            data = task.load()
        if task.measuring:
            return measure(task, data)
        with timed('building the network, its optimizer and the outputs'):
            built = build(checked, data)
        return train_to_the_end(checked, built)


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
        settings, found, told = suit(parser, settings, stated, make_task, devices, ranks)
    task = make_task(share_batch(settings, state, len(devices) * ranks.size), devices)
    check_settings(parser, task, argv)
    store.keep = settings.run.keep
    return Checked(parser, argv, task, folder, store, state, source, plugins, device_line, found, told)


def suit(
    parser: SettingsParser,
    settings: Settings,
    stated: Set[str],
    make_task: Callable[..., Task],
    devices: Sequence[Any],
    ranks: Ranks,
) -> Tuple[Settings, Optional[Survey], List[str]]:
    """Return the settings with what suits a user's own images, these as rank 0 finds them, and lines on what suits."""
    task, chosen, told = make_task(settings, devices), {}, []
    if task.measuring or (task.only_summary and settings.network.summary):
        return settings, None, told
    found = task.survey() if ranks.first else None
    if found is not None and not settings.images.original_defaults:

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


def measure(task: Task, data: RunData) -> int:
    """Tell how fast the training data alone come."""
    file = task.settings.telling.json if task.ranks.first else None
    if file:
        check_writable(file)
    figures = task.measure(data)
    if task.ranks.first:
        say(f'the training data alone: {figures["images_per_second"]:.0f} images/s')
    if file:
        write_json(file, figures)
    return 0


def build(checked: Checked, data: RunData) -> Built:
    """Build network, optimizer and outputs, and restore them where the run is resumed."""
    task, settings, folder, state = checked.task, checked.settings, checked.folder, checked.state
    first, images = checked.ranks.first, data.train.batch_size * checked.ranks.size
    check_position(state, images, data.images, data.told_apart)
    network = task.choose(data.classes)
    told = []
    if first:
        told = [
            *changed_settings(checked.parser, settings, folder, state),
            *new_settings(checked.parser, settings, state),
        ]
    # What rank 0 starts from it hands to the others, which may not see its files.
    task.assign(data, network, told.append if state is None and first else None)
    check_determined(state, task.determined)
    # What does not fit is told before there is a folder.
    if task.prepare is not None or settings.optimizer.optimizer == 'muon':
        task.trainer(task.new_network())
    if settings.run.resume_states and state is None and first:
        optimizer_state(settings.run.resume_states)
    with folder.set_up():
        log = open_log(checked)
        described = describe(task, data, network)
        late = unreached(settings.schedule, settings.loss, len(data.train), settings.run)
        seen = checked.found.lines(data.preprocessing) if checked.found else []
        for line in (*machine_lines(checked), *seen, *checked.told, *data.notes, *described, *task.notes, *late, *told):
            log(line)
        mode = resolve_mode(task, folder, state, log)
        job = task.job(mode)
        if settings.network.summary and first:
            with log.console():
                task.print_layers(network)
        outputs = make_outputs(checked, data, network, log, mode)
        if job.net.plugins:
            outputs.state['plugins'] = job.net.plugins
        position = begin(job, state, checked.source, settings.run, log)
        if position.epoch >= job.epochs:
            log(finished(settings, folder.path))
        elif first:
            outputs.loggers = open_loggers(checked, data, outputs, position)
        return Built(job, outputs, position, described)


def open_log(checked: Checked) -> RunLog:
    """Make the run's folder and write its settings there; on another rank than the first, keep silent."""
    settings, folder = checked.settings, checked.folder
    path = folder.path / settings.run.logging_file
    if checked.ranks.first:
        make_folder(folder.path)
        make_folder(folder.path / settings.run.save_plot_dir)
        make_folder(path.parent)
        if settings.telling.json:  # which may be in one of these folders
            check_writable(settings.telling.json)
        save_settings(folder.settings, checked.parser, settings)
    log = RunLog(path if checked.ranks.first else None)
    log.flags(resolved(checked.parser, settings))
    return log


def machine_lines(checked: Checked) -> List[str]:
    """Return what the log says of devices, folder and plugins."""
    plugins = [
        f'plugin {each.path} (sha256 {each.sha256}) registers {", ".join(names_of(each))}' for each in checked.plugins
    ]
    kernels = without_kernels(checked.task.devices)
    return [checked.device_line, *kernels, f'run folder {checked.folder.path}', *plugins]


def describe(task: Task, data: RunData, network: Network) -> List[str]:
    """Return what the log says of the data and the network."""
    return [
        f'{data.name}: {data.images} images to train on, {data.val_images} to validate on, {data.classes} classes',
        *task.describe(data, network),
    ]


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


def make_outputs(checked: Checked, data: RunData, network: Network, log: RunLog, mode: str) -> Outputs:
    """Return where the results go: nowhere on another rank than the first."""
    task, settings, folder = checked.task, checked.settings, checked.folder
    dataset, ema = dataset_word(data.name), settings.distillation.ema
    manifest = {
        'model': network.name,
        'model_kwargs': network.options,
        'classes': data.classes,
        'class_names': list(data.class_names),
        **data.manifest,
        'preprocessing': data.preprocessing.to_dict(),
        'dataset': dataset,
        'seed': settings.machine.seed,
        'command': command_line(checked.argv),
        **({'ema': ema} if ema else {}),
        **task.manifest,
        'versions': versions(),
    }
    state = {
        'settings': resolved(checked.parser, settings),
        'mode': mode,
        'images per step': data.train.batch_size * checked.ranks.size,
        'training images': data.images,
        'classes': data.told_apart,
        'arithmetic': arithmetic(),
        **task.determined,
    }
    first = checked.ranks.first
    return (Outputs if first else NoOutputs)(
        folder=folder,
        store=checked.store,
        log=log,
        manifest=manifest,
        state=state,
        save_period=settings.run.save_period,
        plot_dir=settings.run.save_plot_dir,
        title=f'{network.name} on {dataset}',
        log_interval=settings.run.log_interval,
        wording=task,
    )


def open_loggers(checked: Checked, data: RunData, outputs: Outputs, position: Position) -> Loggers:
    """Return the loggers of --logger."""
    telling, settings = checked.settings.telling, outputs.state['settings']
    made = make_loggers(telling.loggers, checked.folder, settings, position.step, outputs.manifest['dataset'])
    return Loggers(made, telling.log_images, data.preprocessing, outputs.log)


def train_to_the_end(checked: Checked, built: Built) -> int:
    """Train, and leave parameters, figures and report; the exit status."""
    settings, job, outputs, position = checked.settings, built.job, built.outputs, built.position
    with StopRequest() as stop:
        report = None
        if checked.ranks.first and not settings.telling.no_report:
            report = checked.task.report(common_report(checked, built), job, outputs, lambda: stop.requested)
        limit, start = settings.run.max_time, time.monotonic()

        def ended() -> bool:
            over = limit is not None and checked.ranks.first and time.monotonic() - start > seconds(limit)
            return stop.requested or over

        done = False
        try:
            done = train(job, position, outputs, ended)
        finally:
            outputs.loggers.close(done)
        if not done:
            asked = job.ranks.total([float(stop.requested)])[0] > 0
            why = 'stopped' if asked else f'stopped after {limit} (--max-time)'
            outputs.log(
                f'{why} in epoch {position.epoch + 1}, after batch {position.batch}; --resume goes on from here'
            )
            if report:
                report.write(position, complete=False)
            return (stop.status or STOPPED) if asked else 0
        with job.to_keep(position.rows[-1]):
            figures = outputs.finish(job.net, position)
        if settings.telling.json and checked.ranks.first:
            write_json(settings.telling.json, figures)
        if report:
            with job.to_keep(position.rows[-1]):
                report.write(position, complete=True)
        if checked.ranks.first:
            outputs.log(checked.folder.disk_use(settings.run.keep))
            enter(checked.task, outputs, job.net, figures)
            tell(checked.task, outputs, position.rows, figures)
    return 0


def common_report(checked: Checked, built: Built) -> Dict[str, Any]:
    """Return the fields of the report of any run."""
    outputs, parser = built.outputs, checked.parser
    facts = {
        'command': outputs.manifest['command'],
        'device': checked.device_line,
        'data and network': '; '.join(built.described),
        'mode': outputs.state['mode'],
        'threads': outputs.state['arithmetic']['threads'],
        'versions': ', '.join(f'{name} {version}' for name, version in outputs.manifest['versions'].items()),
    }
    return {
        'folder': outputs.folder,
        'title': outputs.title,
        'settings': outputs.state['settings'],
        'defaults': {parser.spelled(name).lstrip('-'): parser.get_default(name) for name in parser.flags()},
        'log': outputs.log,
        'facts': tuple(facts.items()),
    }
