"""tools/benchmark_server.py asks a server and loses nothing."""

import json

import pytest

from tests.tools.conftest import run


def test_it_measures_a_server(digits_params, tmp_path):
    for package in ('uvicorn', 'starlette', 'python_multipart'):
        pytest.importorskip(package, reason=f'{package} is not installed (bash scripts/setup.sh --serve)')
    file = tmp_path / 'server.json'
    flags = ('--clients', '1,6', '--seconds', 0.5, '--queue', 2, '--side', 60, '--json', file)
    done = run('benchmark_server.py', digits_params, *flags)
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())
    assert found['bare_images_per_second'] > 0
    one, six = found['server']
    assert (one['clients'], one['refused'], one['lost'], one['other']) == (1, 0, 0, 0)
    assert one['requests_per_second'] > 0
    assert (six['lost'], six['other']) == (0, 0)
