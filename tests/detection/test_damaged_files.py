"""COCO files with arbitrary content are read, counting what is wrong, or refused in one sentence."""

import copy
import json
import random
import string

import numpy as np
import pytest

from data.coco.dataset import locate, read_coco
from detection.metrics import FIGURES, Found, average_precision, class_precision, write_results
from environment import UserError
from tests.detection.data import write_coco

NASTY = (
    10**400,
    -(10**400),
    10**4000,
    2**63,
    1e308,
    -1e308,
    1e-320,
    float('nan'),
    float('inf'),
    -float('inf'),
    -5,
    -0.5,
    0,
    1.0,
    True,
    False,
    None,
    '',
    '1',
    '7' * 4000,
    'a' * 5000,
    '\x1b[31mred\x07\r\n',
    '\ud800',
    '\udc80\x00',
    '../../etc/passwd',
    [],
    [[]],
    {},
    {'id': 1},
    [1, 2, 3, 4],
    '1234',
)


def places(tree, path=()):
    """Yield the paths of all parts of a tree."""
    yield path
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, part in entries:
        yield from places(part, (*path, key))


def mutated(content, chance):
    """Return the content with a few parts replaced, removed or doubled."""
    content = copy.deepcopy(content)
    for _ in range(chance.randint(1, 4)):
        path = chance.choice(list(places(content))[1:])
        parent = content
        for key in path[:-1]:
            parent = parent[key]
        what = chance.choice(('replace', 'replace', 'replace', 'remove', 'double', 'nest'))
        if what == 'remove':
            del parent[path[-1]]
        elif what == 'double' and isinstance(parent, list):
            parent.insert(chance.randint(0, len(parent)), copy.deepcopy(parent[path[-1]]))
        elif what == 'nest':
            for _ in range(chance.choice((1, 5, 50))):
                parent[path[-1]] = [parent[path[-1]]]
        else:
            parent[path[-1]] = copy.deepcopy(chance.choice(NASTY))
    return content


def plain(text):
    """Return whether a text is one line that every terminal and encoding can show."""
    text.encode()
    return all(letter.isprintable() for letter in text)


def told(outcome):
    return outcome is True or (plain(outcome) and len(outcome) < 2000)


def used(path, folder, results):
    """Read, train on, score and write out the file; return True, or the sentence with which it is refused."""
    try:
        dataset = read_coco(path, folder)
        trained = dataset.for_training()
        scored = read_coco(path, folder, classes=trained.classes).for_scoring()
    except UserError as error:
        return str(error)
    perfect = {i: Found(image.boxes, np.ones(len(image.boxes)), image.labels) for i, image in enumerate(scored.images)}
    figures = average_precision(scored, perfect)
    assert all(figures[name] == pytest.approx(1) or figures[name] == -1 for name in FIGURES), figures
    assert len(class_precision(scored, perfect)) == len(scored.class_names)
    for image in scored.images:
        assert np.isfinite(image.boxes).all()
        assert (image.boxes[:, 2:] >= image.boxes[:, :2] - 1).all()
        assert np.isfinite(image.areas).all()
    write_results(results, scored, perfect)
    json.loads(results.read_text())
    assert all(map(plain, scored.classes.titles()))
    for line in (*trained.report.lines(), *scored.report.lines()):
        assert told(line), line
    return True


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return write_coco(tmp_path_factory.mktemp('data') / 'shapes', train=5, val=1)


@pytest.mark.parametrize('seed', range(3))
def test_mutated_content_is_an_answer_or_a_sentence(folder, tmp_path, seed):
    annotations, images = locate(folder, 'train')
    content = json.loads(annotations.read_text())
    chance = random.Random(seed)
    answered = 0
    for _ in range(50):
        path = tmp_path / 'set.json'
        path.write_text(json.dumps(mutated(content, chance)))
        outcome = used(path, images, tmp_path / 'results.json')
        assert told(outcome), outcome
        answered += outcome is True
    assert 20 < answered < 50


@pytest.mark.parametrize('seed', range(2))
def test_flipped_bits_are_an_answer_or_a_sentence(folder, tmp_path, seed):
    annotations, images = locate(folder, 'train')
    chance = random.Random(seed)
    for _ in range(100):
        raw = bytearray(annotations.read_bytes())
        for _ in range(chance.choice((1, 1, 1, 4))):
            place = chance.randrange(len(raw))
            if chance.random() < 0.5:
                raw[place] ^= 1 << chance.randrange(3)
            else:  # JSON's syntax
                raw[place] = ord(chance.choice(string.digits + '{}[]",:.-eE'))
        if chance.random() < 0.1:
            del raw[chance.randrange(len(raw)) :]
        path = tmp_path / 'set.json'
        path.write_bytes(bytes(raw))
        outcome = used(path, images, tmp_path / 'results.json')
        assert told(outcome), outcome
