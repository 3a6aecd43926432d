"""Nesterov's accelerated gradient, as the originals train, or plain momentum, over the trainable parameters."""

from typing import Any, List

from mxnet import gluon

__all__ = ['UNDECAYED', 'make_trainer', 'undecayed']

# Names of parameters that --no-wd leaves without weight decay: affine parameters of norms, and biases.
UNDECAYED = ('gamma', 'beta', 'bias')


def undecayed(net: Any) -> List[str]:
    """Structural names of the parameters without weight decay under `no_wd`."""
    return [name for name in net._collect_params_with_prefix() if name.endswith(UNDECAYED)]


def make_trainer(
    net: Any,
    lr: float,
    momentum: float,
    wd: float,
    no_wd: bool = False,
    multi_precision: bool = False,
    devices: int = 1,
    kind: str = 'nag',
) -> gluon.Trainer:
    """A `gluon.Trainer` with NAG or SGD, as `kind` says. Parameters whose gradient is off or whose `lr_mult` is 0
    stay as they are.

    `multi_precision` keeps float32 masters of float16 parameters. The trainer updates on the workers, so
    that its state can be read whatever the number of devices.
    """
    parameters = net._collect_params_with_prefix()
    if no_wd:
        for name in undecayed(net):
            parameters[name].wd_mult = 0.0
    # Frozen by lr_mult alone, a parameter would still drag its gradient and momentum along. One that several
    # blocks share is trained once.
    trainable = {id(p): p for p in parameters.values() if p.grad_req != 'null' and p.lr_mult != 0.0}
    settings = {'learning_rate': lr, 'momentum': momentum, 'wd': wd, 'multi_precision': multi_precision}
    kvstore = 'device' if devices > 1 else None
    return gluon.Trainer(list(trainable.values()), kind, settings, kvstore=kvstore, update_on_kvstore=False)
