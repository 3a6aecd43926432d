"""What is written: text, JSON, and output to pipes and devices."""

import json
import os
import shlex
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from common.files import atomic_write, write_json, write_text

ROOT = Path(__file__).resolve().parents[2]
NEW = b'new content'


def test_devices_and_pipes_are_written_to_and_not_replaced(tmp_path):
    atomic_write('/dev/null', lambda file: file.write(NEW))
    assert stat.S_ISCHR(os.stat('/dev/null').st_mode)
    pipe = tmp_path / 'pipe'
    os.mkfifo(pipe)
    got = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    atomic_write(pipe, lambda file: Path(file.name).write_bytes(NEW))
    reader.join()
    assert got == [NEW]
    assert os.listdir(tmp_path) == ['pipe']


@pytest.mark.parametrize('name', ['/dev/stdout', '/dev/fd/1', '/proc/self/fd/1'])
@pytest.mark.parametrize('to', ['file', 'pipe'])
def test_our_own_output_goes_after_what_was_printed(tmp_path, name, to):
    code = f"from common.files import write_text; print('printed'); write_text({name!r}, 'written'); print('after')"
    command = [sys.executable, '-c', code]
    if to == 'pipe':
        out = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    else:
        with open(tmp_path / 'log', 'wb') as log:
            subprocess.run(command, cwd=ROOT, stdout=log, check=True)
        out = (tmp_path / 'log').read_bytes()
    assert out == b'printed\nwrittenafter\n'


def test_a_reader_of_our_output_that_has_gone_away():
    code = 'import environment; from common.files import write_text; '
    code += "environment.run_main(lambda: write_text('/dev/stdout', 'x' * 10_000_000))"
    command = f'{shlex.quote(sys.executable)} -c {shlex.quote(code)} | head -c 1'
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ('x', '')


def test_text_and_json(tmp_path):
    name = os.fsdecode(b'caf\xc3\xa9-\xff')  # a file name that is UTF-8 except for its last byte
    write_text(tmp_path / 'a.txt', name)
    assert (tmp_path / 'a.txt').read_bytes() == b'caf\xc3\xa9-\xff'
    write_json(tmp_path / 'a.json', {'names': [name]})
    text = (tmp_path / 'a.json').read_text(encoding='utf-8')
    assert text.endswith('\n')
    assert 'café' in text
    assert json.loads(text) == {'names': [name]}
    with pytest.raises(TypeError):
        write_json(tmp_path / 'a.json', {'names': object()})
    assert (tmp_path / 'a.json').read_text(encoding='utf-8') == text
