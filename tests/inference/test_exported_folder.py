"""Exported folders: they are complete or not there, and damage is reported."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from PIL import Image

from data.preprocessing import Preprocessing
from environment import UserError
from inference import export_kinds, portable
from inference.export import export, load_exported, possible_kinds
from inference.network import LoadedNetwork
from tests.damage import damaged
from tests.scripts.conftest import NAME, make_network
from tests.training.test_disk_full import file_size_limit

ROOT = Path(__file__).resolve().parents[2]
KNOWN = Preprocessing(32, (0.3,) * 3, (0.35,) * 3)
PARTS = ('params_format.py', 'portable_files.py')  # the loader's
IMAGES = np.random.RandomState(3).randn(2, 3, 32, 32).astype(np.float32)


def network(classes=10):
    names = tuple(f'class {i}' for i in range(classes))
    return LoadedNetwork(make_network(classes), NAME, {'classes': classes}, KNOWN, names, {})


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """Return an export of all kinds that this installation supports."""
    folder = tmp_path_factory.mktemp('exported') / 'whole'
    export(network(), folder, IMAGES, possible_kinds())
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    return Path(shutil.copytree(str(whole), str(tmp_path / 'copy')))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def answer(loaded):
    """Return everything in a prediction."""
    logits = loaded.net(mx.nd.array(IMAGES)).asnumpy()
    return logits, loaded.class_names, loaded.preprocessing


def told_or_right(folder, kind, expected):
    """Return whether the folder is refused; assert that its prediction is right if it is not."""
    try:
        found = answer(load_exported(folder, kind))
    except UserError as error:
        sentence = str(error)
    else:
        assert np.array_equal(found[0], expected[0])
        assert found[1:] == expected[1:]
        return False
    assert '\n' not in sentence
    assert str(folder) in sentence
    return True


def test_every_file_has_a_digest_and_the_loader_checks_them(folder):
    info = portable.check(str(folder))
    assert set(info['sha256']) == {path.name for path in folder.iterdir()} - {portable.INFO}
    done = subprocess.run([sys.executable, 'load.py'], cwd=folder, env=with_hook(), capture_output=True, text=True)
    assert json.loads(done.stdout) == info, done.stderr


def with_hook():
    """Return variables with which any Python can import MXNet, whatever its NumPy, without finding our packages."""
    return {**os.environ, 'PYTHONPATH': str(ROOT), 'PYTHONSTARTUP': ''}


def names_of(kind):
    entry = {'mxnet': 'network', 'optimized': 'optimized'}.get(kind)
    files = [f'{entry}-0000.params', f'{entry}-symbol.json'] if entry else ['network.onnx']
    return [*files, 'export.json', *([] if kind == 'onnx' else ['load.py', *PARTS])]


@pytest.mark.parametrize('kind', ['mxnet', 'optimized', 'onnx'])
def test_damage_to_any_file_is_one_sentence_or_harmless(kind, folder):
    if kind not in possible_kinds():
        pytest.skip('the extra onnx is not installed')
    expected = answer(load_exported(folder, kind))
    for name in names_of(kind):
        content = (folder / name).read_bytes()
        told = 0
        for seed in range(48):
            (folder / name).write_bytes(damaged(content, seed))
            told += told_or_right(folder, kind, expected)
        (folder / name).unlink()
        assert told_or_right(folder, kind, expected), name
        (folder / name).write_bytes(content)
        assert told > 30, name


def test_damage_to_an_onnx_file_on_its_own_is_told(folder, tmp_path):
    pytest.importorskip('onnx')
    pytest.importorskip('onnxruntime')
    file = tmp_path / 'moved.onnx'
    content = (folder / 'network.onnx').read_bytes()
    file.write_bytes(content)
    expected = answer(load_exported(file))
    # Only in the digest itself, at the end, may some changes be missed.
    for seed in range(160):
        file.write_bytes(damaged(content, seed) if seed < 120 else content[:-200] + damaged(content[-200:], seed))
        told_or_right(file, None, expected)


def without_digests(folder):
    """Return an export as they were before digests, with parameters from MXNet's own writer."""
    info = json.loads((folder / 'export.json').read_text())
    (folder / 'export.json').write_text(json.dumps({k: v for k, v in info.items() if k not in ('sha256', 'digest')}))
    (folder / 'params_format.py').unlink()
    for path in folder.glob('*.params'):
        mx.nd.save(str(path), mx.nd.load(str(path)))


@pytest.mark.parametrize('kind', ['mxnet', 'optimized'])
def test_exports_without_digests_load(kind, folder):
    expected = answer(load_exported(folder, kind))
    without_digests(folder)
    assert not told_or_right(folder, kind, expected)


FUZZ = """
import json, resource, sys
import environment
import mxnet as mx, numpy as np
from pathlib import Path
from environment import UserError
from PIL import Image
from inference.export import load_exported
from tests.damage import damaged
folder, counts = Path(sys.argv[1]), {}
image = str(folder / 'image.png')
Image.fromarray(np.random.RandomState(0).randint(0, 256, (32, 32, 3)).astype(np.uint8)).save(image)
def probabilities():
    (found,) = load_exported(folder, 'mxnet').predict([image], top=10)
    return [probability for _, probability in found.classes]
assert len(probabilities()) == 10
room = 1 << 30
used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + room, used + room))
for name in 'network-0000.params', 'network-symbol.json', 'export.json':
    content = (folder / name).read_bytes()
    for seed in range(120):
        (folder / name).write_bytes(damaged(content, seed))
        print(name, seed, file=sys.stderr)
        try:
            assert np.isfinite(probabilities()).all()
        except UserError as error:
            assert len(str(error).splitlines()) == 1
            counts[name] = counts.get(name, 0) + 1
    (folder / name).write_bytes(content)
print(json.dumps(counts))
"""


@pytest.mark.skipif(not os.path.exists('/proc/self/statm'), reason='nothing tells the memory in use')
def test_damage_to_exports_without_digests_is_no_crash_and_takes_no_memory(folder):
    """Only wrong weights cannot be told from right ones there."""
    without_digests(folder)
    done = subprocess.run(
        [sys.executable, '-c', FUZZ, str(folder)],
        cwd=ROOT,
        env=with_hook(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert min(json.loads(done.stdout).values()) > 20, done.stdout


@pytest.mark.parametrize('name', ['../outside', '/etc/hostname', '.', '', 'sub/file', 5])
def test_only_plain_names_are_opened(name, folder):
    without_digests(folder)
    info = json.loads((folder / 'export.json').read_text())
    info['files']['mxnet']['params'] = name
    (folder / 'export.json').write_text(json.dumps(info))
    with pytest.raises(UserError, match='leads out of the folder|allowed: the name of a file beside it'):
        load_exported(folder, 'mxnet')


def test_a_full_disk_leaves_the_earlier_export_as_it_was(folder, tmp_path):
    before = contents(folder)
    sizes = sorted(len(content) for content in before.values())
    other = network(classes=3)
    for limit in (0, *(size - 1 for size in sizes)):
        with file_size_limit(limit), pytest.raises(UserError, match='cannot write .*larger than allowed'):
            export(other, folder, IMAGES, ['mxnet'])
        assert contents(folder) == before
        with file_size_limit(limit), pytest.raises(UserError, match='larger than allowed'):
            export(other, tmp_path / 'new' / 'folder', IMAGES, ['mxnet'])
        assert not (tmp_path / 'new').exists()
        if limit > 1000:
            break  # the next file of the other network may be smaller
    export(other, folder, IMAGES, ['mxnet'])
    assert load_exported(folder).options == {'classes': 3}


def test_a_network_that_answers_otherwise_leaves_the_earlier_export_as_it_was(folder, monkeypatch):
    before = contents(folder)
    monkeypatch.setattr(export_kinds, 'difference', lambda *arguments: 1.0)
    with pytest.raises(UserError, match=f'{folder} is not written: the mxnet network differs'):
        export(network(), folder, IMAGES, ['mxnet'])
    assert contents(folder) == before


def test_what_an_earlier_export_held_goes_and_what_others_put_there_stays(folder):
    (folder / 'notes.txt').write_text('mine')
    (folder / 'network.onnx').write_bytes(b'of an earlier export')
    export(network(), folder, IMAGES, ['mxnet'])
    left = {'network-symbol.json', 'network-0000.params', 'export.json', 'load.py', *PARTS, 'notes.txt'}
    assert {path.name for path in folder.iterdir()} == left
    with pytest.raises(UserError, match='holds no optimized network; it has: mxnet'):
        load_exported(folder, 'optimized')


KILLED = """
import os, signal, sys
import environment
from common.together import Together
from inference.export import export
from tests.inference.test_exported_folder import IMAGES, network
def die(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)
setattr(Together, '_take_places', die)
export(network(3), sys.argv[1], IMAGES, ['mxnet'])
"""


def test_what_a_killed_export_leaves_is_removed_by_the_next(folder):
    before = contents(folder)
    done = subprocess.run([sys.executable, '-c', KILLED, str(folder)], cwd=ROOT, env=with_hook(), timeout=300)
    assert done.returncode == -signal.SIGKILL
    assert any(path.is_dir() for path in folder.iterdir())
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    export(network(), folder, IMAGES, ['mxnet'])
    assert all(path.is_file() for path in folder.iterdir())


@pytest.mark.parametrize('count', [9, 11])
def test_as_many_class_names_as_outputs(count, folder, tmp_path):
    """Without digests, a lost name shifts all that follow."""
    without_digests(folder)
    info = json.loads((folder / 'export.json').read_text())
    (folder / 'export.json').write_text(json.dumps({**info, 'class_names': [str(i) for i in range(count)]}))
    image = np.zeros((32, 32, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / 'x.png')
    with pytest.raises(UserError, match=f'has 10 outputs and {count} class names'):
        list(load_exported(folder).predict([tmp_path / 'x.png']))
