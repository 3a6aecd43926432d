"""Training of classifiers: what train_cifar.py and train_imagenet.py have in common."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np

import kernels
from environment import UsageError, UserError
from environment.memory import return_freed_memory
from model import count, get_model, input_size
from model.hybridization import apply_mode
from model.zoo import activation_of, unread_options
from training.checkpoints.start import preparation
from training.class_loss import BinaryFocalLoss, BinaryLoss, FocalLoss, SoftmaxLoss
from training.class_weights import class_weights, weights_line
from training.config.class_loss import ClassLossSettings
from training.config.fields import SettingsParser
from training.config.machine import MachineSettings
from training.config.settings import refuse
from training.distributed.ranks import Ranks
from training.evaluate import classification_scores
from training.evaluate_several import several_scores
from training.hybridization import trace_for_training
from training.logging.metrics import CLASSIFICATION, SEVERAL, Scoring
from training.logging.outputs import Outputs
from training.logging.text_log import epoch_line, several_line
from training.loop import Job
from training.loss import Criterion
from training.recompute import Recomputed
from training.report.classification import ClassificationReport
from training.report.findings import find
from training.report.run_report import RunReport
from training.report.several import SeveralReport, find_several
from training.step import TrainingStep, build_network, uses_random_numbers
from training.task import Network, RunData, Task
from training.teacher import load_teacher

__all__ = ['Classification']

# Options of activation units, and the fields of the flags that set them.
UNITS = {'act_reduction': 'r', 'act_global': 'useGlobal', 'act_relu': 'useReLU'}


def check_loss(asked: ClassLossSettings, several: bool) -> None:
    """Raise `UsageError` for a loss that is not for such labels, of which an image has one or `several`."""
    if several and asked.loss == 'softmax':
        raise UsageError('--loss softmax is for one label an image, and here are several; allowed: bce, focal')
    for flags, why in asked.idle_with(several):
        for name in flags:
            if getattr(asked, name) != getattr(type(asked), name):
                raise UsageError(f'--{name.replace("_", "-")} is for {why}; leave it out')


def loss_of(
    asked: ClassLossSettings, weights: Optional[Sequence[float]], several: bool
) -> Optional[Callable[[Any, Any], Any]]:
    """Return the loss that the flags ask for; None for the plain softmax's. `several`: labels an image."""
    if asked.loss == 'focal':
        gamma = asked.focal_gamma
        return BinaryFocalLoss(gamma, asked.bce_sum, weights) if several else FocalLoss(gamma, weights)
    if asked.loss == 'bce' or several:
        return BinaryLoss(asked.bce_target_threshold, asked.bce_sum, weights)
    return None if weights is None else SoftmaxLoss(weights)


def _check_recompute(machine: MachineSettings) -> None:
    """Raise `UsageError` for what --recompute cannot be combined with."""
    if not machine.recompute:
        return
    if machine.mode == 'static':
        raise UsageError('--mode static keeps the memory that --recompute gives back; take --mode hybrid')
    if machine.dtype != 'float32':
        raise UsageError(f'--recompute trains in float32, and --dtype is {machine.dtype}; leave one of them out')
    if machine.sync_bn:
        raise UsageError(
            '--sync-bn updates running statistics in the forward pass, which --recompute makes twice; leave one of '
            'them out'
        )


class Classification(Task):
    """One label for each image and top-1 and top-5 accuracy, or several and average precision, as the data have."""

    teacher: Any = None
    class_weights: Optional[List[float]] = None

    @property
    def several(self) -> bool:
        """Return whether an image may have several labels, or none."""
        return self.data.train.dataset.several

    @property
    def scoring(self) -> Scoring:
        return SEVERAL if self.several else CLASSIFICATION

    @property
    def manifest(self) -> Mapping[str, Any]:
        """Return what goes into the manifests of parameters."""
        return {'labels': 'several'} if self.several else {}

    def epoch_lines(self, row: Mapping[str, Any]) -> List[str]:
        return [several_line(row)] if self.several else self.accuracy_lines(row)

    def accuracy_lines(self, row: Mapping[str, Any]) -> List[str]:
        """Return what the text log says of an epoch on images of one label each."""
        return [epoch_line(row)]

    @property
    def determined(self) -> Mapping[str, Any]:
        return {} if self.class_weights is None else {'class weights': self.class_weights}

    def build(self, network: Network) -> Any:
        return get_model(network.name, **network.options)

    def check_flags(self, parser: SettingsParser, argv: Sequence[str], network: Network) -> None:
        given, name, options = parser.given(argv), network.name, network.options
        _check_recompute(self.settings.machine)
        for option in unread_options(name, options):
            field = UNITS.get(option)
            if field in given or 'option' in given:
                flag = parser.spelled(field) if field in given else f'--option {option}={options[option]}'
                raise UsageError(f'{flag} is for other activation units than those of {name}; leave it out')
        if 'act_layers' in given and activation_of(name, options) == 'relu':
            why = f'units in the place of ReLU, and {name} has ReLU everywhere'
            refuse(parser, self.settings.values(), ['act_layers'], why)

    def describe(self, data: RunData, network: Network) -> List[str]:
        name, size = network.name, data.preprocessing.size
        try:
            cost = count(self.build(network), (1, 3, size, size))
        except (mx.MXNetError, ValueError) as error:
            raise UserError(
                f'{name} cannot take images of {size} x {size} pixels; it is made for {input_size(name)}'
            ) from error
        return [f'{name}: {cost.params:,} parameters, {cost.macs / 1e6:.1f} million multiply-adds per image']

    def preparation(self, network: Network, log: Optional[Callable[[str], None]]) -> Optional[Callable[[Any], None]]:
        known = self.data.preprocessing
        return preparation(self.settings, network.name, network.options, self.devices, log, known)

    def assign(self, data: RunData, network: Network, log: Optional[Callable[[str], None]]) -> None:
        super().assign(data, network, log)
        loss, labels = self.settings.loss, data.train.dataset.labels
        check_loss(loss, self.several)
        if loss.class_weights is not None:
            self.class_weights = class_weights(loss.class_weights, labels, data.class_names)
            self.notes.append(weights_line(self.class_weights, data.class_names))
        distillation = self.settings.distillation
        if distillation.teaches:
            if self.several:
                raise UsageError('--teacher needs images with one label each, and these have several; leave it out')
            dtype, load = self.settings.machine.dtype, self.trained.load
            self.teacher = load_teacher(
                distillation, dtype, self.devices, data.preprocessing, data.class_names, load_network=load
            )

    def new_network(self) -> Any:
        net = build_network(self.make, self.settings.machine.seed, self.devices, self.data.preprocessing.size)
        if self.prepare is not None:
            self.prepare(net)
        self.precision.prepare(net)
        return net

    def example(self, batch: int) -> Tuple[np.ndarray, np.ndarray]:
        random, size = np.random.Generator(np.random.PCG64(0)), self.data.preprocessing.size
        data = random.standard_normal((batch, 3, size, size), dtype=np.float32)
        shape = (batch, self.data.classes) if self.several else batch
        return data, random.integers(0, 2 if self.several else self.data.classes, shape)

    def random(self, net: Any) -> bool:
        return uses_random_numbers(net)

    def learner(self, net: Any, mode: str, ranks: Optional[Ranks] = None) -> TrainingStep:
        program = self.precision.program(net)
        apply_mode(program, mode)
        machine = self.settings.machine
        if machine.recompute:
            if not kernels.pool_memory():
                return_freed_memory()
            hybrid = mode != 'imperative'
            program = Recomputed(program, net, hybrid, uses_random_numbers(net), self.fuses)
        else:
            trace_for_training(program, mode, self.data.preprocessing.size, self.devices[0], self.fuses)
        loss = self.settings.loss
        kind = loss_of(loss, self.class_weights, self.several)
        criterion = Criterion(self.data.classes, loss.label_smoothing, self.teacher, kind)
        clip_norm = self.settings.gradient.clip_norm
        return TrainingStep(program, self.trainer(net), criterion, self.devices, ranks, clip_norm, self.part)

    def scores(self, job: Job, epoch: int) -> Dict[str, float]:
        return several_scores(job, epoch) if self.several else classification_scores(job, epoch)

    def report(self, common: Mapping[str, Any], job: Job, outputs: Outputs, stop: Callable[[], bool]) -> RunReport:
        data, device = self.data, self.devices[0]

        def explain(position: Any, examples: Sequence[Any]) -> List[List[Tuple[str, np.ndarray]]]:
            pixels, predicted = [each.pixels for each in examples], [each.predicted for each in examples]
            return self.trained.explain(outputs.folder.last, pixels, predicted, device)

        if self.several:
            return SeveralReport(
                **common,
                class_names=data.class_names,
                val_images=data.val_images,
                look=lambda: find_several(job.program, data.val, self.devices, data.preprocessing, stop=stop),
                explain=explain,
            )
        return ClassificationReport(
            **common,
            class_names=data.class_names,
            val_images=data.val_images,
            look=lambda: find(job.program, data.val, self.devices, data.preprocessing, data.classes, stop=stop),
            explain=explain,
        )
