"""Batches for detectors: every image in turn, the same wherever a run is resumed, without damaged images."""

import numpy as np
import pytest

from data.coco.dataset import locate, read_coco
from detection.loader import read_pixels
from detection.preprocessing import DetectionPreprocessing, flip
from environment import UserError
from tests.data.loaders import detection_loader as make_detection_loader
from tests.detection.data import write_coco

SMALL = DetectionPreprocessing(48, 64)


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    return read_coco(*locate(write_coco(tmp_path_factory.mktemp('data') / 'data', train=11, val=1), 'train'))


def same(one, other):
    (number, data, targets, count), (number2, data2, targets2, count2) = one, other
    assert (number, count, targets.seed) == (number2, count2, targets2.seed)
    for a, b in ((data, data2), (targets.boxes, targets2.boxes), (targets.labels, targets2.labels)):
        assert a.tobytes() == b.tobytes()


def test_training_takes_alike_images_together_and_every_one(dataset):
    loader = make_detection_loader(dataset, SMALL, 3, True, seed=4)
    wide = {i for i, image in enumerate(dataset.images) if image.width > image.height}
    epochs = [list(loader.batches(epoch)) for epoch in range(2)]
    for batches in epochs:
        assert [number for number, *_ in batches] == list(range(len(loader)))
        assert all(len(targets) == 3 for _, _, targets, _ in batches)
        for _, data, targets, _ in batches:
            assert len({int(index) in wide for index in targets.indices}) == 1
            assert data.shape[2] % 32 == data.shape[3] % 32 == 0
        seen = np.concatenate([targets.indices for _, _, targets, _ in batches])
        assert set(seen) == set(range(11))
        assert len(seen) == 6 + 9  # 4 wide images and 7 others, filled up to whole batches
    first, second = ([targets.indices.tolist() for _, _, targets, _ in batches] for batches in epochs)
    assert first != second
    assert len({targets.seed for batches in epochs for _, _, targets, _ in batches}) == 2 * len(loader)


def test_a_batch_depends_on_seed_epoch_and_place_alone(dataset):
    whole = list(make_detection_loader(dataset, SMALL, 2, True, seed=4, threads=1).batches(3))
    rest = list(make_detection_loader(dataset, SMALL, 2, True, seed=4, threads=4, ahead=5).batches(3, start=2))
    assert len(rest) == len(whole) - 2
    for one, other in zip(whole[2:], rest):
        same(one, other)
    other_seed = next(make_detection_loader(dataset, SMALL, 2, True, seed=5).batches(3))
    assert other_seed[1].tobytes() != whole[0][1].tobytes()


def test_input_and_boxes_are_those_of_the_image_mirrored_or_not(dataset):
    loader = make_detection_loader(dataset, SMALL, 2, True, seed=4)
    mirrored = 0
    for _, data, targets, _ in loader.batches(0):
        for row, index, boxes, labels in zip(data, targets.indices, targets.boxes, targets.labels):
            image = dataset.images[index]
            pixels = SMALL.fit(read_pixels(image)[0])
            expected = SMALL.scaled_boxes(image.boxes, image.width, image.height)
            plain = SMALL.normalise(pixels)
            width = plain.shape[2]
            if (row[:, : plain.shape[1], :width] != plain).any():
                mirrored, plain, expected = mirrored + 1, plain[:, :, ::-1], flip(expected, width)
            assert (row[:, : plain.shape[1], :width] == plain).all()
            count = len(image.boxes)
            assert boxes[:count].tolist() == expected.tolist()
            assert labels[:count].tolist() == image.labels.tolist()
            assert (boxes[count:] == -1).all()
            assert (labels[count:] == -1).all()
    assert 0 < mirrored < 12
    unmirrored = make_detection_loader(dataset, SMALL, 2, True, seed=4, mirror=False)
    for _, data, targets, _ in unmirrored.batches(0):
        plain = SMALL.normalise(SMALL.fit(read_pixels(dataset.images[targets.indices[0]])[0]))
        assert (data[0, :, : plain.shape[1], : plain.shape[2]] == plain).all()


def test_ranks_share_a_step_of_alike_images(dataset):
    alone = make_detection_loader(dataset, SMALL, 4, True, seed=4).order(1)
    ranks = [make_detection_loader(dataset, SMALL, 2, True, seed=4, rank=rank, size=2).order(1) for rank in range(2)]
    assert [[*a, *b] for a, b in zip(*ranks)] == [list(step) for step in alone]
    scored = [make_detection_loader(dataset, SMALL, 2, rank=rank, size=2).order(0) for rank in range(2)]
    assert sorted(np.concatenate([*scored[0], *scored[1]])) == list(range(11))


@pytest.mark.parametrize('batch', [1, 2, 50])
def test_scoring_takes_each_image_once_without_more_padding_than_its_own(dataset, batch):
    seen = []
    for _, data, targets, _ in make_detection_loader(dataset, SMALL, batch).batches(0):
        for index in targets.indices:
            image = dataset.images[index]
            assert data.shape[:1:-1] == SMALL.padded_size(image.width, image.height)
        seen += targets.indices.tolist()
    assert sorted(seen) == list(range(11))


def test_damaged_images_are_replaced_in_training_and_left_out_in_scoring(tmp_path):
    data = read_coco(*locate(write_coco(tmp_path / 'data', train=7, val=1), 'train'))
    data.images[0].path.write_bytes(b'no image')
    data.images[4].path.write_bytes(data.images[3].path.read_bytes())  # not of the size that its annotation says
    loader = make_detection_loader(data, SMALL, 2, True, seed=1, max_bad=2)
    seen = np.concatenate([targets.indices for _, _, targets, _ in loader.batches(0)])
    assert set(seen) == {1, 2, 3, 5, 6}
    assert len(loader.bad) == 2
    assert '0.png cannot be read' in loader.bad.sentences[0]
    assert '4.png has 64 x 48 pixels, and its annotation says 48 x 64' in loader.bad.sentences[1]
    scoring = make_detection_loader(data, SMALL, 2, max_bad=2)
    assert sorted(np.concatenate([t.indices for _, _, t, _ in scoring.batches(0)])) == [1, 2, 3, 5, 6]
    with pytest.raises(UserError, match=r'2 images of instances_train cannot be used, .* allow 1 of \d+'):
        list(make_detection_loader(data, SMALL, 2, max_bad=1, threads=1).batches(0))
    for image in data.images:
        image.path.write_bytes(b'no image')
    with pytest.raises(UserError, match='no image of instances_train can be read'):
        list(make_detection_loader(data, SMALL, 2, True, max_bad=9).batches(0))


@pytest.mark.parametrize('wrong', [{'batch_size': 0}, {'threads': 0}, {'ahead': 0}, {'rank': 2, 'size': 2}])
def test_what_makes_no_loader(dataset, wrong):
    with pytest.raises(ValueError):
        make_detection_loader(dataset, SMALL, **{'batch_size': 2, **wrong})
