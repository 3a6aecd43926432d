"""Flags, files of flags, saved settings, and what may change when a run is resumed."""

from dataclasses import fields

import pytest

from environment import UsageError, UserError
from training.checkpoints.resume import resumed_settings
from training.config.cifar import CifarSettings
from training.config.fields import SettingsParser
from training.config.flags import epoch_list, number
from training.config.run_folder import RunFolder
from training.config.saved import is_harmless, refuse_changes, save_settings
from training.config.settings import read_settings, read_yaml
from training.distributed.ranks import Ranks


@pytest.fixture
def parser():
    return SettingsParser(CifarSettings, prog='train.py')


@pytest.fixture
def yaml(tmp_path):
    def write(text):
        path = tmp_path / 'flags.yaml'
        path.write_text(text)
        return str(path)

    return write


def test_a_file_sets_flags_and_the_command_line_overrides_it(parser, yaml):
    path = yaml(
        'lr: 0.3\nnum_epochs: 7\n--wd: 0\nmixup: true\nno-wd: false\nlabel_smoothing: true\nlr-decay-epoch: [3, 5]'
    )
    settings = parser.parse(['--config', path, '--num-epochs', '9'])
    schedule, optimizer, loss = settings.schedule, settings.optimizer, settings.loss
    assert (schedule.lr, schedule.num_epochs, schedule.lr_decay_epoch) == (0.3, 9, '3,5')
    assert (optimizer.wd, optimizer.no_wd, loss.mixup, loss.label_smoothing) == (0, False, True, 0.1)
    assert schedule.decay_epochs == [3, 5]
    below = parser.parse(['--config', path], below=['--lr', '5', '--momentum', '0.5'])
    assert (below.schedule.lr, below.optimizer.momentum) == (0.3, 0.5)


def test_a_recipe_may_hold_augmentation(parser, yaml):
    settings = parser.parse(['--config', yaml('auto-augment: rand\nra-magnitude: 7\ncutmix-alpha: 1')])
    assert (settings.augmentation.auto_augment, settings.augmentation.ra_magnitude) == ('rand', 7)
    assert settings.loss.mixes
    # A word that YAML reads as a boolean.
    assert parser.parse(['--config', yaml('auto-augment: off')]).augmentation.auto_augment == 'off'


@pytest.mark.parametrize(
    ('text', 'complaint'),
    [
        ('num-epoch: 3', "sets 'num-epoch', which is not a flag; the nearest valid name is 'num-epochs'"),
        ('config: other.yaml', "sets 'config'"),
        ('mixup: 1', "the switch 'mixup' to 1; allowed: true, false"),
        ('lr: true', "'lr' to True; allowed: one value"),
        ('lr: {a: 1}', "'lr' to"),
        ('lr: fast', "--lr: 'fast' is not allowed; allowed: numbers above 0"),
        ('- lr', 'lines "flag: value"'),
    ],
)
def test_a_file_with_a_mistake(parser, yaml, text, complaint):
    with pytest.raises(UsageError) as error:
        parser.parse(['--config', yaml(text)])
    assert complaint in str(error.value)


NO_YAML = [
    'a: [',
    'num-epochs: 2020-13-45',
    'mixup: !!bool maybe',
    "seed: !!int ''",
    'wd: !!timestamp now',
    'lr: 0b_',
    '[' * 3000,
    '[' * 60_000,
    'a0: &a0 [x, x]\n' + ''.join(f'a{i}: &a{i} [{", ".join([f"*a{i - 1}"] * 9)}]\n' for i in range(1, 60)) + 'lr: *a59',
    'a: &a {lr: 1}\n<<: *a',
    'seed: ' + ':'.join(['1'] * 1_000_000),
    '9' * 60_000,
]


@pytest.mark.parametrize(
    ('content', 'complaint'),
    [
        (None, 'No such file'),
        (b'\xff', 'is not a YAML file'),
        *((text.encode(), 'x.yaml is not a YAML file: .*; fix it or omit --config') for text in NO_YAML),
    ],
)
def test_a_file_that_cannot_be_read(parser, tmp_path, content, complaint):
    path = tmp_path / 'x.yaml'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=complaint):
        parser.parse(['--config', str(path)])


@pytest.mark.parametrize('content', [b'a: [', b'lr: 2020-13-45', b'- lr', b'5', b'\xff'])
def test_damaged_settings_of_a_run_are_not_called_a_config(tmp_path, content):
    path = tmp_path / 'settings.yaml'
    path.write_bytes(content)
    folder, parser = RunFolder(tmp_path), SettingsParser(CifarSettings, prog='train.py')
    with pytest.raises(UserError, match=r'settings\.yaml .*; restore it, or start again with another --save-dir$'):
        resumed_settings(parser, parser.parse(['--resume']), [], folder, None, Ranks())


@pytest.mark.parametrize(
    ('argv', 'complaint'),
    [
        (['--num-epoch', '3'], 'there is no flag --num-epoch; the nearest flag is --num-epochs'),
        (['--lr', '0'], "--lr: '0' is not allowed; allowed: numbers above 0"),
        (['--lr', 'nan'], "--lr: 'nan' is not allowed"),
        (['--lr', 'inf'], "--lr: 'inf' is not allowed"),
        (['--momentum', '1'], 'numbers from 0 to below 1'),
        (['--num-epochs', '1.5'], 'whole numbers from 1'),
        (['--lr-mode', 'cosin'], "invalid choice: 'cosin'"),
        (['--lr-decay-epoch', '40,x'], 'epoch numbers separated by commas'),
        (['--lr'], 'expected one argument'),
        (['--config'], 'expected one argument'),
    ],
)
def test_wrong_usage_is_one_sentence(parser, argv, complaint):
    with pytest.raises(UsageError) as error:
        parser.parse(argv)
    assert complaint in str(error.value)
    assert '\n' not in str(error.value)
    assert error.value.status == 2


def test_types():
    assert number(int, 0)('3') == 3
    assert number(float, 0, 1)('1') == 1.0
    assert epoch_list(' 3, 5,') == '3,5'
    assert epoch_list('') == ''


def test_saved_settings_give_the_same_settings(parser, tmp_path):
    settings = parser.parse(['--lr', '0.3', '--mixup', '--label-smoothing', '--lr-decay-epoch', '', '--gpus', ''])
    save_settings(tmp_path / 'settings.yaml', parser, settings)
    path = str(tmp_path / 'settings.yaml')
    assert parser.parse(['--config', path]) == settings.changed('run', config=path)
    assert {'config', 'resume', 'json'}.isdisjoint(read_settings(str(tmp_path / 'settings.yaml')))


# For this parser's flags.
FREE = set(
    'save_dir save_plot_dir tensorboard checkpoint_interval keep save_period resume config logging_file log_interval '
    'json max_skipped no_report horovod num_data_workers data_dir plugin summary quiet verbose logger '
    'log_images results max_time weights_dir original_defaults'.split()
)


def test_only_what_determines_the_result_must_stay(parser):
    before = parser.parse([])
    assert {name for name in parser.flags() if is_harmless(name)} <= FREE
    assert is_harmless('save-frequency')
    assert not any(map(is_harmless, ('lr', 'wd', 'seed', 'model', 'option', 'batch-size', 'dtype')))
    for name, action in parser.flags().items():
        (held,) = (each.name for each in fields(before) if hasattr(getattr(before, each.name), name))
        now = before.changed(held, **{name: 'other'})
        if is_harmless(name):
            refuse_changes(parser, before, now)
        else:
            with pytest.raises(UsageError, match=f'{action.option_strings[-1]} is .other. and the run to resume'):
                refuse_changes(parser, before, now)
            refuse_changes(parser, before, now, free=[name])


def test_the_flags_of_a_command_line(parser):
    assert parser.given(['--lr', '0.1', '--wd=0', 'words', '--no-wd']) == {'lr', 'wd', 'no_wd'}


def test_help_tells_groups_and_defaults(parser):
    text = parser.format_help()
    for heading in ('learning rate:', 'optimizer:', 'loss:', 'machine:', 'run:'):
        assert heading in text
    assert '(default: 0.0001)' in text
    assert '(default: 0)' in text
    assert '(default: False)' not in text


def test_an_alias_of_one_value_is_allowed():
    assert read_yaml('lr: &rate 0.1\nwd: *rate') == {'lr': 0.1, 'wd': 0.1}
