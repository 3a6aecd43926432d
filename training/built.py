"""The step of a run that makes what is trained: network, optimizer, outputs, as they were where it is resumed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Sequence

from common.files import check_writable, make_folder
from model.plugins import names_of
from training.checked import Checked
from training.checkpoints.position import Position
from training.checkpoints.resume import (
    begin,
    changed_settings,
    check_determined,
    check_position,
    finished,
    new_settings,
)
from training.checkpoints.start import optimizer_state
from training.config.idle import unreached
from training.config.run_folder import dataset_word
from training.config.saved import resolved, save_settings
from training.distributed.arithmetic import arithmetic, without_kernels
from training.logging.loggers import Loggers, make_loggers
from training.logging.outputs import NoOutputs, Outputs, command_line, versions
from training.logging.text_log import RunLog
from training.loop import Job
from training.mode import resolve_mode
from training.task import Network, RunData, Task

__all__ = ['Built', 'build']


@dataclass(frozen=True)
class Built:
    """A run that is ready to train, with lines on its data and network."""

    job: Job
    outputs: Outputs
    position: Position
    described: Sequence[str]


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
    # Whatever does not fit is reported before a folder is created.
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
