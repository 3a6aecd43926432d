"""Plans in exported folders: they run with only NumPy, and damage or forgery is reported."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from PIL import Image

import kernels.engine
from environment import UserError
from inference import portable, portable_engine
from inference.engine.network import why_not
from inference.export import export, load_exported
from inference.optimization.proof import difference
from tests.damage import damaged
from tests.inference import engine_plans
from tests.inference.test_exported_folder import IMAGES, answer, network, told_or_right

pytestmark = pytest.mark.skipif(why_not() is not None, reason=f'no engine: {why_not()}')


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp('exported') / 'whole'
    name = kernels.engine.chosen()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('XDG_CACHE_HOME', str(folder.parent))
        patch.setattr(kernels.engine, 'at_hand', lambda: [name])  # compiling the other library takes long
        export(network(), folder, IMAGES, ['mxnet', 'engine'], batch_size=2)
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    return Path(shutil.copytree(str(whole), str(tmp_path / 'copy')))


@pytest.fixture
def plan(folder):
    return folder / f'engine-{kernels.engine.chosen()}.plan'


def reseal(folder, **changes):
    """Change the engine's entry in export.json, with the right digest."""
    info = portable.read_info(str(folder))
    info['files']['engine'].update(changes)
    (folder / portable.INFO).write_text(json.dumps({**info, 'digest': portable.digest(info)}))


ALONE = """
import sys
sys.modules['mxnet'] = None
sys.path[:0] = [sys.argv[1]]
import numpy as np
from load_engine import load
net, info = load(threads=2)
images = np.load(sys.argv[2])
child = __import__('os').fork()
np.save(sys.argv[3] + ('' if child else '-child'), net(images))
if child:
    assert __import__('os').waitpid(child, 0)[1] == 0
    mapped = [line.split() for line in open('/proc/self/smaps') if '.plan' in line]
    assert mapped and all(line[1] == 'r--s' for line in mapped), mapped
    try:
        net(images[:, :, 1:])
    except ValueError as error:
        assert 'made for (N, 3, 32, 32)' in str(error)
    else:
        raise AssertionError('it takes other sizes')
"""


def test_it_runs_with_numpy_alone(folder, tmp_path):
    np.save(tmp_path / 'images.npy', IMAGES)
    arguments = [str(folder), str(tmp_path / 'images.npy'), str(tmp_path / 'answer')]
    done = subprocess.run(
        [sys.executable, '-I', '-c', ALONE, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    expected = network().net(mx.nd.array(IMAGES))
    for name in ('answer.npy', 'answer-child.npy'):
        assert difference(mx.nd.array(np.load(tmp_path / name)), expected) <= 1e-5
    done = subprocess.run([sys.executable, '-I', 'load_engine.py'], cwd=folder, capture_output=True, text=True)
    assert 'No module' in done.stderr or json.loads(done.stdout) == portable.check(str(folder))


def test_every_file_has_a_digest(folder):
    info = portable.check(str(folder))
    assert set(info['sha256']) == {path.name for path in folder.iterdir()} - {portable.INFO}


def test_predictions_come_from_it(folder, tmp_path):
    Image.fromarray(np.full((32, 32, 3), 77, np.uint8)).save(tmp_path / 'image.png')
    loaded = load_exported(folder)
    assert type(loaded.net).__name__ == '_ExportedEngine'
    (found,) = loaded.predict([tmp_path / 'image.png'])
    (expected,) = load_exported(folder, 'mxnet').predict([tmp_path / 'image.png'])
    assert [name for name, _ in found.classes] == [name for name, _ in expected.classes]


def test_another_processor_takes_the_next_kind(folder):
    rows = portable.read_info(str(folder))['files']['engine']['sets']
    reseal(folder, sets=[{**row, 'needs': ['amx_of_2100']} for row in rows])
    assert type(load_exported(folder).net).__name__ == '_Exported'
    with pytest.raises(UserError, match='this processor has none of them'):
        load_exported(folder, 'engine')


def test_a_later_export_takes_its_files_away(folder):
    export(network(), folder, IMAGES, ['mxnet'])
    assert not [path for path in folder.iterdir() if 'engine' in path.name]


def test_damage_to_any_file_is_one_sentence_or_harmless(folder, plan):
    expected = answer(load_exported(folder, 'engine'))
    for name in (plan.name, 'export.json', 'engine.cc'):
        content = (folder / name).read_bytes()
        told = 0
        for seed in range(48):
            (folder / name).write_bytes(damaged(content, seed))
            told += told_or_right(folder, 'engine', expected)
        (folder / name).unlink()
        assert told_or_right(folder, 'engine', expected), name
        (folder / name).write_bytes(content)
        assert told > 30, name
    library = folder / f'engine-{kernels.engine.chosen()}.so'
    content = library.read_bytes()
    library.unlink()  # it is mapped into memory
    library.write_bytes(content[:-100])
    assert told_or_right(folder, 'engine', expected)


def test_a_plan_that_was_cut_is_told(folder, plan):
    content = plan.read_bytes()
    for length in (0, 1, 95, 96, 4095, 4096, 5000, len(content) // 2, len(content) - 4096, len(content) - 1):
        plan.write_bytes(content[:length])
        with pytest.raises(portable.DamagedExport, match=r'\.plan is (damaged|not as it was)'):
            portable_engine.load(str(folder))
    plan.write_bytes(content + bytes(4096))
    with pytest.raises(portable.DamagedExport, match='size'):
        portable_engine.load(str(folder))


def test_every_bit_of_a_plan_counts(folder, plan):
    content = bytearray(plan.read_bytes())
    library = kernels.engine.load()
    table, weights = (np.array(array) for array in portable_engine.read_plan(str(plan), library))
    random = np.random.RandomState(0)
    begin = len(content) - -(-weights.nbytes // 4096) * 4096
    places = [
        *range(0, 96),
        *random.randint(4096, 4096 + table.nbytes, 60),
        *random.randint(begin, begin + weights.nbytes, 60),
    ]
    for place in places:
        bit = 1 << random.randint(8)
        content[place] ^= bit
        plan.write_bytes(content)
        with pytest.raises(portable.DamagedExport):
            portable_engine.read_plan(str(plan), library)
        content[place] ^= bit


def test_made_up_plans_are_refused_or_run(folder, plan):
    """Digests are right, as whoever forges a plan can compute them."""
    library = kernels.engine.load()
    table, weights = (np.array(array) for array in portable_engine.read_plan(str(plan), library))
    random, refused = np.random.RandomState(int(os.environ.get('ENGINE_FUZZ_SEED', '0'))), 0
    for _ in range(100):
        changed = engine_plans.flipped(table, random)
        if engine_plans.is_vast(changed):
            continue
        with open(plan, 'wb') as file:
            portable_engine.write_plan(file, library, changed, weights)
        try:
            portable_engine.load(str(folder))[0](IMAGES)
        except portable.DamagedExport:
            refused += 1
    assert refused > 50


def test_a_shape_that_is_not_the_plans_is_told(folder):
    reseal(folder, input_shape=[1, 3, 320, 320])
    with pytest.raises(portable.DamagedExport, match='another size'):
        portable_engine.load(str(folder))
    for shape in ([1, 3, 32], [1, 3, -32, -32], 'abcd', None, [1, 3, 32, 32.5]):
        reseal(folder, input_shape=shape)
        with pytest.raises(portable.DamagedExport, match='export.json is damaged'):
            portable_engine.load(str(folder))


@pytest.mark.parametrize('count', [0, 1, 255, 256, 257, 5000])
def test_the_digest_of_weights_tells_every_change(count):
    library = kernels.engine.load()
    weights = np.random.RandomState(0).standard_normal(count).astype(np.float32)
    seen = {library.digest_of(weights), library.digest_of(np.append(weights, np.float32(0)))}
    for place in np.linspace(0, count - 1, min(count, 50)).astype(int):
        changed = weights.copy()
        changed.view(np.uint32)[place] ^= 1 << (place % 32)
        seen.add(library.digest_of(changed))
    assert len(seen) == 2 + min(count, 50)


@pytest.mark.heavy
@pytest.mark.skipif(shutil.which('g++') is None, reason='no g++ to compile the source with')
def test_the_source_compiles(folder):
    expected = answer(load_exported(folder, 'engine'))[0]
    done = subprocess.run(
        [sys.executable, '-I', '-c', 'import runpy, sys; sys.path[:0] = ["."]; sys.argv[1:] = ["compile"]; '
         'runpy.run_path("load_engine.py", run_name="__main__")'],
        cwd=folder,
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (compiled,) = folder.glob('compiled-*.so')
    source = hashlib.sha256((folder / 'engine.cc').read_bytes()).hexdigest()
    assert source[:16] in compiled.name
    assert np.abs(answer(load_exported(folder, 'engine'))[0] - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize('precision', ['bfloat16', 'int8'])
def test_plans_have_the_precision_that_is_asked_for(precision, tmp_path, monkeypatch):
    if why_not(precision) is not None:
        pytest.skip(why_not(precision))
    name = kernels.engine.chosen()
    monkeypatch.setattr(kernels.engine, 'at_hand', lambda: [name])
    calibration = IMAGES if precision == 'int8' else None
    figures = export(network(), tmp_path / 'out', IMAGES, ['engine'], precision, 2, calibration)['engine']
    assert 1e-5 < figures['difference'] < 0.2
    (row,) = portable.read_info(str(tmp_path / 'out'))['files']['engine']['sets']
    assert set(row['needs']) - set(kernels.engine.needed(name))


def test_a_precision_that_no_set_has_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr('inference.engine.each_set.why_not', lambda precision, name: 'it has none')
    with pytest.raises(UserError, match='the kind engine cannot be written: it has none; leave it out'):
        export(network(), tmp_path / 'out', IMAGES, ['engine'], 'bfloat16')
