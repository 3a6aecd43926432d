"""Write an attention unit, connect it as DCANet connects SE, and train it on handwritten digits.

    python examples/compose_a_unit.py

The unit gates each channel by its standard deviation over space, where SE uses the mean. Once registered under a name,
it is available on every backbone, alone and connected: `cifar_std_resnet8_v2`, `dca_std_mobilenet_v2`, ...
"""

from __future__ import annotations

import argparse
from typing import Any, Optional, Sequence

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon
from mxnet.gluon import nn
from sklearn.datasets import load_digits

import environment  # noqa: F401  (before MXNet is imported)
from model import count, get_model, register_attention
from model.attention.unit import ChannelUnit


@register_attention('std')
class Deviation(ChannelUnit):
    """``x * sigmoid(layer_norm(std(x)))``, from ``(N, C, H, W)`` to ``(N, C, H, W)``."""

    def __init__(self, channels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channels = channels
        with self.name_scope():
            self.norm = nn.LayerNorm(in_channels=channels)

    def extract(self, F: Any, x: Any) -> Any:
        """Return the map, and what the gates are computed from: the deviation of each channel, (N, C).

        Where units are connected, `ChannelUnit` passes on that of the gated map, which is the deviation times the gate.
        """
        centred = F.broadcast_sub(x, F.mean(x, axis=(2, 3), keepdims=True))
        return x, (F.sqrt(F.mean(F.square(centred), axis=(2, 3)) + 1e-5),)

    def transform(self, F: Any, deviation: Any) -> Any:
        """Return the gates, (N, C)."""
        return F.Activation(self.norm(deviation), act_type='sigmoid')


def digits() -> Any:
    """Return images (N, 3, 32, 32) and labels of scikit-learn's digits. The last 360 are for validation."""
    found = load_digits()
    images = np.kron(found.images / 16, np.ones((1, 4, 4)))[:, np.newaxis].repeat(3, axis=1)
    return images.astype('float32') * 2 - 1, found.target.astype('float32')


def main(argv: Optional[Sequence[str]] = None) -> float:
    """Train, and return the accuracy on the held-out images."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--model', default='cifar_dca_std_resnet8_v2', help='(default: %(default)s)')
    parser.add_argument('--epochs', type=int, default=4, help='(default: %(default)s)')
    args = parser.parse_args(argv)
    images, labels = digits()
    mx.random.seed(0)
    net = get_model(args.model, classes=10)
    net.initialize(mx.init.MSRAPrelu())
    net.hybridize(static_alloc=True)
    print(f'{args.model}: {count(net, (1, 3, 32, 32)).params:,} parameters')

    data = gluon.data.ArrayDataset(images[:-360], labels[:-360])
    loader = gluon.data.DataLoader(data, batch_size=32, shuffle=True, last_batch='discard')
    trainer = gluon.Trainer(net.collect_params(), 'nag', {'learning_rate': 0.1, 'momentum': 0.9, 'wd': 1e-4})
    criterion = gluon.loss.SoftmaxCrossEntropyLoss()
    accuracy = 0.0
    for epoch in range(args.epochs):
        if epoch == args.epochs - 1:
            trainer.set_learning_rate(0.01)
        for batch, truth in loader:
            with autograd.record():
                loss = criterion(net(batch), truth)
            loss.backward()
            trainer.step(len(batch))
        answers = net(mx.nd.array(images[-360:])).argmax(axis=1).asnumpy()
        accuracy = float((answers == labels[-360:]).mean())
        print(f'epoch {epoch}: {100 * accuracy:.1f} % of the held-out digits recognised')
    return accuracy


if __name__ == '__main__':
    main()
