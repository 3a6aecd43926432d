"""One run from its settings to its last line: the order in which things are checked, built, resumed and
trained.
"""

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Dict, List, Optional

from common.files import check_writable, make_folder, write_json
from common.schema import read_json
from environment import UsageError
from model import get_model, input_size
from model.hybridization import MODES
from model.plugins import check_recorded, names_of
from training.assemble import Recipe, choose_mode, make_job, make_schedule
from training.checkpoints.checkpoint import CheckpointStore
from training.checkpoints.resume import (
    begin,
    changed_settings,
    check_position,
    check_resumed,
    free,
    new_settings,
    newest,
    resumed_settings,
    share_batch,
)
from training.checkpoints.start import optimizer_state
from training.config.idle import refuse_idle, refuse_unread, unreached
from training.config.model_options import with_plugins
from training.config.run_folder import RunFolder, dataset_word, run_name
from training.config.settings import Parser, resolved, save_settings
from training.distributed.arithmetic import arithmetic, without_kernels
from training.distributed.devices import chosen_devices
from training.distributed.horovod import join, require_alike, require_flag, require_same_plugins
from training.distributed.ranks import Ranks
from training.distributed.signals import StopRequest
from training.logging.outputs import NoOutputs, Outputs, command_line, versions
from training.logging.tensorboard import TensorBoard, require_tensorboard
from training.logging.text_log import RunLog
from training.loop import train
from training.precision import check as check_precision
from training.report.from_run import make_report
from training.task import Network, RunData, Task

__all__ = ['run']

CLASSES = 1000  # of the layers that are printed before the data are known
STOPPED = 143  # the status of a rank that stops because another was asked to


def run(parser: Parser, settings: argparse.Namespace, argv: List[str], task: Task) -> int:
    """Train as the settings say; the exit status: 0, or 130 or 143 after SIGINT or SIGTERM.

    Raises `UserError` and `UsageError` for what the user can put right. What is cheap to check is checked
    first.
    """
    require_flag(settings.horovod)
    ranks = join(settings)
    with ranks.together(), ExitStack() as held:
        return run_together(parser, settings, argv, task, ranks, held)


def run_together(
    parser: Parser, settings: argparse.Namespace, argv: List[str], task: Task, ranks: Ranks, held: ExitStack
) -> int:
    """What `run` does, on each of the ranks; what is `held` is let go of at the end."""
    kind = task.recipe or Recipe
    folder = run_folder(parser, settings, task)
    store = CheckpointStore(folder.checkpoints)
    state, source = None, None
    if settings.resume:
        if ranks.first:
            held.enter_context(folder.held(resume=True))
        state, source = newest(store, ranks)
        settings = resumed_settings(parser, settings, argv, folder, state, ranks)
    plugins = with_plugins(settings)
    require_same_plugins(plugins, ranks)
    if state is not None:
        check_recorded(state.get('plugins', ()), 'the run to resume', exactly=True)
    devices, device_line = chosen_devices(settings, ranks)
    check_precision(settings.dtype, devices[0].device_type == 'gpu')
    require_alike(settings, ranks)
    named = task.network(settings, 1)
    make_schedule(settings, steps_per_epoch=1)
    check_epochs(settings)
    refuse_idle(parser, settings, argv)
    if task.classifies:
        refuse_unread(parser, settings, argv, named)
    if settings.summary and task.only_summary:
        print_summary(task.network(settings, settings.classes or CLASSES), settings)
        return 0
    if settings.tensorboard:
        require_tensorboard(folder.path)
    measuring = bool(task.measure) and settings.data_only
    if ranks.first and not settings.resume and not measuring:
        held.enter_context(folder.held(resume=False))
    store.keep = settings.keep
    share_batch(settings, state, len(devices) * ranks.size)
    check_resumed(parser, settings, folder, state, task, len(devices) * ranks.size)

    data = task.load(settings, len(devices), ranks)
    images = data.train.batch_size * ranks.size
    if measuring:
        if settings.json and ranks.first:
            check_writable(settings.json)
        figures = task.measure(data, settings, ranks)
        if ranks.first:
            print(f'the training data alone: {figures["images_per_second"]:.0f} images/s')
        if settings.json and ranks.first:
            write_json(settings.json, figures)
        return 0
    check_position(state, images, data)
    chosen = task.network(settings, data.classes)
    told = []
    if ranks.first:
        told = [*changed_settings(parser, settings, folder, state), *new_settings(parser, settings, state)]
    # What rank 0 starts from it hands to the others, which may not see its files.
    prepare = kind.preparation(settings, chosen, devices, state is None and ranks.first, told.append)
    recipe = kind.of(settings, chosen, devices, data, prepare, ranks)
    # What does not fit is told before there is a folder.
    if prepare is not None or settings.optimizer == 'muon':
        recipe.trainer(recipe.network())
    if getattr(settings, 'resume_states', None) and state is None and ranks.first:
        optimizer_state(settings.resume_states)
    with folder.set_up():
        if ranks.first:
            make_folder(folder.path)
            make_folder(folder.path / settings.save_plot_dir)
            make_folder((folder.path / settings.logging_file).parent)
            if settings.json:  # which may be in one of these folders
                check_writable(settings.json)
            save_settings(folder.settings, parser, settings)
        log = RunLog(folder.path / settings.logging_file if ranks.first else None)
        log.flags(resolved(parser, settings))
        described = describe(task, chosen, data)
        late = unreached(parser, settings, len(data.train))
        read = [f'plugin {one.path} (sha256 {one.sha256}) registers {", ".join(names_of(one))}' for one in plugins]
        notes = (*without_kernels(devices), f'run folder {folder.path}', *read, *data.notes)
        for line in (device_line, *notes, *described, *recipe.notes, *late, *told):
            log(line)
        mode = resolve_mode(settings, task, recipe, folder, state, data.train.batch_size, log)
        job = make_job(recipe, mode, data.train, data.val, images)
        if settings.summary and ranks.first:
            with log.console():
                print_summary(chosen, settings)
        outputs = make_outputs(parser, settings, argv, task, chosen, data, images, folder, store, log, mode, ranks)
        if job.net.plugins:
            outputs.state['plugins'] = job.net.plugins
        position = begin(job, state, source, settings, log)
    with StopRequest() as stop:
        report = None
        if ranks.first and not settings.no_report:
            facts = {'device': device_line, 'data and network': '; '.join(described)}
            report = make_report(parser, data, job, outputs, facts, lambda: stop.requested)
        done = train(job, position, outputs, lambda: stop.requested)
        if outputs.events:
            outputs.events.close()
        if not done:
            log(f'stopped at epoch {position.epoch}, batch {position.batch}; --resume goes on from here')
            if report:
                report.write(position, complete=False)
            return stop.status or STOPPED
        with job.to_keep():
            figures = outputs.finish(job.net, position)
        if settings.json and ranks.first:
            write_json(settings.json, figures)
        if report:
            with job.to_keep():
                report.write(position, complete=True)
    return 0


def check_epochs(settings: argparse.Namespace) -> None:
    first = getattr(settings, 'resume_epoch', 0)
    if first >= settings.num_epochs:
        raise UsageError(f'--resume-epoch is {first}; allowed: 0 to below --num-epochs, which is {settings.num_epochs}')


def run_folder(parser: Parser, settings: argparse.Namespace, task: Task) -> RunFolder:
    if settings.save_dir:
        return RunFolder(Path(settings.save_dir))
    return RunFolder(Path('params') / run_name(parser, settings, task.words(settings), free(settings)))


def describe(task: Task, chosen: Network, data: RunData) -> List[str]:
    return [
        f'{data.name}: {data.images} images to train on, {data.val_images} to validate on, {data.classes} classes',
        *(task.recipe or Recipe).describe(chosen, data),
    ]


def resolve_mode(
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
    if settings.resume:
        known = recipe.ranks.agree(known_mode(folder.mode, log) if recipe.ranks.first else None)
        if known is not None:
            return known
    mode, speeds = recipe.ranks.agree(choose_mode(recipe, batch))
    listed = ', '.join(f'{name} {speed:.0f}' for name, speed in speeds.items())
    log(f'--mode auto: {mode} is the fastest here (images/s: {listed})')
    if recipe.ranks.first:
        write_json(folder.mode, {'mode': mode, 'images_per_second': speeds})
    return mode


def known_mode(path: Path, log: RunLog) -> Optional[str]:
    """The mode that was measured when the run was started; None where the file does not say, which is logged."""
    if not path.exists():
        return None
    try:
        content = read_json(path, {'mode': frozenset(MODES), ...: object})
    except (OSError, ValueError) as error:
        log(f'{path} does not say which mode was the fastest ({error}): measuring again')
        return None
    return content['mode']


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
    ranks: Ranks,
) -> Outputs:
    manifest = {
        'model': chosen.name,
        'model_kwargs': chosen.options,
        'classes': data.classes,
        'class_names': list(data.class_names),
        **data.manifest,
        'preprocessing': data.preprocessing.to_dict(),
        'dataset': dataset_word(data.name),
        'seed': settings.seed,
        'command': command_line(argv),
        **({'ema': settings.ema} if settings.ema else {}),
        **task.manifest,
        'versions': versions(),
    }
    state = {
        'settings': resolved(parser, settings),
        'mode': mode,
        'images per step': images,
        'training images': data.images,
        'classes': data.told_apart,
        'arithmetic': arithmetic(),
    }
    kind = Outputs if ranks.first else NoOutputs
    return kind(
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
        events=TensorBoard(folder.tensorboard) if settings.tensorboard and ranks.first else None,
        log_interval=settings.log_interval,
        epoch_lines=task.epoch_lines,
        best_figure=task.best_figure,
        scoring=(task.recipe or Recipe).scoring,
        warmup_flag=parser.spelled('warmup_epochs' if 'warmup_epochs' in settings else 'warmup_steps'),
        start_flag=parser.spelled('resume_from'),
    )
