"""Steps that are not finite leave no trace, however late they are noticed; the loss scale; what stops a run."""

import json
import math
import re

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from tests.training.test_loop import make, parameters, poison, same
from training import loop
from training.checkpoints.checkpoint import read_checkpoint
from training.checkpoints.position import Position
from training.checkpoints.state import capture, restore
from training.logging.events import read_events
from training.logging.history import read_history
from training.loop import LAG, NonFinite, train
from training.optim.loss_scaler import LARGEST, SMALLEST, LossScaler
from training.optim.rollback import Rollback
from training.optim.trainer import states_of

# A constant learning rate, so that leaving out a step shifts nothing.
PLAIN = {'lr_mode': 'step', 'lr_decay_epoch': '', 'warmup_epochs': 0, 'max_skipped': 2}


def leave_out(job, at):
    """Leave out the steps `at` altogether."""
    batches = job.train_data.batches

    def others(epoch, start=0):
        for batch in batches(epoch, start):
            if epoch * len(job.train_data) + batch[0] not in at:
                yield batch

    job.train_data.batches = others


def leaves(tree):
    if isinstance(tree, dict):
        return [leaf for key in sorted(tree) for leaf in leaves(tree[key])]
    if isinstance(tree, list):
        return [leaf for child in tree for leaf in leaves(child)]
    return [tree.tobytes() if isinstance(tree, np.ndarray) else repr(tree)]


def state(job):
    """Return parameters, running statistics, and the optimizer's state and counts."""
    return leaves(capture(job.net, job.step.trainer))


@pytest.mark.parametrize(
    ('at', 'optimizer', 'devices'),
    [
        ((0,), 'nag', 2),
        ((1, 2), 'nag', 1),
        ((4, 5), 'muon', 1),
        ((4, 5), 'muon', 2),
        ((6, 8, 9), 'nag', 2),
        ((14,), 'nag', 1),
    ],
)
def test_a_skipped_step_leaves_no_trace(tmp_path, at, optimizer, devices):
    contexts = tuple(mx.cpu(device) for device in range(devices))
    size = {'contexts': contexts, 'batch_size': 8 // len(contexts), 'optimizer': optimizer}
    job, outputs = make(tmp_path / 'poisoned', **size, **PLAIN)
    for step in at:
        poison(job, step, np.nan)
    position = Position()
    assert train(job, position, outputs)
    assert position.skipped == len(at)
    other, silent = make(tmp_path / 'clean', **size, **PLAIN)
    leave_out(other, at)
    assert train(other, Position(), silent)
    assert state(job) == state(other)
    assert np.isfinite([row['train_loss'] for row in position.rows]).all()


@pytest.mark.parametrize('stride', [1, 3])
def test_however_far_the_last_state_lies_behind(tmp_path, monkeypatch, stride):
    monkeypatch.setattr(loop, 'LONGEST_STRIDE', stride)
    saves, save = [], Rollback.save
    monkeypatch.setattr(Rollback, 'save', lambda rollback: saves.append(0) or save(rollback))
    at = (3, 4, 8, 13)
    other, silent = make(tmp_path / 'clean', **PLAIN)
    leave_out(other, at)
    assert train(other, Position(), silent)
    left = len(other.train_data) * other.epochs - len(at)
    assert left / stride <= len(saves) <= left / stride + other.epochs
    job, outputs = make(tmp_path / 'poisoned', **PLAIN)
    for step in at:
        poison(job, step, np.nan)
    assert train(job, Position(), outputs)
    assert state(job) == state(other)


@pytest.mark.parametrize(('size', 'stride'), [(1, 8), (2**23, 8), (2**23 + 1, 7), (2**26, 1), (2**29, 1)])
def test_no_more_of_the_data_is_kept_than_memory_bears(tmp_path, monkeypatch, size, stride):
    job, outputs = make(tmp_path / 'run', **PLAIN)
    data = np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (size,), (0,))
    steps = loop.Steps(job, Position(), outputs, lambda: False)
    monkeypatch.setattr(steps, '_launched', lambda *step: step)
    steps.start(0, data, np.zeros(1))
    assert steps.stride == stride


def test_skipping_is_told_in_both_logs_and_outlives_a_resumption(tmp_path):
    job, outputs = make(tmp_path / 'run', **PLAIN)
    poison(job, 2, np.inf)
    train(job, Position(), outputs)
    log = (tmp_path / 'run' / 'train.log').read_text()
    assert re.search(r'the loss is nan at step 3 \(epoch 1, batch 3\) with a learning rate of 0\.05: skipped', log)
    events = [json.loads(line) for line in (tmp_path / 'run' / 'log.jsonl').read_text().splitlines()]
    assert [event['step'] for event in events if event['event'] == 'skipped'] == [3]
    path = sorted((tmp_path / 'run' / 'checkpoints').iterdir())[1]
    again, outputs = make(tmp_path / 'again', **PLAIN)
    (tmp_path / 'again' / 'checkpoints').mkdir()
    (tmp_path / 'again' / 'checkpoints' / path.name).write_bytes(path.read_bytes())
    loaded, _ = outputs.store.load_newest()
    restore(again.net, again.step.trainer, loaded['learner'])
    resumed = Position.from_tree(loaded['record'])
    assert resumed.skipped == 1
    train(again, resumed, outputs)
    assert state(again) == state(job)


@pytest.mark.parametrize(
    ('allowed', 'bad', 'stops'), [(2, (3, 4), None), (2, (3, 4, 5), 5), (2, (3, 4, 6, 7), None), (0, (7,), 7)]
)
def test_more_in_a_row_than_allowed_stop_the_run(tmp_path, allowed, bad, stops):
    job, outputs = make(tmp_path / 'run', **{**PLAIN, 'max_skipped': allowed})
    for step in bad:
        poison(job, step, np.nan)
    if stops is None:
        assert train(job, Position(), outputs)
        return
    with pytest.raises(NonFinite) as error:
        train(job, Position(), outputs)
    assert f'at step {stops + 1} ' in str(error.value)
    assert ('as in 2 steps before it' in str(error.value)) == (allowed == 2)
    assert all(np.isfinite(array).all() for array in parameters(job).values())


def test_a_gradient_that_is_not_finite_is_skipped_as_well(tmp_path):
    job, outputs = make(tmp_path / 'run', **PLAIN)
    backward, calls = autograd.backward, []

    def spoiled(heads, *args, **kwargs):
        backward(heads, *args, **kwargs)
        calls.append(0)
        if len(calls) == 4:
            job.net.output.weight.grad()[:] = np.inf

    position = Position()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(autograd, 'backward', spoiled)
        train(job, position, outputs)
    other, silent = make(tmp_path / 'clean', **PLAIN)
    leave_out(other, (3,))
    train(other, Position(), silent)
    assert position.skipped == 1
    assert state(job) == state(other)


def test_the_loss_scale_changes_no_bit_and_falls_where_it_overflows(tmp_path):
    plain, outputs = make(tmp_path / 'plain', **PLAIN)
    train(plain, Position(), outputs)
    scaled, outputs = make(tmp_path / 'scaled', **PLAIN)
    scaled.scaler = LossScaler(2.0**10, window=4, lag=LAG)
    train(scaled, Position(), outputs)
    assert scaled.scaler.scale > 2.0**10
    assert same(parameters(plain), parameters(scaled))
    # Overflows, here of the float32 sum of squares, halve the scale until it fits and have no other effect.
    high, outputs = make(tmp_path / 'high', **{**PLAIN, 'max_skipped': 0})
    high.scaler = LossScaler(2.0**70, lag=LAG)
    position = Position()
    train(high, position, outputs)
    assert position.skipped >= 1
    assert position.skipped_in_row == 0
    assert high.scaler.scale < 2.0**70
    assert 'skipped, the loss scale is ' in (tmp_path / 'high' / 'train.log').read_text()


def test_the_loss_scale_is_in_the_checkpoint(tmp_path):
    job, outputs = make(tmp_path / 'run', **PLAIN)
    job.scaler = LossScaler(2.0**8, window=3, lag=LAG)
    train(job, Position(), outputs)
    for place, path in enumerate(sorted((tmp_path / 'run' / 'checkpoints').iterdir())):
        again, outputs = make(tmp_path / str(place), **PLAIN)
        (tmp_path / str(place) / 'checkpoints').mkdir()
        (tmp_path / str(place) / 'checkpoints' / path.name).write_bytes(path.read_bytes())
        loaded, _ = outputs.store.load_newest()
        again.scaler = LossScaler(window=3, lag=LAG)
        again.scaler.set(loaded['learner']['loss_scale'])
        restore(again.net, again.step.trainer, loaded['learner'])
        train(again, Position.from_tree(loaded['record']), outputs)
        assert again.scaler.tree() == job.scaler.tree()
        assert state(again) == state(job)


def test_the_scale_of_a_step_depends_on_no_later_knowledge_than_the_lag():
    scaler = LossScaler(8.0, window=2, lag=2)
    scales = []
    for step in range(8):
        scales.append(scaler.of(step))
        scaler.good(step)  # at once, as before a checkpoint
    assert scales == [8, 8, 8, 8, 16, 16, 32, 32]
    assert scaler.bad(32.0)
    assert (scaler.scale, scaler.streak, scaler.grow_at) == (16.0, 0, [])
    assert not LossScaler(SMALLEST).bad(SMALLEST)
    large = LossScaler(LARGEST, window=1)
    large.good(0)
    assert large.of(1) == LARGEST


def test_float16_masters_are_part_of_what_is_undone():
    """float16's optimizer, with float32 masters and momentum: its update runs on a CPU, though most layers do not."""
    from mxnet import gluon

    from tests.training.flat import trainer_of

    net = gluon.nn.Dense(3, in_units=4)
    net.initialize()
    net.cast('float16')
    trainer = trainer_of(net, 0.1, 0.9, 1e-3, multi_precision=True)
    rollback = Rollback(net, trainer, 2)
    states = states_of(trainer)
    assert sorted(np.dtype(array.dtype).name for array in states) == ['float32'] * 4

    def update():
        for parameter in net.collect_params().values():
            parameter.data()._fresh_grad = True
            parameter.grad()[:] = 1e-4  # too small to change float16 weights, but not their masters
        trainer.step(1)

    update()
    before = state_of(net, trainer)
    slot = rollback.save()
    for _ in range(50):
        update()
    assert state_of(net, trainer) != before
    rollback.restore(slot)
    assert state_of(net, trainer) == before


def state_of(net, trainer):
    return leaves(capture(net, trainer))


def test_the_state_from_before_the_skipped_steps_stays_and_is_named(tmp_path):
    job, outputs = make(tmp_path / 'run', **{**PLAIN, 'max_skipped': 8, 'checkpoint_interval': 1})
    outputs.store.keep = 2
    for step in range(4, 15):
        poison(job, step, np.nan)
    with pytest.raises(NonFinite) as error:
        train(job, Position(), outputs)
    newest, _, good = outputs.store.paths()
    assert read_checkpoint(good)['record']['step'] == 4
    assert read_checkpoint(newest)['record']['skipped_in_row'] > 1
    assert f'the last good state is {good};' in str(error.value)

    job, outputs = make(tmp_path / 'run', **{**PLAIN, 'max_skipped': 0})  # after a kill, say
    poison(job, read_checkpoint(newest)['record']['step'], np.nan)
    with pytest.raises(NonFinite, match=re.escape(f'the last good state is {good};')):
        train(job, Position.from_tree(read_checkpoint(newest)['record']), outputs)


def test_an_epoch_without_a_step_has_no_loss(tmp_path):
    job, outputs = make(tmp_path / 'run', **{**PLAIN, 'max_skipped': 5, 'num_epochs': 2})
    for step in range(5):
        poison(job, step, np.nan)
    position = Position()
    assert train(job, position, outputs)
    first, second = read_history(outputs.folder.history)
    assert math.isnan(first['train_loss'])
    assert math.isnan(first['train_accuracy'])
    assert second['train_loss'] > 0
    assert [row['train_loss'] for row in read_events(outputs.folder.events) if row['event'] == 'epoch'][0] is None
