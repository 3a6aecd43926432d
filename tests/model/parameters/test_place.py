"""A run's folder stands for its best parameters, wherever parameters are accepted."""

import os

import pytest

from environment import UserError
from model import get_model, load_params, read_manifest, save_params
from model.parameters.place import params_path


def touch(folder, *names):
    for age, name in enumerate(names):
        (folder / name).write_bytes(b'')
        os.utime(folder / name, (1000 + age, 1000 + age))


@pytest.mark.parametrize(
    ('names', 'chosen'),
    [
        (['best.params', 'last.params', '0.9-digits-net-3-best.params'], 'best.params'),
        (
            ['0.9500-digits-net-9-best.params', '0.9600-digits-net-3-best.params', 'z.params'],
            '0.9600-digits-net-3-best.params',
        ),
        (['0.9600-digits-net-3-best.params', 'last.params'], '0.9600-digits-net-3-best.params'),
        (['last.params', 'other.params'], 'last.params'),
        (['seed-0.params'], 'seed-0.params'),
    ],
)
def test_which_file_is_meant(tmp_path, names, chosen):
    touch(tmp_path, *names)
    assert params_path(tmp_path) == str(tmp_path / chosen)


def test_files_are_left_alone():
    for name in ('a.params', 'no/such/folder', 'cifar_resnet8_v2'):
        assert params_path(name) == name


@pytest.mark.parametrize(
    ('names', 'sentence'),
    [
        ([], 'is a folder without best parameters .it has no .params file.; give the path'),
        (['a.params', 'b.params'], 'it has a.params, b.params'),
        (['export.json', 'network-0000.params'], 'is an exported network and not a run'),
    ],
)
def test_folders_that_are_no_run(tmp_path, names, sentence):
    touch(tmp_path, *names)
    with pytest.raises(UserError, match=sentence):
        params_path(tmp_path)


def test_parameters_and_manifest_are_read_from_it(tmp_path):
    net, again = (get_model('cifar_resnet8_v2', classes=2) for _ in range(2))
    net.initialize()
    save_params(net, tmp_path / 'best.params', {'model': 'cifar_resnet8_v2'})
    load_params(again, tmp_path)
    assert (again.classifier.weight.data() == net.classifier.weight.data()).asnumpy().all()
    assert read_manifest(tmp_path)['model'] == 'cifar_resnet8_v2'
