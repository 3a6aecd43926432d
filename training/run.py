"""One run from its settings to its last line: the order in which things are checked, built, resumed and
trained.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from environment import UsageError, UserError
from environment.files import atomic_write, make_folder
from environment.threads import thread_setting
from model import count, get_model, load_params
from model.parameters import set_params
from training.assemble import Recipe, choose_mode, feeders, make_job, make_schedule
from training.checkpoint import CheckpointStore, DamagedCheckpoint, read_checkpoint
from training.data import Feeder, load_dataset
from training.devices import contexts
from training.log import RunLog
from training.loop import train
from training.open_atac import Network, network
from training.outputs import Outputs, command_line, versions, write_json
from training.precision import check as check_precision
from training.record import Record
from training.run_folder import RunFolder, dataset_word, run_name
from training.settings import Parser, read_settings, refuse_changes, resolved, save_settings
from training.signals import StopRequest
from training.state import restore
from training.tensorboard import TensorBoard, require_tensorboard

__all__ = ['run']


def run(parser: Parser, settings: argparse.Namespace, argv: List[str], family: str) -> int:
    """Train as the settings say; the exit status: 0, or 130 or 143 after SIGINT or SIGTERM.

    Raises `UserError` and `UsageError` for what the user can put right. What is cheap to check is checked
    first.
    """
    folder = run_folder(parser, settings)
    if settings.resume and folder.settings.exists():
        settings = parser.parse(argv, below=parser.argv_from(read_settings(str(folder.settings)), str(folder.settings)))
    devices, device_line = contexts(settings.gpus)
    check_precision(settings.dtype, devices[0].device_type == 'gpu')
    network(settings, classes=1)  # the name alone
    make_schedule(settings, steps_per_epoch=1)
    if settings.tensorboard:
        require_tensorboard()
    if not settings.resume:
        folder.refuse_second_run()
    store = CheckpointStore(folder.checkpoints, settings.keep)
    state, source = (store.load_newest() or (None, None)) if settings.resume else (None, None)
    check_resumed(parser, settings, folder, state)

    train_feeder, val_feeder = load_data(settings, len(devices))
    check_position(state, train_feeder)
    chosen = network(settings, train_feeder.dataset.classes)
    recipe = make_recipe(settings, chosen, devices, train_feeder)

    if settings.resume_from and state is None:
        recipe.network()  # parameters that do not fit are told before there is a folder
    make_folder(folder.path)
    make_folder(folder.path / settings.save_plot_dir)
    save_settings(folder.settings, parser, settings)
    log = RunLog(folder.log)
    log.flags(resolved(parser, settings))
    for line in (device_line, f'run folder {folder.path}', *describe(chosen, train_feeder, val_feeder)):
        log(line)
    mode = settle_mode(settings, recipe, folder, state, train_feeder.batch_size, log)
    job = make_job(recipe, mode, train_feeder, val_feeder)
    if settings.summary:
        print_summary(recipe)
    outputs = make_outputs(parser, settings, argv, family, chosen, train_feeder, folder, store, log, mode)
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


def run_folder(parser: Parser, settings: argparse.Namespace) -> RunFolder:
    if settings.save_dir is not None:
        return RunFolder(Path(settings.save_dir))
    return RunFolder(Path('params') / run_name(parser, settings, free(settings)))


def free(settings: argparse.Namespace) -> List[str]:
    """Flags that may change from a run to its resumption, besides those that never matter."""
    # The device may change, the number of devices not: see check_position.
    names = ['gpus']
    # How far a stepped schedule is followed changes none of its steps.
    if settings.lr_mode == 'step' and not (settings.mixup and settings.mixup_off_epoch):
        names.append('num_epochs')
    return names


def check_resumed(
    parser: Parser, settings: argparse.Namespace, folder: RunFolder, state: Optional[Dict[str, Any]]
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
    if settings.mode == 'auto' or (state is not None and settings.mode == state['mode']):
        allowed.append('mode')
    refuse_changes(parser, parser.parse_args(parser.argv_from(before, str(folder.settings))), settings, allowed)


def load_data(settings: argparse.Namespace, devices: int) -> Tuple[Feeder, Feeder]:
    train_set, val_set = (
        load_dataset(settings.dataset, split, data_dir=settings.data_dir, workers=settings.num_data_workers)
        for split in ('train', 'test')
    )
    return feeders(settings, train_set, val_set, devices)


def check_position(state: Optional[Dict[str, Any]], feeder: Feeder) -> None:
    if state is None:
        return
    for what, now, flag in (
        ('images per step', feeder.batch_size, '--gpus'),
        ('training images', len(feeder.dataset), '--dataset'),
    ):
        if state[what] != now:
            raise UsageError(
                f'the run to resume had {state[what]} {what} and would now have {now}; {flag} must '
                'name as many as before'
            )


def make_recipe(settings: argparse.Namespace, chosen: Network, devices: List[Any], feeder: Feeder) -> Recipe:
    load = None
    if settings.resume_from:
        load = lambda net: load_start(net, settings.resume_from, devices)  # noqa: E731
    make = lambda: get_model(chosen.name, **chosen.options)  # noqa: E731
    return Recipe(make, settings, devices, feeder.dataset.preprocessing.size, feeder.dataset.classes, load)


def load_start(net: Any, path: str, devices: List[Any]) -> None:
    """Parameters from a parameter file or a checkpoint."""
    if not path.endswith('.ckpt'):
        load_params(net, path, ctx=devices)
        return
    try:
        state = read_checkpoint(path)
    except (DamagedCheckpoint, OSError) as error:
        reason = f'cannot be read ({error.strerror})' if isinstance(error, OSError) else str(error)
        raise UserError(f'--resume-from: {path} {reason}; name another checkpoint or a .params file') from error
    set_params(net, state['learner']['parameters'], path, devices)


def describe(chosen: Network, train_feeder: Feeder, val_feeder: Feeder) -> List[str]:
    data = train_feeder.dataset
    cost = count(get_model(chosen.name, **chosen.options), (1, 3, data.preprocessing.size, data.preprocessing.size))
    return [
        *data.unreadable,
        f'{data.name}: {len(data)} images to train on, {len(val_feeder.dataset)} to validate on, '
        f'{data.classes} classes',
        f'{chosen.name}: {cost.params:,} parameters, {cost.macs / 1e6:.1f} million multiply-adds per image',
    ]


def settle_mode(
    settings: argparse.Namespace,
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
        return settings.mode
    if settings.resume and folder.mode.exists():
        return json.loads(folder.mode.read_text())['mode']
    mode, speeds = choose_mode(recipe, batch)
    listed = ', '.join(f'{name} {speed:.0f}' for name, speed in speeds.items())
    log(f'--mode auto: {mode} is the fastest here (images/s: {listed})')
    text = json.dumps({'mode': mode, 'images_per_second': speeds}, indent=2) + '\n'
    atomic_write(folder.mode, lambda file: file.write(text.encode()))
    return mode


def print_summary(recipe: Recipe) -> None:
    """Gluon's table of layers, of a copy: it needs a network that is not hybridized."""
    import mxnet as mx

    net = recipe.network()
    net.summary(mx.nd.zeros((1, 3, recipe.size, recipe.size), ctx=recipe.contexts[0]))


def make_outputs(
    parser: Parser,
    settings: argparse.Namespace,
    argv: List[str],
    family: str,
    chosen: Network,
    feeder: Feeder,
    folder: RunFolder,
    store: CheckpointStore,
    log: RunLog,
    mode: str,
) -> Outputs:
    data = feeder.dataset
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
        'images per step': feeder.batch_size,
        'training images': len(data),
        'threads': threads(),
    }
    return Outputs(
        folder=folder,
        store=store,
        log=log,
        manifest=manifest,
        family=family,
        dataset=dataset_word(data.name),
        name=chosen.label,
        state=state,
        save_period=settings.save_period,
        plot_dir=settings.save_plot_dir,
        title=f'{chosen.name} on {dataset_word(data.name)}',
        events=TensorBoard(folder.tensorboard) if settings.tensorboard else None,
    )


def threads() -> str:
    """The number of threads that MXNet computes with; sums over threads round by their number."""
    return os.environ[thread_setting()]


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
        return Record()
    restore(job.net, job.step.trainer, state['learner'], str(source))
    if state['threads'] != threads():
        log(
            f'computing with {threads()} threads, and with {state["threads"]} before: '
            'the result will differ from that of an unbroken run in the last bits'
        )
    record = Record.from_tree(state['record'])
    log(f'resumed from {source} at epoch {record.epoch}, batch {record.batch}')
    return record
