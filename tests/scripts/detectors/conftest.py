"""A small detector with its manifest, and images with boxes."""

import json

import mxnet as mx
import numpy as np
import pytest
from PIL import Image

from detection.metrics import Found
from detection.preprocessing import DetectionPreprocessing
from model import save_params
from tests.detection.cases import outspoken, small
from tests.detection.data import NAMES, write_coco

SMALL = DetectionPreprocessing(48, 64)
# An untrained network's boxes depend on the last bits; run operator by operator, they are those of `found_on`.
EXACT = ('--mode', 'imperative')
OPTIONS = {'classes': 3, 'channels': 32, 'head_convolutions': 1, 'score_threshold': 0.001}


@pytest.fixture(scope='package')
def data(tmp_path_factory):
    return write_coco(tmp_path_factory.mktemp('data') / 'shapes')


@pytest.fixture(scope='package')
def detector():
    return outspoken(small('retinanet', **{key: value for key, value in OPTIONS.items() if key != 'channels'}))


@pytest.fixture(scope='package')
def params(detector, tmp_path_factory):
    path = tmp_path_factory.mktemp('detector') / 'net.params'
    manifest = {
        'model': 'retinanet_resnet18_v1b',
        'model_kwargs': OPTIONS,
        'classes': 3,
        'class_names': list(NAMES),
        'preprocessing': SMALL.to_dict(),
        'task': 'detection',
    }
    detector(mx.nd.zeros((1, 3, 64, 64)), mx.nd.array([[64, 64]]))
    save_params(detector, path, manifest)
    return path


def found_on(detector, image, known=SMALL):
    """Return the boxes on the pixels of one image, with scores and labels."""
    with Image.open(image) as picture:
        pixels = np.asarray(picture)
    inputs, sizes = known.batch([known.normalise(known.fit(pixels))])
    boxes, scores, labels = (array.asnumpy()[0] for array in detector(mx.nd.array(inputs), mx.nd.array(sizes)))
    kept = labels >= 0
    scale = known.scale(pixels.shape[1], pixels.shape[0])
    return Found(boxes[kept] / scale, scores[kept], labels[kept].astype(int))


def variant(params, folder, **changes):
    """Return the same parameters with another manifest."""
    path = folder / 'variant.params'
    path.write_bytes(params.read_bytes())
    manifest = {**json.loads(params.with_suffix('.json').read_text()), **changes}
    path.with_suffix('.json').write_text(json.dumps(manifest))
    return path
