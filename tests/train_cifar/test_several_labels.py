"""Images with several labels, or none, from training to prediction."""

import json

import numpy as np
import pytest

import train_cifar
from data.classification.dataset import ImageDataset
from data.preprocessing import Preprocessing
from environment import UsageError
from inference import Predictor
from inference.export import export
from tests.train_cifar.runs import BASE
from training.logging.history import read_history
from training.tasks import cifar

NAMES = ('red', 'green', 'blue')


def bright(count, seed):
    """Write images whose channels are each bright or not, independently; some are dark altogether."""
    random = np.random.RandomState(seed)
    labels = random.randint(0, 2, (count, 3))
    images = (random.randint(0, 60, (count, 32, 32, 3)) + 150 * labels[:, None, None, :]).astype(np.uint8)
    known = Preprocessing(32, (0.4,) * 3, (0.3,) * 3)
    return ImageDataset(images, labels.astype(np.int64), NAMES, 'bright', 'train', known)


@pytest.fixture
def train(monkeypatch, tmp_path):
    monkeypatch.setattr(cifar, 'load_splits', lambda *args, **options: [bright(64, 0), bright(30, 1)])
    flags = BASE.replace('--limit-train 16 --limit-val 8', '').replace('--no-report', '').split()

    def train(*more):
        return train_cifar.main([*flags, '--save-dir', str(tmp_path / 'run'), *more])

    return train


def test_it_learns_each_label_by_itself(train, tmp_path):
    assert train('--num-epochs', '4', '--class-weights', 'auto', '--json', str(tmp_path / 'figures.json')) == 0
    run = tmp_path / 'run'
    row = read_history(run / 'history.csv')[-1]
    assert row['val_map'] > 0.9
    figures = json.loads((tmp_path / 'figures.json').read_text())
    assert figures['best_map'] == max(each['val_map'] for each in read_history(run / 'history.csv'))
    log = (run / 'train.log').read_text()
    assert f'mAP={row["val_map"]:f} F1={row["val_f1"]:f}' in log
    assert 'weights of the classes: red ' in log
    page = (run / 'report.html').read_text()
    assert 'mAP' in page
    assert '<td>mean over classes</td>' in page
    assert 'could not be drawn' not in page
    ask = Predictor(run)
    answers = ask(bright(30, 1).images)
    assert ask.network.several
    found = np.array([[name in answer.labels() for name in NAMES] for answer in answers])
    assert (found == bright(30, 1).labels).mean() > 0.8
    assert max(sum(p for _, p in answer.classes) for answer in answers) > 1.5  # they need not sum to one
    images = ask.preprocessing.batch(bright(30, 1).images[:4])
    export(ask.network, tmp_path / 'exported', images, kinds=('mxnet', 'optimized'))
    exported = Predictor(tmp_path / 'exported')
    assert exported.network.several
    for before, after in zip(answers, exported(bright(30, 1).images[:4])):
        np.testing.assert_allclose([p for _, p in after.classes], [p for _, p in before.classes], atol=1e-5)


@pytest.mark.parametrize(
    ('flags', 'said'),
    [
        (['--loss', 'softmax'], '--loss softmax is for one label an image, and here are several; allowed: bce, focal'),
        (['--label-smoothing'], '--label-smoothing is for one label an image, and here are several'),
        (['--balanced-sampling'], '--balanced-sampling is for images of one label each'),
        (['--label-noise', '0.1'], '--label-noise needs images with one label each'),
        (['--teacher', 'nobody'], '--teacher needs images with one label each'),
    ],
)
def test_what_is_for_one_label_an_image_is_refused(train, flags, said):
    with pytest.raises(UsageError, match=said):
        train(*flags)


def test_focal_loss_and_mixup_of_several_labels(train, tmp_path):
    assert train('--loss', 'focal', '--bce-sum', '--mixup', '--no-report') == 0
    assert read_history(tmp_path / 'run' / 'history.csv')[0]['train_loss'] > 0
