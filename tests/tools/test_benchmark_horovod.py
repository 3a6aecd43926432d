"""tools/benchmark_horovod.py: what it says where it cannot measure; measuring takes root, and minutes."""

import os

import pytest


@pytest.mark.parametrize('flags', ['--bandwidth 0', '--delay -1', '--rounds 0'])
def test_wrong_usage(flags, in_process):
    code, _, err = in_process('benchmark_horovod.py', *flags.split())
    assert (code, err.count('\n')) == (2, 1)


def test_a_system_without_the_commands(tmp_path, monkeypatch, in_process):
    pytest.importorskip('horovod', reason='Horovod is not installed (bash scripts/setup.sh --horovod)')
    program = tmp_path / 'ip'
    program.write_text('#!/bin/sh\necho Operation not permitted\nexit 1\n')
    program.chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}{os.pathsep}{os.environ["PATH"]}')
    code, _, err = in_process('benchmark_horovod.py')
    assert (code, err.count('\n')) == (1, 1)
    assert 'ip netns add' in err
    assert 'Operation not permitted' in err
