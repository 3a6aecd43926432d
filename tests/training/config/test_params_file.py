"""A flag for parameters takes the folder of a run in place of a file."""

import os

import pytest

from environment import UserError
from training.config.flags import params_file


def make(folder, *names):
    for age, name in enumerate(names):
        path = folder / name
        path.write_bytes(b'')
        os.utime(str(path), (1000 + age, 1000 + age))


def test_a_run_folder_stands_for_its_best_parameters(tmp_path):
    make(tmp_path, '0.9000-digits-net-1-best.params', '0.9500-digits-net-3-best.params', 'digits-net-4.params')
    assert params_file(str(tmp_path)) == str(tmp_path / '0.9500-digits-net-3-best.params')


def test_one_file_of_a_folder_needs_no_name(tmp_path):
    make(tmp_path, 'seed-0.params', 'seed-0.json')
    assert params_file(str(tmp_path)) == str(tmp_path / 'seed-0.params')


def test_a_file_stays_as_it_is(tmp_path):
    for name in ('x.params', str(tmp_path / 'missing.params')):
        assert params_file(name) == name


@pytest.mark.parametrize(('names', 'told'), [((), 'no .params file'), (('a.params', 'b.params'), 'a.params, b.params')])
def test_what_is_not_clear_is_told(names, told, tmp_path):
    make(tmp_path, *names)
    with pytest.raises(UserError, match=told):
        params_file(str(tmp_path))
