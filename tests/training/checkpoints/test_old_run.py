"""A run that began before settings were typed: its files still mean what they meant.

`old_run` holds what `python train_cifar.py --dataset digits --model cifar_atac_resnet8_v2 ...` (settings.yaml has the
rest) wrote of two epochs of four steps, the checkpoint in the middle of the second.
"""

import gzip
import shutil
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
import yaml

import train_cifar
from inference.network import load_network
from training.config.saved import resolved
from training.logging.history import read_history

OLD = Path(__file__).parent / 'old_run'
# The second epoch's figures, to four digits, because other processors add in another order.
LOSS, VALIDATION = 2.2844, 2.3096


@pytest.fixture
def folder(tmp_path):
    folder = Path(shutil.copytree(str(OLD), str(tmp_path / 'digits')))
    (packed,) = (folder / 'checkpoints').iterdir()
    packed.with_suffix('').write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    return folder


def of_then(settings, before):
    """Return the settings in order, without those that were added after that run, which have their defaults."""
    defaults = resolved(train_cifar.make_parser(), train_cifar.make_parser().parse(['--save-dir', 'x']))
    assert {name: value for name, value in settings.items() if name not in before} == {
        name: value for name, value in defaults.items() if name not in before
    }
    kept = {name: value for name, value in settings.items() if name in before}
    assert list(kept) == list(before)
    return kept


def test_it_is_resumed(folder):
    assert train_cifar.main(['--resume', '--save-dir', str(folder)]) == 0
    rows = read_history(folder / 'history.csv')
    assert [row['step'] for row in rows] == [4, 8]
    assert [rows[1]['train_loss'], rows[1]['val_loss']] == pytest.approx([LOSS, VALIDATION], abs=2e-3)
    assert rows[1]['lr'] == pytest.approx(0.005)
    log = (folder / 'train.log').read_text()
    assert 'resumed from' in log
    assert 'in epoch 2, after batch 2' in log
    for surprise in ('is newer than the run', 'which counts', 'rewritten'):
        assert surprise not in log
    before, after = (yaml.safe_load((path / 'settings.yaml').read_text()) for path in (OLD, folder))
    assert of_then(after, before) == {**before, 'save-dir': str(folder)}


def test_its_settings_are_the_same_flags():
    path = str(OLD / 'settings.yaml')
    parser = train_cifar.make_parser()
    before = yaml.safe_load(Path(path).read_text())
    assert of_then(resolved(parser, parser.parse(['--config', path])), before) == before


def test_its_parameters_predict():
    (path,) = OLD.glob('*-best.params')
    network = load_network(path)
    assert (network.name, network.options['channels']) == ('cifar_atac_resnet8_v2', [4, 4, 4, 4])
    assert network.class_names == tuple('0123456789')
    image = network.preprocessing.batch(np.zeros((1, 32, 32, 3), np.uint8))
    assert np.isfinite(network.net(mx.nd.array(image)).asnumpy()).all()
