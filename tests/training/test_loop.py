"""The training loop, in this process: what it computes, that it resumes with the same bits, and when it stops."""

import io
import json
import re

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from data.classification.dataset import ImageDataset
from data.preprocessing import Preprocessing
from model.hybridization import MODES
from tests.training.flat import settings_of
from training import seeds
from training.checkpoints.checkpoint import CheckpointStore
from training.checkpoints.position import Position
from training.checkpoints.state import restore
from training.config.run_folder import RunFolder
from training.logging.history import TIMES, read_history
from training.logging.outputs import Outputs
from training.logging.text_log import RunLog
from training.loop import NonFinite, train
from training.step import uses_random_numbers
from training.task import Network, RunData, fastest_mode_of
from training.tasks.cifar import CifarTask, loaders

SIZE, CLASSES = 16, 4
CPU = (mx.cpu(),)
DEFAULTS = {
    'seed': 5,
    'lr': 0.05,
    'momentum': 0.9,
    'wd': 1e-4,
    'no_wd': True,
    'no_wd_depthwise': False,
    'wd_layer_norm': False,
    'label_smoothing': 0.1,
    'mixup': True,
    'mixup_alpha': 0.2,
    'mixup_off_epoch': 1,
    'num_epochs': 3,
    'lr_mode': 'cosine',
    'lr_decay': 0.1,
    'lr_decay_epoch': '1',
    'lr_decay_period': 0,
    'warmup_epochs': 1,
    'warmup_lr': 0.0,
    'checkpoint_interval': 2,
    'batch_size': 8,
    'limit_train': None,
    'limit_val': None,
    'optimizer': 'nag',
    'muon_scale': 0.2,
    'max_skipped': 0,
    'ema': None,
    'scale_lr': None,
}


def dataset(count, seed):
    """Return images of classes that a network can tell apart: one bright quadrant each."""
    random = np.random.RandomState(seed)
    labels = np.arange(count) % CLASSES
    images = random.randint(0, 120, (count, SIZE, SIZE, 3)).astype(np.uint8)
    for image, label in zip(images, labels):
        top, left = SIZE // 2 * (label // 2), SIZE // 2 * (label % 2)
        image[top : top + SIZE // 2, left : left + SIZE // 2] += 100
    preprocessing = Preprocessing(SIZE, (0.3,) * 3, (0.2,) * 3)
    return ImageDataset(images, labels, tuple('abcd'), 'quadrants', 'train', preprocessing)


TRAIN, VAL = dataset(44, 0), dataset(21, 1)


class Quadrants(CifarTask):
    """A task with this file's images and a small network in place of those that flags name."""

    def load(self):
        return RunData(
            *loaders(self.settings, TRAIN, VAL, len(self.devices), self.ranks),
            TRAIN.name,
            TRAIN.class_names,
            TRAIN.preprocessing,
            len(TRAIN),
            len(VAL),
        )


def quadrants(contexts=CPU, drop=0.3, ranks=None, drop_path=0.0, **changes):
    """Return a task with all sorts of randomness, ready to make jobs."""
    task = Quadrants(settings_of(**{**DEFAULTS, **changes}), contexts, ranks)
    options = {'channels': (4, 4, 8, 12), 'classes': CLASSES, 'final_drop': drop, 'drop_path': drop_path}
    task.assign(task.load(), Network('cifar_atac_resnet8_v2', options), None)
    return task


def make(folder, mode='static', contexts=CPU, drop=0.3, **changes):
    """Return a job with all sorts of randomness, and its outputs."""
    job = quadrants(contexts, drop, **changes).job(mode)
    run = RunFolder(folder)
    folder.mkdir(exist_ok=True)
    outputs = Outputs(run, CheckpointStore(run.checkpoints, 99), RunLog(run.log), {'a': 1})
    return job, outputs


def parameters(job):
    return {name: p.data(job.contexts[0]).asnumpy() for name, p in job.net._collect_params_with_prefix().items()}


def same(first, second):
    return first.keys() == second.keys() and all(first[k].tobytes() == second[k].tobytes() for k in first)


def untimed(rows):
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


@pytest.fixture(scope='module')
def unbroken(tmp_path_factory):
    """Return a run that was never interrupted: its folder, job and position."""
    folder = tmp_path_factory.mktemp('runs') / 'unbroken'
    job, outputs = make(folder)
    position = Position()
    assert train(job, position, outputs)
    return folder, job, position


def test_it_learns_and_keeps_a_record(unbroken):
    folder, job, position = unbroken
    assert (position.epoch, position.batch, position.step) == (3, 0, 15)
    assert position.rows[-1]['train_loss'] < position.rows[0]['train_loss']
    history = read_history(folder / 'history.csv')
    assert [row['epoch'] for row in history] == [1, 2, 3]
    assert history[-1]['lr'] == job.schedule(14) == 0.0
    assert (folder / 'history.png').stat().st_size > 5000
    lines = (folder / 'train.log').read_text().splitlines()
    assert all(re.match(rf'\[Epoch {i}\] train=', line) for i, line in enumerate(lines, 1))
    assert {path.name for path in folder.glob('*.params')} == {'best.params', 'last.params'}
    assert position.best_files == ['best.params']
    best, last = (json.loads((folder / f'{name}.json').read_text()) for name in ('best', 'last'))
    assert best['accuracy']['top1'] == position.best('val_top1') == position.rows[best['epoch'] - 1]['val_top1']
    assert (last['epoch'], last['accuracy']['top1']) == (3, position.rows[2]['val_top1'])
    names = [path.name for path in CheckpointStore(folder / 'checkpoints').paths()]
    assert len(names) == 9  # after batches 2 and 4 of 5, and after the epoch


@pytest.mark.parametrize('place', range(9))
def test_resuming_from_any_checkpoint_ends_with_the_same_bits(unbroken, tmp_path, place):
    folder, finished, position = unbroken
    path = sorted((folder / 'checkpoints').iterdir())[place]
    (tmp_path / 'run' / 'checkpoints').mkdir(parents=True)
    (tmp_path / 'run' / 'checkpoints' / path.name).write_bytes(path.read_bytes())
    job, outputs = make(tmp_path / 'run')
    state, _ = outputs.store.load_newest()
    restore(job.net, job.step.trainer, state['learner'])
    resumed = Position.from_tree(state['record'])
    assert train(job, resumed, outputs)
    assert same(parameters(job), parameters(finished))
    assert untimed(resumed.rows) == untimed(position.rows)
    assert untimed(read_history(tmp_path / 'run' / 'history.csv')) == untimed(position.rows)


@pytest.mark.parametrize('mode', ['imperative', 'hybrid'])
def test_all_modes_train_alike(unbroken, tmp_path, mode):
    job, outputs = make(tmp_path / mode, mode=mode)
    position = Position()
    train(job, position, outputs)
    for name, array in parameters(job).items():
        np.testing.assert_allclose(array, parameters(unbroken[1])[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('after', [1, 5, 7])
def test_a_request_to_stop_ends_the_batch_and_saves(unbroken, tmp_path, after):
    calls = iter([False] * (after - 1) + [True] * 99)
    job, outputs = make(tmp_path / 'run')
    position = Position()
    assert not train(job, position, outputs, lambda: next(calls))
    state, path = outputs.store.load_newest()
    assert state['record'] == position.tree()
    assert position.step == after - (1 if after > 5 else 0)  # one call comes between epochs
    again, outputs = make(tmp_path / 'run')
    restore(again.net, again.step.trainer, state['learner'])
    resumed = Position.from_tree(state['record'])
    assert train(again, resumed, outputs)
    assert same(parameters(again), parameters(unbroken[1]))


def test_the_step_is_by_the_mean_over_the_whole_batch_on_any_devices(tmp_path):
    """This holds without batch norm, which would only see its own slice of the batch."""
    from mxnet import gluon

    from tests.training.flat import trainer_of
    from training.loss import Criterion
    from training.step import TrainingStep, build_network

    def trained(contexts):
        net = build_network(lambda: gluon.nn.Dense(CLASSES, in_units=3 * SIZE * SIZE), 0, contexts, SIZE)
        step = TrainingStep(net, trainer_of(net, 0.1, 0.9, 1e-3, devices=len(contexts)), Criterion(CLASSES), contexts)
        random = np.random.RandomState(0)
        sums = []
        for _ in range(3):
            results = step(random.randn(7, 3, SIZE, SIZE).astype('float32'), random.randint(0, CLASSES, 7))
            sums.append(np.sum([part.asnumpy() for part in results], axis=0)[:2])
        return net.weight.data(contexts[0]).asnumpy(), np.array(sums)

    one, two = trained([mx.cpu(0)]), trained([mx.cpu(0), mx.cpu(1)])
    np.testing.assert_allclose(one[0], two[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(one[1], two[1], rtol=1e-5)


def test_two_devices_resume_with_the_same_bits(tmp_path):
    contexts = (mx.cpu(0), mx.cpu(1))
    job, outputs = make(tmp_path / 'run', contexts=contexts, batch_size=4, num_epochs=2, mixup_off_epoch=0)
    train(job, Position(), outputs)
    path = sorted((tmp_path / 'run' / 'checkpoints').iterdir())[0]
    again, outputs = make(tmp_path / 'again', contexts=contexts, batch_size=4, num_epochs=2, mixup_off_epoch=0)
    (tmp_path / 'again' / 'checkpoints').mkdir()
    (tmp_path / 'again' / 'checkpoints' / path.name).write_bytes(path.read_bytes())
    state, _ = outputs.store.load_newest()
    restore(again.net, again.step.trainer, state['learner'])
    train(again, Position.from_tree(state['record']), outputs)
    assert same(parameters(job), parameters(again))


def test_seeds_make_the_run(unbroken, tmp_path):
    job, outputs = make(tmp_path / 'other', seed=6)
    train(job, Position(), outputs)
    assert not same(parameters(job), parameters(unbroken[1]))


def poison(job, at, value):
    """Make the images of step `at` infinite or NaN."""
    batches = job.train_data.batches

    def poisoned(epoch, start=0):
        for index, data, labels, count in batches(epoch, start):
            if epoch * len(job.train_data) + index == at:
                data = np.full_like(data, value)
            yield index, data, labels, count

    job.train_data.batches = poisoned


@pytest.mark.parametrize(('at', 'checkpoints'), [(0, 0), (3, 1), (4, 2), (6, 3)])
def test_a_step_that_is_not_finite_stops_the_run(tmp_path, at, checkpoints):
    job, outputs = make(tmp_path / 'run')
    poison(job, at, np.nan)
    with pytest.raises(NonFinite) as error:
        train(job, Position(), outputs)
    lr = job.schedule(at)
    assert f'at step {at + 1} (epoch {at // 5 + 1}, batch {at % 5 + 1}) with a learning rate of {lr:g}' in str(
        error.value
    )
    paths = outputs.store.paths()
    assert len(paths) == checkpoints
    assert (f'the last good state is {paths[0]}' if paths else 'no good state before it') in str(error.value)
    assert ('--resume-from' in str(error.value)) == bool(paths)
    if paths:  # the files on disk are older than that
        restored, _ = make(tmp_path / 'other')
        state = CheckpointStore(tmp_path / 'run' / 'checkpoints').load_newest()[0]
        restore(restored.net, restored.step.trainer, state['learner'])
        assert all(np.isfinite(array).all() for array in parameters(restored).values())


def test_parameters_that_are_not_finite_never_reach_the_disk(tmp_path):
    job, outputs = make(tmp_path / 'run', checkpoint_interval=0, num_epochs=1, warmup_epochs=0, mixup=False)
    original = job.step

    def ruin(*args):
        results = original(*args)
        if ruin.calls == 4:
            job.net.output.bias.set_data(mx.nd.full((CLASSES,), np.inf))
        ruin.calls += 1
        return results

    ruin.calls, ruin.trainer = 0, original.trainer
    job.step = ruin
    with pytest.raises(NonFinite, match=r'the parameter output\.bias is not finite after step 5'):
        train(job, Position(), outputs)
    assert sorted(path.name for path in (tmp_path / 'run').iterdir()) == []


def test_a_gradient_that_is_not_finite_is_noticed(tmp_path):
    job, outputs = make(tmp_path / 'run', drop=0.0)
    grad = job.net.output.weight
    backward = autograd.backward

    def spoiled(heads, *args, **kwargs):
        backward(heads, *args, **kwargs)
        grad.grad()[:] = np.inf

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(autograd, 'backward', spoiled)
        with pytest.raises(NonFinite, match='the gradient is not finite at step 1 '):
            train(job, Position(), outputs)


def test_dropout_is_seen_and_seeded(tmp_path):
    with_drop, _ = make(tmp_path / 'a')
    without, _ = make(tmp_path / 'b', drop=0.0)
    assert (with_drop.random, without.random) == (True, False)
    assert uses_random_numbers(with_drop.net)
    assert seeds.derive(5, 'step', 0, 1) != seeds.derive(5, 'step', 1, 0)


def test_older_bests_go_and_foreign_files_stay(tmp_path):
    job, outputs = make(tmp_path / 'run')
    foreign = tmp_path / 'run' / '0.9-cifar-somebody-1-best.params'
    foreign.write_bytes(b'x')
    old = tmp_path / 'run' / '0.1-cifar-net-0-best.params'
    old.write_bytes(b'x')
    old.with_suffix('.json').write_text('{}')
    position = Position(best_files=[old.name, 'best.params'])
    outputs.remove_old_bests(position)
    assert foreign.exists()
    assert not old.exists()
    assert not old.with_suffix('.json').exists()
    assert position.best_files == ['best.params']


def test_auto_measures_every_mode_and_changes_nothing(unbroken, tmp_path):
    mode, speeds = fastest_mode_of(quadrants(), 8)
    assert set(speeds) == set(MODES)
    assert speeds[mode] == max(speeds.values())
    job, outputs = make(tmp_path / 'run')
    train(job, Position(), outputs)
    assert same(parameters(job), parameters(unbroken[1]))


def test_a_bar_is_drawn_on_a_terminal(tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr('sys.stderr', terminal)
    job, outputs = make(tmp_path / 'run', num_epochs=1, warmup_epochs=0, mixup=False)
    train(job, Position(), outputs)
    assert 'epoch 1 of 1' in terminal.getvalue()
