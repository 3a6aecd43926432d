"""Weights & Biases and MLflow, if installed: a run there for each run here.

Their own settings say where and as whom: WANDB_PROJECT, WANDB_MODE, MLFLOW_TRACKING_URI and so on.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, List, Mapping, Optional

from common.console import quiet

__all__ = ['Mlflow', 'Wandb']


class Wandb:
    """Figures and pictures for a run of Weights & Biases, which is named like the run's folder.

    `run` is its id; with the id of an earlier start that run is continued.
    """

    def __init__(self, project: str, folder: Path, settings: Mapping[str, Any], run: Optional[str]) -> None:
        import wandb

        if quiet():
            os.environ.setdefault('WANDB_SILENT', 'true')
        self._wandb = wandb
        self._run = wandb.init(
            project=os.environ.get('WANDB_PROJECT', project),
            name=folder.resolve().name,
            dir=str(folder),
            config=dict(settings),
            id=run,
            resume='allow',
        )
        self.run = str(self._run.id)

    def figures(self, step: int, figures: Mapping[str, float]) -> None:
        """Log them under their tags."""
        self._run.log(dict(figures), step=step)

    def picture(self, step: int, tag: str, pixels: Any) -> None:
        """Log pixels (H, W, 3) uint8."""
        self._run.log({tag: self._wandb.Image(pixels)}, step=step)

    def close(self, finished: bool) -> None:
        """End the run; one that was stopped may be gone on with."""
        self._run.finish(exit_code=0 if finished else 1)


class Mlflow:
    """Figures and pictures to a run of MLflow, in the experiment `project`; `run` as for `Wandb`.

    Figures are sent many at once: a step must not wait for a server.
    """

    AT_ONCE, LONGEST = 300, 500  # metrics of a request; characters of a parameter that every release takes

    def __init__(self, project: str, folder: Path, settings: Mapping[str, Any], run: Optional[str]) -> None:
        import mlflow
        from mlflow.entities import Metric

        self._mlflow, self._metric = mlflow, Metric
        if 'MLFLOW_EXPERIMENT_NAME' not in os.environ and 'MLFLOW_EXPERIMENT_ID' not in os.environ:
            mlflow.set_experiment(project)
        started = mlflow.start_run(run_id=run, run_name=folder.resolve().name)
        self.run = str(started.info.run_id)
        if run is None:
            mlflow.log_params({name: str(value)[: self.LONGEST] for name, value in settings.items()})
        self._waiting: List[Any] = []

    def figures(self, step: int, figures: Mapping[str, float]) -> None:
        """Log them under their tags, soon."""
        now = int(1000 * time.time())
        self._waiting += [self._metric(tag, float(value), now, step) for tag, value in figures.items()]
        if len(self._waiting) >= self.AT_ONCE:
            self._send()

    def picture(self, step: int, tag: str, pixels: Any) -> None:
        """Store pixels (H, W, 3) uint8 as PNG."""
        self._mlflow.log_image(pixels, f'{tag}/step-{step}.png')

    def close(self, finished: bool) -> None:
        """Send what is left, and end the run."""
        self._send()
        self._mlflow.end_run('FINISHED' if finished else 'KILLED')

    def _send(self) -> None:
        sent, self._waiting = self._waiting, []
        if sent:
            self._mlflow.MlflowClient().log_batch(self.run, metrics=sent)
