"""The common interface of all backbones: features, stages, the classifier, and how to replace it."""

from __future__ import annotations

from typing import Any, List, NamedTuple, Sequence, Tuple

import mxnet as mx
from mxnet import gluon
from mxnet.gluon import nn

from model.layers.carry import split

__all__ = ['Classifier', 'FeatureInfo', 'lacking']


class FeatureInfo(NamedTuple):
    """Describes the output of a stage.

    Attributes:
        name: the stage's path in the network, ``'layer1'``, as in structural parameter names.
        channels: of its map.
        stride: pixels of the image per position of the map.
    """

    name: str
    channels: int
    stride: int


class Features(gluon.HybridBlock):
    """A network without its classifier, ``(N, 3, H, W) -> (N, C)``.

    Its blocks, and their names, are those of the network.
    """

    def __init__(self, net: Classifier) -> None:
        super().__init__()
        self._vectors = net.vectors
        self._active, self._flags = net._active, list(net._flags)  # hybridized as the network is
        for name, child in net._children.items():
            if child is not net.classifier:
                self.register_child(child, name)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self._vectors(F, x)


class Classifier(gluon.HybridBlock):
    """``(N, 3, H, W) -> (N, classes)``: layers before the stages, the stages, layers after them, and a dense layer.

    Subclasses set ``feature_info``, have ``stages`` and the dense layer, and implement :meth:`before_stages` and
    :meth:`after_stages`. Attention units may pass on state from stage to stage.

    Attributes:
        features: block ``(N, 3, H, W) -> (N, C)``, the input of the classifier. Keep it in a variable to call it
            often, because most networks create it again each time.
        stages: the stages in order, blocks ``(x, *carry) -> (x, *carry)``.
        classifier: the dense layer ``(N, C) -> (N, classes)``.
        feature_info: a :class:`FeatureInfo` for each of the stages.
    """

    #: Attribute of the dense layer; parameter files contain this name.
    classifier_name = 'fc'
    stages: Sequence[gluon.HybridBlock]
    feature_info: Sequence[FeatureInfo]

    @property
    def features(self) -> gluon.HybridBlock:
        return Features(self)

    @property
    def classifier(self) -> nn.Dense:
        return getattr(self, self.classifier_name)

    def classifier_parameters(self) -> List[str]:
        """Return the structural names of the classifier's parameters."""
        return [f'{self.classifier_name}.{name}' for name in self.classifier._collect_params_with_prefix()]

    def reset_classifier(self, classes: int) -> None:
        """Replace the classifier by a new one with ``classes`` outputs.

        If the old one has values, the new one is initialised on the same devices; otherwise it waits for
        ``initialize``, like the rest of the network. Raises ``ValueError`` if there would be no output.
        """
        if classes < 1:
            raise ValueError(f'classes is {classes}; allowed: whole numbers from 1')
        old = self.classifier
        new = nn.Dense(
            classes,
            in_units=old.weight.shape[1],
            use_bias=old.bias is not None,
            dtype=old.weight.dtype,
            weight_initializer=old.weight.init,
            prefix=old.prefix,
        )
        if old.bias is not None:
            new.bias.init = old.bias.init
        if old.weight._data is not None:
            new.initialize(mx.init.MSRAPrelu(), ctx=old.weight.list_ctx())
        if self._active:
            new.hybridize(**dict(self._flags))
        setattr(self, self.classifier_name, new)

    def before_stages(self, F: Any, x: Any) -> Any:
        """Return the input of the first stage, for images ``x`` (N, 3, H, W)."""
        raise TypeError(f'{type(self).__name__} has no before_stages')

    def after_stages(self, F: Any, x: Any) -> Any:
        """Return the vectors (N, C) of the last stage's map ``x``."""
        raise TypeError(f'{type(self).__name__} has no after_stages')

    def vectors(self, F: Any, x: Any) -> Any:
        """Return the input of the classifier, (N, C), for images ``x`` (N, 3, H, W)."""
        x, carry = self.before_stages(F, x), ()
        for stage in self.stages:
            x, carry = split(stage(x, *carry))
        return self.after_stages(F, x)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.classifier(self.vectors(F, x))


_OUTSIDE = ('features', 'stages', 'classifier', 'reset_classifier', 'feature_info')


def lacking(net: gluon.Block) -> Tuple[str, ...]:
    """Return which parts of a backbone's interface a network lacks."""
    return tuple(name for name in _OUTSIDE if name not in vars(net) and not hasattr(type(net), name))
