"""--option: what it passes to get_model, how often it may be given, and its errors."""

import pytest

import train_cifar
import train_imagenet
from environment import UsageError
from training.config.saved import resolved
from training.tasks.cifar import CifarTask
from training.tasks.imagenet import ImagenetTask

SCRIPTS = {
    'cifar': (train_cifar.make_parser, CifarTask, ['--model', 'cifar_dca_se_resnet11bn_v1']),
    'imagenet': (train_imagenet.make_parser, ImagenetTask, ['--model', 'dca_se_resnet50_v1b']),
}


@pytest.fixture(params=SCRIPTS)
def script(request):
    return SCRIPTS[request.param]


def options(script, *flags):
    make_parser, task, model = script
    return task(make_parser().parse([*model, *flags])).choose(7).options


def test_values_are_yaml(script):
    assert options(script) == {'classes': 7}
    assert options(script, '--option', 'adapter=bottleneck,reduction=8') == {
        'classes': 7,
        'adapter': 'bottleneck',
        'reduction': 8,
    }
    assert options(script, '--option', 'reduction=[8, 16],merge_bias=false') == {
        'classes': 7,
        'reduction': [8, 16],
        'merge_bias': False,
    }


def test_the_last_of_a_key_counts_and_repeating_changes_nothing():
    parser = train_cifar.make_parser()
    once = parser.parse(['--option', 'a=1,b=2'])
    assert once.network.option == 'a=1,b=2'
    assert parser.parse(['--option', 'a=3', '--option', 'b=2', '--option', 'a=1']).network.option == 'a=1,b=2'
    # As in a resumed run, which reads the settings that it began with and may be given the flags again.
    below = parser.argv_from(resolved(parser, once), 'settings.yaml')
    assert parser.parse(['--option', 'b=2'], below=below) == once
    assert (
        parser.parse([], below=parser.argv_from(resolved(parser, parser.parse([])), 'settings.yaml')).network.option
        == ''
    )


def test_lists_in_yaml_files_are_several(tmp_path):
    (tmp_path / 'recipe.yaml').write_text('option: [adapter=bottleneck, reduction=8]\n')
    settings = train_cifar.make_parser().parse(['--config', str(tmp_path / 'recipe.yaml'), '--option', 'reduction=4'])
    assert settings.network.option == 'adapter=bottleneck,reduction=4'


@pytest.mark.parametrize('text', ['adapter', '=1', 'adapter=', 'a b=1', 'reduction=8,adapter='])
def test_what_is_no_pair(script, text):
    with pytest.raises(UsageError, match='--option: .* is not allowed; give KEY=VALUE, such as'):
        options(script, '--option', text)


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('classes=5', 'classes follows from the other flags'),
        ('colour=red', "takes no argument 'colour'"),
        ('adapter=wide', "adapter is 'wide'"),
        ('adapter=[', r"'\[' is not a number"),
        ('adapter=2020-13-45', "'2020-13-45' is not a number"),
    ],
)
def test_what_the_network_does_not_take(script, text, words):
    with pytest.raises(UsageError, match=words):
        options(script, '--option', text)


@pytest.mark.parametrize('flag', ['--mean', '--std'])
@pytest.mark.parametrize('text', ['0.5', '0.1,0.2', '0,0,x', '-1,0,0', '1,1,1,1'])
def test_three_numbers_for_the_channels(flag, text):
    with pytest.raises(UsageError, match=f'{flag}: .* (is not allowed|are)'):
        train_cifar.make_parser().parse([f'{flag}={text}'])


def test_no_standard_deviation_is_0():
    assert train_cifar.make_parser().parse(['--mean', '0, 0,0']).data.mean == '0,0,0'
    with pytest.raises(UsageError, match='--std'):
        train_cifar.make_parser().parse(['--std', '1,0,1'])
