"""The report of a run, from what the run has at hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable, List, Mapping, Sequence, Tuple

import numpy as np

from detection.report import DetectionReport, found_and_annotated
from inference.network import load_network
from training.config.settings import Parser
from training.logging.metrics import DETECTION
from training.logging.outputs import Outputs
from training.loop import Job
from training.report.classification import ClassificationReport
from training.report.findings import Example, find
from training.report.run_report import RunReport
from training.task import RunData

__all__ = ['explained', 'make_report']

HEIGHT = 160  # of the pictures of an explanation, in pixels


def make_report(
    parser: Parser,
    data: RunData,
    job: Job,
    outputs: Outputs,
    facts: Mapping[str, Any],
    stop: Callable[[], bool],
) -> RunReport:
    """A report that costs nothing until it is written. `facts` go before the settings."""
    defaults = {action.option_strings[-1].lstrip('-'): action.default for action in parser.flags().values()}
    versions = ', '.join(f'{name} {version}' for name, version in outputs.manifest['versions'].items())
    facts = {
        'command': outputs.manifest['command'],
        **facts,
        'mode': outputs.state['mode'],
        'threads': outputs.state['arithmetic']['threads'],
        'versions': versions,
    }

    shared = {
        'folder': outputs.folder,
        'title': outputs.title,
        'settings': outputs.state['settings'],
        'defaults': defaults,
        'log': outputs.log,
        'facts': tuple(facts.items()),
    }
    context = job.contexts[0]
    if outputs.scoring is DETECTION:
        dataset = data.val.dataset
        return DetectionReport(
            **shared, look=lambda position: found_and_annotated(outputs.last_params(position), dataset, context)
        )
    return ClassificationReport(
        **shared,
        class_names=data.class_names,
        val_images=data.val_images,
        look=lambda: find(job.program, data.val, job.contexts, data.preprocessing, data.classes, stop=stop),
        explain=lambda position, examples: explained(outputs.last_params(position), examples, context),
    )


def explained(params: Any, examples: Sequence[Example], context: Any) -> List[List[Tuple[str, np.ndarray]]]:
    """For each example (what it is, picture (H, W, 3) uint8): the image, and by stage the heat of what was predicted.

    The network is built anew from the parameters that the run has saved: in float32, and none that training goes on
    with.
    """
    from inference.explain import explain, overlay  # where it is needed, as it takes matplotlib

    network = load_network(params, ctx=context)
    as_they_are = replace(network.preprocessing, resize=None)  # the images have been cut already
    explanations = explain(
        network.net,
        [example.pixels for example in examples],
        as_they_are,
        network.class_names,
        classes=[example.predicted for example in examples],
    )
    return [
        [('image', example.pixels), *((name, overlay(each.pixels, heat, HEIGHT)) for name, heat in each.maps.items())]
        for example, each in zip(examples, explanations)
    ]
