"""The moving average of the weights: its formula, what is validated and saved, and that resuming keeps it."""

import json

import numpy as np
import pytest

from environment import UserError
from model.parameters.file_format import read_params_file
from tests.training.test_loop import make, parameters, poison, same
from tests.training.test_skipping import PLAIN
from training.checkpoints.position import Position
from training.checkpoints.state import restore
from training.evaluate import evaluate
from training.loop import train
from training.optim.average import Average
from training.optim.layout import restore_plain_layout

DECAY = 0.8


def averaged(folder, **changes):
    return make(folder, ema=DECAY, **{**PLAIN, **changes})


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """Return a run with an average, and the weights after each of its steps."""
    folder = tmp_path_factory.mktemp('average') / 'run'
    job, outputs = averaged(folder)
    start, weights, update = parameters(job), [], job.average.update
    job.average.update = lambda step: (update(step), weights.append((step, parameters(job))))
    train(job, Position(), outputs)
    return folder, job, start, weights


def test_the_formula(finished):
    _, job, start, weights = finished
    assert [step for step, _ in weights] == list(range(15))
    tree = job.average.tree()
    assert set(tree) < set(start)
    assert {name for name in start if name.endswith('running_var') and name != 'features.0.running_var'} <= set(tree)
    for name, average in tree.items():
        expected = start[name].astype(np.float64)
        for step, values in weights:
            decay = min(DECAY, (1 + step) / (10 + step))
            expected = decay * expected + (1 - decay) * values[name]
        np.testing.assert_allclose(average, expected, rtol=1e-4, atol=1e-6, err_msg=name)


def test_training_itself_is_the_same(finished, tmp_path):
    job, outputs = make(tmp_path / 'plain', **PLAIN)
    train(job, Position(), outputs)
    assert same(parameters(job), parameters(finished[1]))


def test_the_average_is_validated_beside_the_weights_and_the_better_is_saved(finished):
    folder, job, _, _ = finished
    checkpoint = sorted((folder / 'checkpoints').iterdir())[-1]
    row = job_record(checkpoint)['rows'][-1]
    with job.average.applied():
        average = evaluate(job.program, job.val_data, job.contexts)
        restore_plain_layout(job.net)
    own = evaluate(job.program, job.val_data, job.contexts)
    restore_plain_layout(job.net)
    assert own.loss != average.loss
    assert (row['val_top1_average'], row['val_top1_own']) == (average.top1, own.top1)
    which, better = ('average', average) if average.top1 >= own.top1 else ('own', own)
    assert (row['val_loss'], row['val_top1']) == (better.loss, better.top1)
    header = (folder / 'history.csv').read_text().splitlines()[0]
    assert header.endswith('val_seconds,val_top1_average,val_top1_own,version')
    manifest = json.loads((folder / 'last.json').read_text())
    assert manifest['weights'] == which
    assert manifest['accuracy']['top1'] == row['val_top1']
    saved = read_params_file(folder / 'last.params')
    tree = job.average.tree() if which == 'average' else parameters(job)
    assert all(np.array_equal(saved[name], tree[name]) for name in tree)
    told = f'[Epoch {row["epoch"]}] Acc of the average of the weights {average.top1:.4f}, of the own weights'
    assert told in (folder / 'train.log').read_text()


@pytest.mark.parametrize('better', ['average', 'own'])
def test_the_better_one_is_in_the_network_while_it_is_saved(tmp_path, better):
    job, outputs = averaged(tmp_path / 'run', num_epochs=1, mixup=False)
    calls, scores = [], job.scores

    def scored(job, epoch):  # the network's own weights come first
        calls.append(parameters(job))
        top1 = {'average': [0.25, 0.5], 'own': [0.5, 0.25]}[better][len(calls) - 1]
        return {**scores(job, epoch), 'val_top1': top1}

    job.scores = scored
    train(job, Position(), outputs)
    own, average = calls
    assert not same(own, average)
    assert same(read_params_file(tmp_path / 'run' / 'best.params'), average if better == 'average' else own)
    assert json.loads((tmp_path / 'run' / 'best.json').read_text())['accuracy']['top1'] == 0.5
    assert same(parameters(job), own)


def job_record(checkpoint):
    from training.checkpoints.checkpoint import read_checkpoint

    return read_checkpoint(checkpoint)['record']


@pytest.mark.parametrize('place', [0, 4])
def test_resuming_goes_on_with_it(finished, tmp_path, place):
    folder, job, _, _ = finished
    path = sorted((folder / 'checkpoints').iterdir())[place]
    again, outputs = averaged(tmp_path / 'run')
    (tmp_path / 'run' / 'checkpoints').mkdir()
    (tmp_path / 'run' / 'checkpoints' / path.name).write_bytes(path.read_bytes())
    state, _ = outputs.store.load_newest()
    restore(again.net, again.step.trainer, state['learner'])
    again.average.set(state['learner']['average'], str(path))
    train(again, Position.from_tree(state['record']), outputs)
    assert same(again.average.tree(), job.average.tree())
    assert same(parameters(again), parameters(job))
    with pytest.raises(UserError, match='holds the average of another network'):
        again.average.set({}, 'FILE')


def test_a_skipped_step_leaves_no_trace_in_it(tmp_path):
    job, outputs = averaged(tmp_path / 'run', num_epochs=1, mixup=False)
    poison(job, 4, np.nan)
    before, update = [], job.average.update
    job.average.update = lambda step: (before.append(job.average.tree()), update(step))
    position = Position()
    train(job, position, outputs)
    assert position.skipped == 1
    assert same(job.average.tree(), before[4])


def test_a_decay_that_is_none():
    with pytest.raises(ValueError, match='allowed: between 0 and 1'):
        Average(None, None, 1.0)
