"""One run from its settings to its last line: the order in which things are checked, built, resumed and
trained.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any, Dict, List, Optional

from environment import UsageError
from environment.files import atomic_write, make_folder
from environment.threads import thread_setting
from model import count, get_model, input_size
from training.assemble import Recipe, choose_mode, make_job, make_schedule
from training.checkpoint import CheckpointStore
from training.devices import chosen_devices
from training.log import RunLog
from training.loop import train
from training.outputs import Outputs, command_line, versions, write_json
from training.precision import check as check_precision
from training.ranks import Ranks
from training.record import Record
from training.run_folder import RunFolder, dataset_word, run_name
from training.settings import Parser, read_settings, refuse_changes, resolved, save_settings
from training.signals import StopRequest
from training.start import optimizer_state, preparation
from training.state import capture, restore
from training.task import Network, RunData, Task
from training.tensorboard import TensorBoard, require_tensorboard

__all__ = ['run']

CLASSES = 1000  # of the layers that are printed before the data are known


def run(parser: Parser, settings: argparse.Namespace, argv: List[str], task: Task) -> int:
    """Train as the settings say; the exit status: 0, or 130 or 143 after SIGINT or SIGTERM.

    Raises `UserError` and `UsageError` for what the user can put right. What is cheap to check is checked
    first.
    """
    ranks = Ranks()
    folder = run_folder(parser, settings, task)
    if settings.resume and folder.settings.exists():
        settings = parser.parse(argv, below=parser.argv_from(read_settings(str(folder.settings)), str(folder.settings)))
    devices, device_line = chosen_devices(settings)
    check_precision(settings.dtype, devices[0].device_type == 'gpu')
    task.network(settings, 1)  # the name alone
    make_schedule(settings, steps_per_epoch=1)
    check_epochs(settings)
    if settings.summary and task.only_summary:
        print_summary(task.network(settings, CLASSES), settings)
        return 0
    if settings.tensorboard:
        require_tensorboard()
    if not settings.resume:
        folder.refuse_second_run()
    store = CheckpointStore(folder.checkpoints, settings.keep)
    state, source = (store.load_newest() or (None, None)) if settings.resume else (None, None)
    check_resumed(parser, settings, folder, state, task)

    data = task.load(settings, len(devices), ranks)
    images = data.train.batch_size * ranks.size
    if task.measure and settings.data_only:
        figures = task.measure(data, settings, ranks)
        print(f'the training data alone: {figures["images_per_second"]:.0f} images/s')
        if settings.json:
            write_json(settings.json, figures)
        return 0
    check_position(state, images, data)
    chosen = task.network(settings, data.classes)
    told: List[str] = []
    prepare = preparation(settings, chosen, devices, state is not None, told.append)
    make = lambda: get_model(chosen.name, **chosen.options)  # noqa: E731
    recipe = Recipe(make, settings, devices, data.preprocessing.size, data.classes, prepare)
    if prepare is not None:
        recipe.network()  # parameters that do not fit are told before there is a folder
    make_folder(folder.path)
    make_folder(folder.path / settings.save_plot_dir)
    save_settings(folder.settings, parser, settings)
    log = RunLog(folder.path / settings.logging_file)
    log.flags(resolved(parser, settings))
    for line in (device_line, f'run folder {folder.path}', *describe(chosen, data), *told):
        log(line)
    mode = settle_mode(settings, task, recipe, folder, state, data.train.batch_size, log)
    job = make_job(recipe, mode, data.train, data.val, images)
    if settings.summary:
        print_summary(chosen, settings)
    outputs = make_outputs(parser, settings, argv, task, chosen, data, images, folder, store, log, mode)
    record = begin(job, state, source, settings, log)
    with StopRequest() as stop:
        done = train(job, record, outputs, lambda: stop.requested)
        if outputs.events:
            outputs.events.close()
        if not done:
            log(f'stopped at epoch {record.epoch}, batch {record.batch}; --resume goes on from here')
            return stop.status
        figures = outputs.finish(job.net, record)
    if settings.json:
        write_json(settings.json, figures)
    return 0


def check_epochs(settings: argparse.Namespace) -> None:
    first = getattr(settings, 'resume_epoch', 0)
    if first >= settings.num_epochs:
        raise UsageError(f'--resume-epoch is {first}; allowed: 0 to below --num-epochs, which is {settings.num_epochs}')


def run_folder(parser: Parser, settings: argparse.Namespace, task: Task) -> RunFolder:
    if settings.save_dir:
        return RunFolder(Path(settings.save_dir))
    return RunFolder(Path('params') / run_name(parser, settings, task.words(settings), free(settings)))


def free(settings: argparse.Namespace) -> List[str]:
    """Flags that may change from a run to its resumption, besides those that never matter."""
    # The device may change, the number of devices not: see check_position.
    names = ['gpus', 'num_gpus']
    # How far a stepped schedule is followed changes none of its steps.
    if settings.lr_mode == 'step' and not (settings.mixup and settings.mixup_off_epoch):
        names.append('num_epochs')
    return names


def check_resumed(
    parser: Parser, settings: argparse.Namespace, folder: RunFolder, state: Optional[Dict[str, Any]], task: Task
) -> None:
    """Refuse to go on with settings that would give another result than the run began with."""
    if not settings.resume:
        return
    if state is not None:
        before = state['settings']
    elif folder.settings.exists():
        before = read_settings(str(folder.settings))
    else:
        return
    allowed = free(settings)
    mode = task.modes.get(settings.mode, settings.mode)
    if mode == 'auto' or (state is not None and mode == state['mode']):
        allowed.append('mode')
    refuse_changes(parser, parser.parse_args(parser.argv_from(before, str(folder.settings))), settings, allowed)


def check_position(state: Optional[Dict[str, Any]], images: int, data: RunData) -> None:
    if state is None:
        return
    for what, now, flag in (
        ('images per step', images, '--gpus or --batch-size'),
        ('training images', data.images, 'the data set'),
    ):
        if state[what] != now:
            raise UsageError(
                f'the run to resume had {state[what]} {what} and would now have {now}; {flag} must '
                'name as many as before'
            )


def describe(chosen: Network, data: RunData) -> List[str]:
    size = data.preprocessing.size
    cost = count(get_model(chosen.name, **chosen.options), (1, 3, size, size))
    return [
        *data.notes,
        f'{data.name}: {data.images} images to train on, {data.val_images} to validate on, {data.classes} classes',
        f'{chosen.name}: {cost.params:,} parameters, {cost.macs / 1e6:.1f} million multiply-adds per image',
    ]


def settle_mode(
    settings: argparse.Namespace,
    task: Task,
    recipe: Recipe,
    folder: RunFolder,
    state: Optional[Dict[str, Any]],
    batch: int,
    log: RunLog,
) -> str:
    """The mode of this run. Measured once, and on the disk before the first step: the modes differ in the
    last bits.
    """
    if state is not None:
        return state['mode']
    if settings.mode != 'auto':
        return task.modes.get(settings.mode, settings.mode)
    if settings.resume and folder.mode.exists():
        return json.loads(folder.mode.read_text())['mode']
    mode, speeds = choose_mode(recipe, batch)
    listed = ', '.join(f'{name} {speed:.0f}' for name, speed in speeds.items())
    log(f'--mode auto: {mode} is the fastest here (images/s: {listed})')
    text = json.dumps({'mode': mode, 'images_per_second': speeds}, indent=2) + '\n'
    atomic_write(folder.mode, lambda file: file.write(text.encode()))
    return mode


def print_summary(chosen: Network, settings: argparse.Namespace) -> None:
    """Gluon's table of layers, of a network of its own: it needs one that is not hybridized."""
    import mxnet as mx

    size = getattr(settings, 'input_size', None) or input_size(chosen.name)
    net = get_model(chosen.name, **chosen.options)
    net.initialize()
    net.summary(mx.nd.zeros((1, 3, size, size)))


def make_outputs(
    parser: Parser,
    settings: argparse.Namespace,
    argv: List[str],
    task: Task,
    chosen: Network,
    data: RunData,
    images: int,
    folder: RunFolder,
    store: CheckpointStore,
    log: RunLog,
    mode: str,
) -> Outputs:
    manifest = {
        'model': chosen.name,
        'model_kwargs': chosen.options,
        'classes': data.classes,
        'class_names': list(data.class_names),
        'preprocessing': data.preprocessing.to_dict(),
        'dataset': dataset_word(data.name),
        'seed': settings.seed,
        'command': command_line(argv),
        'versions': versions(),
    }
    state = {
        'settings': resolved(parser, settings),
        'mode': mode,
        'images per step': images,
        'training images': data.images,
        'threads': threads(),
    }
    return Outputs(
        folder=folder,
        store=store,
        log=log,
        manifest=manifest,
        family=task.family,
        dataset=dataset_word(data.name),
        name=chosen.label,
        state=state,
        save_period=settings.save_period,
        plot_dir=settings.save_plot_dir,
        title=f'{chosen.name} on {dataset_word(data.name)}',
        events=TensorBoard(folder.tensorboard) if settings.tensorboard else None,
        log_interval=settings.log_interval,
        epoch_lines=task.epoch_lines,
        best_figure=task.best_figure,
    )


def threads() -> str:
    """The number of threads that MXNet computes with; sums over threads round by their number."""
    return os.environ[thread_setting()]


def first_record(job: Any, settings: argparse.Namespace) -> Record:
    """The beginning, or where --resume-epoch and --resume-states put it."""
    epoch = getattr(settings, 'resume_epoch', 0)
    if getattr(settings, 'resume_states', None):
        optimizer = optimizer_state(settings.resume_states)
        learner = {**capture(job.net, job.step.trainer), 'optimizer': optimizer}
        restore(job.net, job.step.trainer, learner, settings.resume_states)
    return Record(epoch=epoch, step=epoch * len(job.train_data))


def begin(
    job: Any,
    state: Optional[Dict[str, Any]],
    source: Optional[Path],
    settings: argparse.Namespace,
    log: RunLog,
) -> Record:
    """Where to start: the checkpoint's record, or the beginning."""
    if state is None:
        if settings.resume:
            log('nothing to resume yet: starting at epoch 0')
        return first_record(job, settings)
    restore(job.net, job.step.trainer, state['learner'], str(source))
    if job.scaler:
        job.scaler.set(state['learner']['loss_scale'])
    if state['threads'] != threads():
        log(
            f'computing with {threads()} threads, and with {state["threads"]} before: '
            'the result will differ from that of an unbroken run in the last bits'
        )
    record = Record.from_tree(state['record'])
    log(f'resumed from {source} at epoch {record.epoch}, batch {record.batch}')
    return record
