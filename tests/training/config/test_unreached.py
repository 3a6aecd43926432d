"""Parts of the schedule that a run never reaches are reported at its start."""

import pytest

from training.config.cifar import CifarSettings
from training.config.detection import DetectionSettings
from training.config.fields import SettingsParser
from training.config.idle import unreached


def lines(argv, steps_per_epoch=10, kind=CifarSettings):
    settings = SettingsParser(kind, prog='train.py').parse(argv.split())
    return unreached(settings.schedule, settings.loss, steps_per_epoch)


@pytest.mark.parametrize(
    ('argv', 'said'),
    [
        ('--num-epochs 30', '--lr-decay-epoch 40,60: the learning rate never falls within the 30 epochs'),
        ('--num-epochs 1', '--lr-decay-epoch 40,60: the learning rate never falls within the one epoch'),
        ('--num-epochs 50', '--lr-decay-epoch 40,60: the falls at 60 are not within the 50 epochs'),
        ('--num-epochs 30 --lr-decay-period 30', '--lr-decay-period 30: the learning rate never falls'),
        ('--num-epochs 5 --lr-mode cosine --warmup-epochs 5', '--warmup-epochs 5: the learning rate only warms up'),
        ('--num-epochs 5 --lr-mode cosine --cycle-epochs 5', '--cycle-epochs 5: the cosine never restarts within'),
        ('--num-epochs 9 --lr-mode poly --mixup --mixup-off-epoch 9', '--mixup-off-epoch 9: mixup is off throughout'),
        ('--num-epochs 9 --lr-mode poly --cutmix-alpha 1 --mixup-off-epoch 9', '--mixup-off-epoch 9: CutMix is off'),
    ],
)
def test_told(argv, said):
    (line,) = lines(argv)
    assert line.startswith(said)


def test_a_warm_up_by_steps():
    argv = '--num-epochs 4 --lr-decay-epoch 2'
    (line,) = lines(argv, kind=DetectionSettings)
    assert line == '--warmup-steps 500: the learning rate only warms up within the 40 steps of this run'
    assert not lines(argv, 126, kind=DetectionSettings)


@pytest.mark.parametrize(
    'argv',
    [
        '--num-epochs 61',
        '--num-epochs 30 --lr-mode cosine',
        '--num-epochs 30 --lr-mode cosine --cycle-epochs 15',
        '--num-epochs 30 --lr-mode cosine --warmup-steps 299',
        '--num-epochs 31 --lr-decay-period 30',
        '--num-epochs 30 --lr-decay-epoch=',
        '--num-epochs 5 --lr-mode cosine --warmup-epochs 4',
        '--num-epochs 9 --lr-mode poly --mixup --mixup-off-epoch 8',
    ],
)
def test_nothing_to_tell(argv):
    assert lines(argv) == []
