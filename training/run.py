"""Take a run from its settings to its last line: check, load, build, train."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any, Dict, List, Optional, Sequence, Type

from common.console import heed, say, timed
from common.files import check_writable, write_json
from training.built import Built, build
from training.checked import Checked, check, hold
from training.config.fields import SettingsParser
from training.config.flags import seconds
from training.config.groups import Settings
from training.distributed.horovod import join, require_flag
from training.distributed.signals import StopRequest
from training.ending import enter, tell
from training.logging.outputs import tell_versions
from training.loop import train
from training.task import RunData, Task, TrainedNetworks

__all__ = ['run']

CLASSES = 1000  # of the layers that are printed before the data are known
STOPPED = 143  # the status of a rank that stops because another was asked to


def run(
    parser: SettingsParser,
    settings: Settings,
    argv: List[str],
    kind: Type[Task],
    trained: Optional[TrainedNetworks] = None,
) -> int:
    """Train as the settings say; the exit status: 0, or 130, 143 or 129 after SIGINT, SIGTERM or SIGHUP.

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
            why = f'stopped{stop.by}' if asked else f'stopped after {limit} (--max-time)'
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
