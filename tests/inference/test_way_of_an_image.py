"""How many functions an image passes between `LoadedNetwork.predict` and the network."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from inference.network import load_network
from model import save_params
from tests.scripts.conftest import NAME, make_network

ROOT = str(Path(__file__).parents[2])
#: Seven, and `main` of scripts/predict.py.
WAY = ['answers', 'batch', 'decoded', 'fit', 'predict', 'read_image', 'scaled']


def carries_pixels(value):
    """Return whether a value is colour images, or a list that contains some."""
    if isinstance(value, np.ndarray):
        return value.ndim in (3, 4) and 3 in (value.shape[-1], value.shape[-3])
    return isinstance(value, list) and any(map(carries_pixels, value))


def test_an_image_passes_seven_functions(tmp_path):
    params, image = tmp_path / 'net.params', str(tmp_path / 'photo.jpg')
    save_params(make_network(3), params, {'model': NAME, 'model_kwargs': {'classes': 3}})
    Image.fromarray(np.random.RandomState(0).randint(0, 256, (90, 120, 3)).astype(np.uint8)).save(image)
    network, passed = load_network(params), set()

    def watch(frame, event, answer):
        code = frame.f_code
        if event != 'return' or not code.co_filename.startswith(ROOT) or '.venv' in code.co_filename:
            return
        given = [frame.f_locals.get(name) for name in code.co_varnames[: code.co_argcount]]
        hands_on = carries_pixels(answer) or code.co_name in ('predict', 'answers')
        if hands_on and (carries_pixels(answer) or any(carries_pixels(one) or one == [image] for one in given)):
            passed.add(code.co_name.lstrip('_'))

    sys.setprofile(watch)
    try:
        list(network.predict([image]))
    finally:
        sys.setprofile(None)
    assert sorted(passed) == WAY
