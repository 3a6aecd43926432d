"""How the mode of a run is chosen."""

import json
from types import SimpleNamespace

import pytest

from tests.training.flat import settings_of
from training import mode
from training.config.run_folder import RunFolder
from training.logging.text_log import RunLog
from training.mode import resolve_mode
from training.tasks.cifar import CifarTask


@pytest.fixture
def settled(tmp_path, monkeypatch):
    """Return `settled()`, the mode of a run that resumes before its first checkpoint; 'static' is the fastest."""
    monkeypatch.setattr(mode, 'fastest_mode_of', lambda task, batch: ('static', {'hybrid': 1.0, 'static': 2.0}))
    folder, task = RunFolder(tmp_path), CifarTask(settings_of(resume=True))
    task.data = SimpleNamespace(train=SimpleNamespace(batch_size=8))
    return lambda: resolve_mode(task, folder, None, RunLog(folder.log))


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
