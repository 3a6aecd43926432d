"""The end of a run, besides its own files: its entry in a table, and its summary on the screen."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from common.console import say
from common.text import printable
from environment import UserError
from model.count import count_params
from training.logging.closing import closing_lines
from training.logging.outputs import Outputs
from training.logging.results import enter_result, results_file
from training.task import Task

__all__ = ['enter', 'tell']


def enter(task: Task, outputs: Outputs, net: Any, figures: Mapping[str, Any]) -> None:
    """Enter the run in the table of runs; if that fails, the log says so."""
    folder, scoring = outputs.folder.path, task.scoring
    path = results_file(task.settings.telling.results, folder)
    if path is None:
        return
    row = {
        **figures,
        'metric': scoring.title,
        'best': figures[scoring.best_column],
        'last': figures[scoring.best],
        'parameters': count_params(net),
        'params': figures['best_params'],
    }
    try:
        enter_result(path, folder, row)
    except UserError as error:
        outputs.log(f'{error}; the run itself is complete')


def tell(task: Task, outputs: Outputs, rows: Sequence[Mapping[str, Any]], figures: Mapping[str, Any]) -> None:
    """Print the result of the run, and commands that use it; the log already has the figures."""
    plugins = [word for path in task.settings.network.plugin or () for word in ('--plugin', path)]
    with outputs.log.console():
        for line in closing_lines(outputs.folder, figures, rows, task.scoring, task.scored_on(), plugins):
            say(printable(line))
