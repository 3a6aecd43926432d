"""Make the settings of a run from values without their groups."""

from dataclasses import fields, replace

from training.config.cifar import CifarSettings
from training.config.optimizer import OptimizerSettings
from training.optim.optimizer import make_trainer


def settings_of(kind=CifarSettings, **values):
    """Return the defaults of a script's settings, except for these values."""
    settings = kind()
    for held in fields(settings):
        group = getattr(settings, held.name)
        own = {name: values.pop(name) for name in {each.name for each in fields(group)} & values.keys()}
        settings = replace(settings, **{held.name: replace(group, **own)})
    assert not values
    return settings


def trainer_of(net, lr, momentum, wd, kind='nag', devices=1, multi_precision=False, **more):
    """Call `make_trainer` with only an optimizer's settings."""
    settings = OptimizerSettings(optimizer=kind, momentum=momentum, wd=wd, **more)
    return make_trainer(net, settings, lr, multi_precision, devices)
