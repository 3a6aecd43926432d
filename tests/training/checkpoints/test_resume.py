"""Resuming from an intact checkpoint of another run: one sentence, and nothing changes."""

import copy

import numpy as np
import pytest

import train_cifar
import train_detection
import train_imagenet
from environment import UserError
from tests.training.test_loop import make, parameters, same
from training.checkpoints.checkpoint import CheckpointStore
from training.checkpoints.position import Position
from training.checkpoints.resume import begin, new_settings, newest
from training.config.run import RunSettings
from training.config.saved import resolved
from training.distributed.arithmetic import arithmetic
from training.distributed.ranks import Ranks
from training.loop import train

SETTINGS = RunSettings(resume=True)


@pytest.fixture(scope='module')
def state(tmp_path_factory):
    """Return the whole state after a run of one epoch with an average."""
    job, outputs = make(tmp_path_factory.mktemp('run') / 'run', num_epochs=1, warmup_epochs=0, ema=0.9)
    outputs.state = {
        'settings': {'batch-size': 8},
        'mode': 'static',
        'images per step': 8,
        'training images': 44,
        'arithmetic': arithmetic(),
    }
    train(job, Position(), outputs)
    return outputs.store.load_newest()[0]


def saved(folder, state):
    store = CheckpointStore(folder / 'checkpoints')
    store.save(state, 0, 1)
    return store


def test_a_runs_own_is_taken(state, tmp_path):
    assert newest(saved(tmp_path, state), Ranks())[0].keys() == state.keys()


@pytest.mark.parametrize(
    ('change', 'fault'),
    [
        (lambda tree: tree.clear(), 'it lacks settings'),
        (lambda tree: tree.update(arithmetic=4), 'arithmetic is 4'),
        (lambda tree: tree.pop('images per step'), 'it lacks images per step'),
        (lambda tree: tree.pop('learner'), 'it lacks learner'),
        (lambda tree: tree.update(settings=[]), r'settings is \[\]'),
        (lambda tree: tree.update(mode='fast'), "mode is 'fast'; allowed: hybrid, imperative, static"),
        (lambda tree: tree['record'].update(epoch='1'), "record.epoch is '1'"),
        (lambda tree: tree['record'].update(more=1), 'record has the unknown entry more'),
        (lambda tree: tree['record'].update(totals=None), 'record.totals is None'),
        (lambda tree: tree['record'].update(best_files=['../x-best.params']), r"record.best_files\[0\] is '../x"),
        (lambda tree: tree['record'].update(best_files=['/x-best.params']), r"record.best_files\[0\] is '/x"),
        (lambda tree: tree['record'].update(best_files=['train.log']), r"record.best_files\[0\] is 'train.log'"),
        (lambda tree: tree['learner'].update(parameters=[]), r'learner.parameters is \[\]'),
        (lambda tree: tree['learner']['optimizer'].pop('states'), 'learner.optimizer lacks states'),
        (lambda tree: tree['learner'].update(average=5), 'learner.average is 5'),
    ],
)
def test_another_tree_is_refused_when_it_is_read(state, tmp_path, change, fault):
    changed = copy.deepcopy(state)
    change(changed)
    with pytest.raises(
        UserError, match=rf'epoch-000-batch-000001\.ckpt is not a valid checkpoint .*: {fault}.*; remove it'
    ):
        newest(saved(tmp_path, changed), Ranks())


@pytest.mark.parametrize('tree', [[], 'text', 5, None, np.zeros(3)])
def test_what_is_no_table_is_refused(tmp_path, tree):
    with pytest.raises(
        UserError, match='is not a valid checkpoint of such a run: it is .*; allowed: a table; remove it'
    ):
        newest(saved(tmp_path, tree), Ranks())


@pytest.mark.parametrize(
    ('change', 'fault'),
    [
        (lambda tree: tree['learner'].pop('average'), 'learner lacks average'),
        (lambda tree: tree['learner']['average'].popitem(), 'average of another network'),
        (lambda tree: tree['learner']['average'].update({'output.bias': np.zeros(9, 'f')}), 'average of another'),
        (lambda tree: tree['learner']['device_copies'].update({'output.bias': [np.zeros(9)]}), 'copies of output.bias'),
        (lambda tree: tree['record']['rows'][0].pop('val_top1'), r'record.rows\[0\] lacks val_top1'),
    ],
)
def test_another_jobs_is_refused_before_anything_changes(state, tmp_path, change, fault):
    changed = copy.deepcopy(state)
    change(changed)
    job, outputs = make(tmp_path / 'run', num_epochs=1, warmup_epochs=0, ema=0.9)
    before = parameters(job)
    with pytest.raises(UserError, match=rf'^x\.ckpt .*{fault}'):
        begin(job, changed, 'x.ckpt', SETTINGS, outputs.log)
    assert same(parameters(job), before)


@pytest.mark.parametrize('part', ['parameters', 'average'])
def test_what_is_not_finite_is_refused_by_its_name(state, tmp_path, part):
    """No run writes such a checkpoint, but another program may."""
    changed = copy.deepcopy(state)
    changed['learner'][part]['output.bias'][1] = np.nan
    job, outputs = make(tmp_path / 'run', num_epochs=1, warmup_epochs=0, ema=0.9)
    before = parameters(job)
    with pytest.raises(UserError, match=r'^x\.ckpt: output.bias holds NaN or infinity \(1 of its'):
        begin(job, changed, 'x.ckpt', SETTINGS, outputs.log)
    assert same(parameters(job), before)


@pytest.mark.parametrize('script', [train_cifar, train_imagenet, train_detection])
def test_flags_that_are_newer_than_the_run_are_told(script):
    parser = script.make_parser()
    settings = parser.parse(['--interpolation', 'plain'])
    values = resolved(parser, settings)
    assert new_settings(parser, settings, {'settings': values}) == []
    del values['interpolation'], values['keep']  # the second does not affect the result
    (told,) = new_settings(parser, settings, {'settings': values})
    assert told.startswith("--interpolation is newer than the run, and 'plain' from here on")
    assert new_settings(parser, settings, None) == []
    # A default that equals the earlier behaviour needs no mention, another one does.
    settings = parser.parse([])
    values = resolved(parser, settings)
    del values['interpolation'], values['accumulate']
    (told,) = new_settings(parser, settings, {'settings': values})
    assert told.startswith("--interpolation is newer than the run, and 'antialiased' from here on")
