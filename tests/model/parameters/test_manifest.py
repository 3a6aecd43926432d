"""The manifest beside a parameter file: written with it, and checked."""

import contextlib
import itertools
import json
import os

import mxnet as mx
import pytest

from common.files import sha256_file
from environment import UserError
from model import load_params, read_manifest, save_params
from model.parameters.load import manifest_path

from .files import initialised, small


def test_each_flipped_bit_is_found_through_the_manifest(tmp_path):
    net = mx.gluon.nn.Dense(2, in_units=2)
    net.initialize()
    path = tmp_path / 'net.params'
    save_params(net, path, {'model': 'dense'})
    raw = path.read_bytes()
    for bit in range(8 * len(raw)):
        damaged = bytearray(raw)
        damaged[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(damaged)
        with pytest.raises(UserError, match='sha256'):
            load_params(net, path)
    path.write_bytes(raw)
    load_params(net, path)


def test_manifest_belongs_to_the_file(tmp_path):
    net = initialised()
    save_params(net, tmp_path / 'a.b.params', {'model': 'cifar_atac_resnet8_v2', 'classes': 10})
    manifest = read_manifest(tmp_path / 'a.b.params')
    assert manifest['model'] == 'cifar_atac_resnet8_v2'
    assert len(manifest['sha256']) == 64
    assert manifest_path(tmp_path / 'a.b.params').name == 'a.b.json'
    assert read_manifest(tmp_path / 'other.params') is None
    manifest_path(tmp_path / 'a.b.params').write_text('{')
    with pytest.raises(UserError, match='manifest'):
        load_params(net, tmp_path / 'a.b.params')


class Killed(BaseException):
    pass


def killed(save, monkeypatch, rename):
    """Run `save()`, ended right before the rename of this number, from 0; return whether that came."""
    numbers, replace = itertools.count(), os.replace

    def deadly(*paths):
        if next(numbers) == rename:
            raise Killed
        replace(*paths)

    with monkeypatch.context() as patch, contextlib.suppress(Killed):
        patch.setattr(os, 'replace', deadly)
        save()
        return False
    return True


@pytest.mark.parametrize('old', [{'model': 'old', 'sha256': 'its own'}, {'model': 'old'}, None])
@pytest.mark.parametrize('rename', range(4))
def test_a_save_killed_before_any_rename_leaves_parameters_that_load_by_their_manifest(
    tmp_path, monkeypatch, old, rename
):
    path, new = tmp_path / 'net.params', {'model': 'new'}
    save_params(small(1), path, old)
    if old and 'sha256' not in old:
        manifest_path(path).write_text(json.dumps(old))
    assert killed(lambda: save_params(small(2), path, new), monkeypatch, rename) == (rename < 3)
    net = small(0)
    load_params(net, path)
    value = float(net.weight.data().asnumpy()[0, 0])
    assert value == (1 if rename < 2 else 2)
    manifest = read_manifest(path) or {}
    assert manifest.get('model') == ((old or {}).get('model') if value == 1 else 'new')
    assert 'replaces' not in manifest
    # A flipped bit is found all the same, and the next save is like any other.
    if 'sha256' in manifest:
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(UserError, match='sha256'):
            load_params(net, path)
        path.write_bytes(content)
    save_params(small(3), path, {'model': 'next'})
    assert json.loads(manifest_path(path).read_text()) == {'model': 'next', 'sha256': sha256_file(path)}


def test_what_is_saved_without_a_manifest_over_what_has_one_loads(tmp_path):
    path = tmp_path / 'net.params'
    save_params(small(1), path, {'model': 'old'})
    save_params(small(2), path)
    load_params(small(0), path)
    assert read_manifest(path) == {'sha256': sha256_file(path)}
    manifest_path(path).write_text('{"of": "another program"}')
    save_params(small(3), path)
    assert read_manifest(path) == {'of': 'another program'}


WRONG_MANIFESTS = {
    '': 'not a readable manifest',
    '{"model": "x"': 'not a readable manifest',
    '[]': r'it is \[\]; allowed: a table',
    '{"model": 5}': 'model is 5; allowed: a text',
    '{"model_kwargs": [1]}': r'model_kwargs is \[1\]; allowed: a table or null',
    '{"model_kwargs": "x"}': "model_kwargs is 'x'; allowed: a table or null",
    '{"classes": "10"}': "classes is '10'; allowed: a whole number",
    '{"class_names": 3}': 'class_names is 3; allowed: a list, each of a text or null',
    '{"class_names": ["a", ["b"]]}': r"class_names\[1\] is \['b'\]; allowed: a text",
    '{"preprocessing": 32}': 'preprocessing is 32; allowed: a table',
    '{"sha256": 5}': 'sha256 is 5; allowed: a text',
    '{"accuracy": {"top1": "high"}}': "accuracy.top1 is 'high'; allowed: a number",
    '{"replaces": {"model": "x"}}': 'replaces lacks sha256',
}


@pytest.mark.parametrize('text', WRONG_MANIFESTS)
def test_a_manifest_that_is_not_what_it_should_be_is_told_with_file_and_key(tmp_path, text):
    save_params(small(1), tmp_path / 'net.params')
    (tmp_path / 'net.json').write_text(text)
    with pytest.raises(UserError, match=rf'net\.json: .*{WRONG_MANIFESTS[text]}.*; restore it from where'):
        load_params(small(0), tmp_path / 'net.params')
