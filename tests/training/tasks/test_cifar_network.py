"""The original's network flags, and what they stand for."""

import pytest

from environment import UsageError
from model import count, get_model
from train_cifar import make_parser
from training.tasks.cifar import chosen_network


def network(text):
    return chosen_network(make_parser().parse(text.split()).network, classes=10)


@pytest.mark.parametrize(
    ('flags', 'name', 'options'),
    [
        (
            '--model atac --act-type ChaATAC --useReLU --r 2 --blocks 3',
            'cifar_atac_resnet20_v2',
            {'act_layers': 4, 'act_reduction': 2, 'act_relu': True, 'act_global': False},
        ),
        (
            '--model atac --act-type ChaATAC --useGlobal --r 4 --blocks 1 --act-layers 2',
            'cifar_atac_resnet8_v2',
            {'act_layers': 2, 'act_reduction': 4, 'act_relu': False, 'act_global': True},
        ),
        (
            '--model atac --act-type selu --blocks 5 --drop-rate 0.3',
            'cifar_resnet32_v2',
            {'act_layers': 4, 'act_type': 'selu', 'final_drop': 0.3},
        ),
        (
            '--model atac --act-type SpaATAC --useReLU --blocks 2',
            'cifar_resnet14_v2',
            {'act_layers': 4, 'act_type': 'atac_spatial', 'act_relu': True},
        ),
        ('--model cifar_atac_resnet20_v2', 'cifar_atac_resnet20_v2', {}),
        (
            '--model cifar_resnet20_v2 --act-type xUnit --act-layers 1',
            'cifar_resnet20_v2',
            {'act_type': 'xunit', 'act_layers': 1},
        ),
        (
            '--model atac_resnet18_v1b --r 8 --useGlobal --useReLU',
            'atac_resnet18_v1b',
            {'act_reduction': 8, 'act_global': True, 'act_relu': True},
        ),
    ],
)
def test_what_the_flags_stand_for(flags, name, options):
    assert network(flags) == (name, {'classes': 10, **options})
    get_model(name, classes=10, **options)


@pytest.mark.parametrize(
    ('flags', 'parameters'),
    [
        ('--act-type relu --blocks 3', 272282),
        ('--act-type ChaATAC --useReLU --r 2 --blocks 3', 306858),
        ('--act-type ChaATAC --useReLU --r 2 --blocks 3 --act-layers 1', 276570),
        ('--act-type ChaATAC --useReLU --r 16 --blocks 3', 277808),
        ('--act-type ChaATAC --useReLU --r 2 --blocks 5', 524138),
    ],
)
def test_parameter_counts_of_the_original(flags, parameters):
    chosen = network(f'--model atac {flags}')
    assert count(get_model(chosen.name, **chosen.options), (1, 3, 32, 32)).params == parameters


@pytest.mark.parametrize(
    ('flags', 'complaint'),
    [
        ('', '--model is missing; name a network such as cifar_atac_resnet20_v2'),
        ('--model se', "--model: se: 'se' is not a backbone"),
        ('--model atac', '--blocks is 0; allowed: 1 and above'),
        ('--model atac --blocks 3', '--act-type is missing'),
        (
            '--model atac --blocks 3 --act-type ChaATAK',
            "--act-type: unknown activation 'ChaATAK'; did you mean ChaATAC",
        ),
        ('--model atac --blocks 3 --act-type ChaATAC', '--r is -1; allowed: 1 and above'),
        ('--model atac --blocks 3 --act-type ChaATAC --r 0', '--r is 0; allowed'),
        ('--model cifar_resnet20_v2 --r 0', '--r is 0; allowed'),
        (
            '--model cifar_resnet20_v2 --blocks 3',
            '--blocks 3 belongs to --model atac; cifar_resnet20_v2 names its depth',
        ),
        ('--model cifar_resnet21_v2', '--model: cifar_resnet21_v2 has no whole number of blocks'),
    ],
)
def test_what_died_in_the_original_is_one_sentence_here(flags, complaint):
    with pytest.raises(UsageError) as error:
        network(flags)
    assert complaint in str(error.value)
