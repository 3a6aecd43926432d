"""Take a training step on any number of devices."""

import json
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon, nd

from training import seeds
from training.distributed.ranks import Ranks
from training.loss import Criterion, figures
from training.mixup import PLAIN, Mixture, mix
from training.optim.accumulation import Accumulation
from training.optim.gradient_norm import squared_norm
from training.optim.layout import restore_plain_layout
from training.optim.rollback import running_statistics
from training.optim.trainer import Trainer
from training.recompute import Recomputed

__all__ = ['TrainingStep', 'build_network', 'uses_random_numbers']


def build_network(
    make: Callable[[], Any],
    seed: int,
    contexts: Sequence[Any],
    size: int,
    run: Callable[[Any, Any], Any] = lambda net, image: net(image),
) -> Any:
    """Return the network that `make()` returns, with MSRA initial values that depend on nothing but the seed.

    All parameters have their shapes when it returns: one image of `size` pixels has gone through it, which `run(net,
    image)` sees to.
    """
    start = seeds.derive(seed, 'weights')
    mx.random.seed(start)
    np.random.seed(start)  # MXNet's orthogonal and Xavier initialisers of older blocks draw from here
    net = make()
    net.initialize(mx.init.MSRAPrelu(), ctx=list(contexts))
    for context in contexts:
        run(net, nd.zeros((1, 3, size, size), ctx=context))
    restore_plain_layout(net)
    return net


def uses_random_numbers(net: Any) -> bool:
    """Return whether some operator of the network (dropout and the like) draws random numbers when it trains."""
    with autograd.train_mode():
        graph = net(mx.sym.var('data'))
    operators = {node['op'].lower() for node in _nodes(graph)}
    return any(word in name for name in operators for word in ('dropout', 'random', 'sample', 'shuffle', 'bernoulli'))


def _nodes(graph: Any) -> List[Dict[str, Any]]:
    graph = mx.sym.Group(list(graph)) if isinstance(graph, (list, tuple)) else graph
    return json.loads(graph.tojson())['nodes']


class TrainingStep:
    """`step(data, labels, mixture)` does one update by the mean loss over the whole batch.

    `program` runs the network (see `training.precision`), `contexts` are its devices, each taking an equal
    slice of the batch, or of each `part` images of it, one part after the other. The gradient is cut to the length
    `clip_norm`, if above 0 (as `torch.nn.utils.clip_grad_norm_` cuts it). With several `ranks`, the batch is the union
    of theirs. Returns, without waiting for them, each device's figures (3,): sum of losses, correct predictions,
    squared norm of the gradients before the cut; with several ranks theirs together, and before the norm how many of
    them were `asked` to stop (4,).
    """

    def __init__(
        self,
        program: Any,
        trainer: Trainer,
        criterion: Criterion,
        contexts: Sequence[Any],
        ranks: Optional[Ranks] = None,
        clip_norm: float = 0.0,
        part: int = 0,
    ) -> None:
        self.program, self.trainer, self.criterion, self.contexts = (
            program,
            trainer,
            criterion,
            list(contexts),
        )
        self.ranks, self.clip_norm, self.part = ranks or Ranks(), clip_norm, part
        self._accumulations: List[Accumulation] = []
        self._gradients: Optional[List[List[Any]]] = None
        self._norms: List[Callable[[], Any]] = []
        self._reduction: Optional[Callable[[Any, bool], Any]] = None

    def __call__(
        self, data: np.ndarray, labels: np.ndarray, mixture: Mixture = PLAIN, scale: float = 1.0, asked: bool = False
    ) -> List[Any]:
        """Train on `data` (N, 3, H, W) float32, `labels` (N,), mixed as `mixture` says.

        The gradients are those of `scale` times the loss, and the update those of the loss.
        """
        size = self.part or len(labels)
        parts = [slice(start, start + size) for start in range(0, len(labels), size)]
        sums: List[Any] = []
        for part in parts:
            with autograd.record():
                losses, summed = self._forward(data[part], labels[part], mixture)
            scales = [nd.full(loss.shape, scale, ctx=loss.context) for loss in losses] if scale != 1.0 else None
            autograd.backward(losses, scales)
            if isinstance(self.program, Recomputed):
                self.program.backward()
            sums = [before + now for before, now in zip(sums, summed())] if sums else summed()
            if len(parts) > 1:
                self._accumulate(part is parts[0], part is parts[-1])
                if self.ranks.size > 1:
                    nd.waitall()  # norms that all ranks share can be in one pass at a time
        if self.ranks.size > 1:
            sums = [self._reduced(sums[0], asked)]
        norms = self._update(labels, scale)
        return [nd.concat(*pair, dim=0) for pair in zip(sums, norms)]

    def _forward(self, data: Any, labels: Any, mixture: Mixture) -> Tuple[List[Any], Callable[[], List[Any]]]:
        """Return the losses (n,) of each device's n images, recorded.

        And what gives the figures (2,) of each device.
        """
        losses, results, share = [], [], mixture.share
        slices = zip(self._split(data), self._split(labels))
        for images, targets in slices:
            mixed = mix(images, *mixture)
            logits = self.program(mixed)
            soft = [self.criterion.teacher(mixed)] if self.criterion.teacher else []
            losses.append(self.criterion(logits, targets, share, *soft))
            results.append((losses[-1], logits, targets))
        return losses, lambda: [figures(loss, logits.detach(), targets, share) for loss, logits, targets in results]

    def _accumulate(self, first: bool, last: bool) -> None:
        if not self._accumulations:
            self._accumulations = [Accumulation(gradients) for gradients in self._all_gradients()]
        for each in self._accumulations:
            each.add(first, last)

    def _losses(self, labels: Any) -> int:
        """Return how many losses a rank adds up, for the mean: one for each image."""
        return len(labels)

    def _update(self, labels: Any, scale: float) -> List[Any]:
        """Update by the mean over all images of all ranks; return the squared norms (1,) of the devices' gradients."""
        count = self._losses(labels) * self.ranks.size * scale
        if self.clip_norm:
            return self._update_clipped(count)
        self.trainer.step(count)
        norm = self.trainer.squared_norm
        return [self._norm(device) for device in range(len(self.contexts))] if norm is None else [norm]

    def _update_clipped(self, count: float) -> List[Any]:
        self.trainer.allreduce_grads()
        norms = [self._norm(device) for device in range(len(self.contexts))]
        for norm, gradients in zip(norms, self._all_gradients()):
            factor = nd.minimum(self.clip_norm / (nd.sqrt(norm) / count + 1e-6), 1.0)
            for gradient in gradients:
                own = factor.astype(gradient.dtype, copy=False).reshape((1,) * gradient.ndim)
                nd.broadcast_mul(gradient, own, out=gradient)
        self.trainer.update(count)
        return norms

    def _reduced(self, sums: Any, asked: bool) -> Any:
        if self._reduction is None:
            statistics = [parameter.list_data()[0] for parameter in running_statistics(self.program)]
            self._reduction = self.ranks.reduction(self._all_gradients()[0], statistics)
        return self._reduction(sums, asked)

    def _split(self, array: np.ndarray) -> List[Any]:
        if len(self.contexts) == 1 and self.contexts[0].device_type == 'cpu':
            # MXNet's own copy waits until all work before it is done, which then has nothing to go on with.
            return [nd.from_numpy(np.array(array, np.float32, order='C'))]
        return gluon.utils.split_and_load(np.asarray(array, np.float32), self.contexts, even_split=False)

    def _all_gradients(self) -> List[List[Any]]:
        """Return those of each device."""
        if self._gradients is None:
            self._gradients = [
                [p.grad(context) for p in self.trainer._params if p.grad_req != 'null'] for context in self.contexts
            ]
        return self._gradients

    def _norm(self, device: int) -> Any:
        """Return the squared norm (1,) of the gradients of a device."""
        if not self._norms:
            self._norms = [squared_norm(gradients) for gradients in self._all_gradients()]
        return self._norms[device]()
