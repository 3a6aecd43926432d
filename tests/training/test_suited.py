"""Settings that suit a user's own images: which are chosen, and that flags and files of flags override them."""

from types import SimpleNamespace

import pytest

import train_cifar
import train_imagenet
from data.classification.survey import Survey
from environment import UserError
from training import suited as module
from training.suited import suited
from training.tasks.cifar import CifarTask
from training.tasks.imagenet import ImagenetTask

SCRIPTS = {'cifar': (train_cifar, CifarTask), 'imagenet': (train_imagenet, ImagenetTask)}
CPU, GPU = (SimpleNamespace(device_type=kind) for kind in ('cpu', 'gpu'))


def survey(images=240, side=300, several=False):
    return Survey('photos', images, images // 4, tuple('abcde'), (images // 4,) * 5, ((side, side),), several)


def choose(script, flags='', found=None, devices=(CPU,)):
    module_, task = SCRIPTS[script]
    parser, argv = module_.make_parser(), flags.split()
    settings = parser.parse(argv)
    return suited(
        parser, settings, parser.stated(argv), found or survey(), devices, lambda asked: task(asked).choose(5)
    )


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*arguments):
        raise UserError('timm:x cannot be downloaded (no network)')

    monkeypatch.setattr('model.parameters.by_name.converted', refuse)


def test_small_images_start_from_the_parameters_that_come_with_the_project():
    chosen = choose('cifar')
    values = chosen.values
    assert values['model'] == 'cifar_se_resnet20_v2'
    assert values['use_pretrained'] == 'best'
    assert (values['input_size'], values['batch_size'], values['num_epochs']) == (32, 8, 20)
    assert (values['lr'], values['lr_mode'], values['warmup_epochs']) == (0.005, 'cosine', 1)
    assert len(chosen.lines) == len(values)
    (line,) = [line for line in chosen.lines if ' --num-epochs ' in line]
    assert line == 'chosen for these images: --num-epochs 20: 4,800 images in all, of 240'


def test_what_is_stated_stays(tmp_path):
    flags = '--model cifar_resnet8_v2 --num-epochs 3 --lr 0.3 --use-pretrained off'
    values = choose('cifar', flags).values
    assert not {'model', 'num_epochs', 'lr', 'use_pretrained', 'warmup_epochs'} & set(values)
    config = tmp_path / 'flags.yaml'
    config.write_text('use-pretrained: false\nnum_epochs: 3\nbatch-size: 16\n')
    values = choose('cifar', f'--config {config}').values
    assert not {'use_pretrained', 'num_epochs', 'batch_size'} & set(values)
    assert values['lr'] == 0.025  # for steps of 16 images, from scratch


def test_without_a_network_it_starts_from_nothing_and_says_so():
    chosen = choose('imagenet')
    assert 'use_pretrained' not in chosen.values
    assert chosen.values['model'] == 'resnet18_v1b'
    assert chosen.values['min_area'] == 0.5
    assert 'timm:x cannot be downloaded (no network); this run starts from nothing' in chosen.lines
    assert any(line.endswith('from nothing') and ' --lr 0.013:' in line for line in chosen.lines)


@pytest.mark.parametrize(
    ('script', 'flags', 'side', 'size'),
    [
        ('cifar', '--model resnet18_v1b', 500, 224),
        ('imagenet', '--model resnet18_v1b', 100, 128),
        ('imagenet', '--model resnet18_v1b', 40, 64),
        ('imagenet', '--model cifar_resnet8_v2', 500, 32),
    ],
)
def test_a_network_for_large_images_is_fed_no_small_ones(script, flags, side, size):
    assert choose(script, flags, survey(side=side)).values['input_size'] == size
    assert 'input_size' not in choose(script, f'{flags} --input-size 48', survey(side=side)).values


def test_size_of_the_set_and_of_the_machine():
    values = choose('imagenet', '', survey(100_000), [GPU] * 2).values
    assert values['model'] == 'se_resnet50_v1b'
    assert (values['batch_size'], values['lr']) == (64, 0.2)
    assert values['num_epochs'] == 30
    assert 'min_area' not in values
    tiny = choose('cifar', '', survey(5), [CPU] * 2).values
    assert tiny['batch_size'] == 2


def test_several_labels_are_not_smoothed():
    assert 'label_smoothing' in choose('cifar').values
    assert 'label_smoothing' not in choose('cifar', '', survey(several=True)).values


def test_every_choice_is_a_flag_of_its_script():
    for script, (module_, _) in SCRIPTS.items():
        assert set(choose(script).values) <= set(module_.make_parser().flags())
    assert module.AREAS == tuple(sorted(module.AREAS))
