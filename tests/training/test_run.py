"""The order of a run: how its mode is settled."""

import argparse
import json
from types import SimpleNamespace

import pytest

from training import run
from training.config.run_folder import RunFolder
from training.distributed.ranks import Ranks
from training.logging.text_log import RunLog
from training.run import resolve_mode


@pytest.fixture
def settled(tmp_path, monkeypatch):
    """`settled()` is the mode of a run that is resumed before its first checkpoint; 'static' is the fastest."""
    monkeypatch.setattr(run, 'choose_mode', lambda recipe, batch: ('static', {'hybrid': 1.0, 'static': 2.0}))
    folder, settings = RunFolder(tmp_path), argparse.Namespace(resume=True, mode='auto')
    recipe, task = SimpleNamespace(ranks=Ranks()), SimpleNamespace(modes={})
    return lambda: resolve_mode(settings, task, recipe, folder, None, 8, RunLog(folder.log))


def test_the_measured_mode_stays(settled, tmp_path):
    (tmp_path / 'mode.json').write_text('{"mode": "hybrid", "images_per_second": {}}')
    assert settled() == 'hybrid'


@pytest.mark.parametrize(
    'content', ['', '{"mode": "hy', '[]', '"hybrid"', '{}', '{"mode": 3}', '{"mode": "fast"}', '\0']
)
def test_a_damaged_file_is_told_and_measured_again(settled, tmp_path, content):
    (tmp_path / 'mode.json').write_text(content)
    assert settled() == 'static'
    assert json.loads((tmp_path / 'mode.json').read_text())['mode'] == 'static'
    log = (tmp_path / 'train.log').read_text()
    assert f'{tmp_path / "mode.json"} does not say which mode was the fastest' in log
    assert '--mode auto: static is the fastest here' in log
