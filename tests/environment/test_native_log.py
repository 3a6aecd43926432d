"""Lines that compiled code writes are suppressed by pattern, and no others."""

import os
import subprocess

import pytest

from environment.native_log import without_lines


def test_lines_are_left_out_by_pattern(capfd):
    with without_lines('noise [0-9]'):
        os.write(2, b'[12:00:00] noise 1\n')
        os.write(2, b'told\n')
        subprocess.run(['sh', '-c', 'echo noise 2 >&2; echo a child >&2'], check=True)
        assert capfd.readouterr().err == ''
    os.write(2, b'noise 3\n')
    assert capfd.readouterr().err == 'told\na child\nnoise 3\n'


def failing():
    with without_lines('noise'):
        os.write(2, b'noise\nwhy it failed, without an end of line')
        raise ValueError


def test_what_was_said_before_an_error_comes_out(capfd):
    descriptors = len(os.listdir('/proc/self/fd'))
    with pytest.raises(ValueError):
        failing()
    assert capfd.readouterr().err == 'why it failed, without an end of line'
    assert len(os.listdir('/proc/self/fd')) == descriptors
