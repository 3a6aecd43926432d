"""A flag and its typed field are declared together."""

from dataclasses import FrozenInstanceError, dataclass, fields

import pytest

import train_cifar
import train_detection
import train_imagenet
from training.config.fields import Group, Groups, SettingsParser, add_section, again, flag, group, switch, typed
from training.config.settings import Parser

SCRIPTS = (train_cifar, train_imagenet, train_detection)


@dataclass(frozen=True)
class Rate(Group):
    title = 'rate'

    lr: float = flag('--lr', type=float, default=0.1, help='the rate')
    quick: bool = switch('--quick', help='sooner')
    slope: float = 2.0


@dataclass(frozen=True)
class OtherRate(Rate):
    lr: float = again(Rate, 'lr', '--rate', default=0.5)
    quick: bool = False
    slope: float = flag('--slope', type=float, default=3.0, help='of the fall')


@dataclass(frozen=True)
class Some(Groups):
    rate: Rate = group(Rate)
    hidden: OtherRate = OtherRate()


@dataclass(frozen=True)
class Others(Groups):
    rate: OtherRate = group(OtherRate)


def test_a_plain_default_has_no_flag():
    parser = SettingsParser(Some, prog='train.py')
    assert list(parser.flags()) == ['lr', 'quick']
    settings = parser.parse(['--lr', '0.3', '--quick'])
    assert settings == Some(Rate(0.3, True, 2.0), OtherRate())
    assert settings.values() == {'lr': 0.3, 'quick': True}
    assert settings.changed('rate', lr=7.0).rate.lr == 7.0


def test_a_flag_is_declared_again_with_what_differs():
    parser = SettingsParser(Others, prog='train.py')
    assert [(name, parser.spelled(name)) for name in parser.flags()] == [('lr', '--rate'), ('slope', '--slope')]
    assert parser.parse([]) == Others(OtherRate(0.5, False, 3.0))
    assert 'the rate (default: 0.5)' in parser.format_help()


def test_a_script_takes_a_group_of_its_flags():
    parser = Parser(prog='predict.py')
    section = add_section(parser, OtherRate)
    section.add_argument('--json')
    values = vars(parser.parse_args(['--rate', '0.3', '--json', 'file']))
    assert typed(OtherRate, values) == OtherRate(0.3, False, 3.0)
    assert 'rate:\n  --rate' in parser.format_help()


def test_settings_stay_as_they_were_parsed():
    with pytest.raises(FrozenInstanceError):
        Some().rate.lr = 1.0


@pytest.mark.parametrize('script', SCRIPTS)
def test_every_flag_is_a_field_of_one_group(script):
    parser = script.make_parser()
    settings = parser.parse([])
    assert list(settings.values()) == list(parser.flags())
    groups = [{each.name for each in fields(one)} for one in settings.every()]
    for name in parser.flags():
        assert sum(name in names for names in groups) == 1, name
    assert max(map(len, groups)) <= 16
    assert all(type(one).__doc__ for one in settings.every())
