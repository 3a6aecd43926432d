"""tools/benchmark_imagenet_data.py: all readers are measured, and their batches agree."""

import json

import mxnet as mx
import numpy as np
import pytest

from tests.data.conftest import make_jpeg
from tests.scripts.conftest import ROOT
from training.config.augmentation import AugmentSettings
from training.config.fields import typed


def test_figures(tmp_path, in_process):
    for name in 'ab':
        (tmp_path / 'images' / name).mkdir(parents=True)
        for i in range(3):
            (tmp_path / 'images' / name / f'{i}.jpg').write_bytes(make_jpeg(i, 40, 50))
    file = tmp_path / 'figures.json'
    flags = ['--count', 16, '--batch-size', 4, '--size', 16, '--repeats', 1, '--seconds', 0, '-j', 2, '--json', file]
    flags += ['--auto-augment', 'rand', '--random-erase', 0.5, '--aug-repeats', 2]
    code, out, err = in_process('benchmark_imagenet_data.py', '--images', tmp_path / 'images', *flags)
    assert code == 0, err
    figures = json.loads(file.read_text())
    for kind in ('full', '256', 'memory'):
        speed, ratios = figures[kind]['images_per_second'], figures[kind]['ratios']
        assert (len(speed), len(ratios)) == (5, 4)
        assert ratios['to ImageRecordIter'] == pytest.approx(speed['ours as MXNet arrays'] / speed['ImageRecordIter'])
        assert min(speed.values()) > 0
    assert out.count('ratio to ImageRecordIter') == 3


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (['--count', 9, '--batch-size', 5], '--batch-size 5'),
        (['--kinds', 'half'], '--kinds'),
        (['--size', 1], '--size'),
    ],
)
def test_mistakes(in_process, arguments, sentence):
    code, _, err = in_process('benchmark_imagenet_data.py', *arguments)
    assert code == 2
    assert sentence in err


def test_the_loops_and_ours_prepare_images_alike(tmp_path, monkeypatch):
    """The same `augment_params` give the same input for the same image, colours included."""
    monkeypatch.syspath_prepend(str(ROOT / 'tools'))
    import benchmark_imagenet_data as script

    epoch = typed(script.Epoch, vars(script.parse(['--count', '16', '--batch-size', '8', '--size', '16'])))
    images = [make_jpeg(i, 40, 50) for i in range(16)]
    script.write_records(tmp_path / 'a.rec', images, 16)
    ours = script.Ours(tmp_path / 'a.rec', epoch, AugmentSettings(), 'off').loader
    order = ours.order(0)
    augment_params = ours.augment.draw(ours.augment.words(0, 0, 16))
    tuned, bare = (script.Loop(images, epoch, tuned=tuned) for tuned in (True, False))
    assert (tuned.augment_params.flip, tuned.augment_params.light) == (augment_params.flip, augment_params.light)
    tuned.batches = bare.batches = 1
    tuned.run()
    bare.run()
    by_image = {}
    for number, data, _, n in ours.batches(0):
        by_image.update(zip(order[8 * number : 8 * number + n].tolist(), data))
    for i in range(8):
        np.testing.assert_array_equal(tuned.batch[i], by_image[i])
        # The same crop and normalisation, but other colours.
        assert np.corrcoef(bare.batch[i].ravel(), by_image[i].ravel())[0, 1] > 0.5
    theirs = script.MxnetIterator(tmp_path / 'a.rec', epoch)
    theirs.iterator.reset()
    batch = next(theirs.iterator)
    assert batch.data[0].shape == (8, 3, 16, 16)
    # Normalised in the same way: means and deviations over 16 augmented images are similar.
    assert abs(batch.data[0].asnumpy().mean() - np.mean(list(by_image.values()))) < 0.5
    mx.nd.waitall()
