"""When a run validates, and when it ends: every few epochs, without improvement, after a time."""

import pytest

from tests.training.test_loop import make, parameters, same
from training.checkpoints.position import Position
from training.checkpoints.resume import begin
from training.config.flags import duration, seconds
from training.config.idle import unreached
from training.config.loss import LossSettings
from training.config.run import RunSettings
from training.config.schedule import ScheduleSettings
from training.logging.history import read_history
from training.loop import train

PLAIN = {'mixup': False, 'lr_mode': 'step', 'lr_decay_epoch': '', 'warmup_epochs': 0}


def scored(job, figures):
    """Make validations give these figures, one after the other."""
    own, figures = job.scores, iter(figures)
    job.scores = lambda job, epoch: {**own(job, epoch), 'val_top1': next(figures)}
    return job


def resumed(folder, figures=(), **changes):
    """Return the run in this folder, resumed."""
    job, outputs = make(folder, **changes)
    state, path = outputs.store.load_newest()
    scored(job, figures)
    position = begin(job, state, path, RunSettings(resume=True), lambda line: None)
    return job, position, train(job, position, outputs)


def test_every_second_epoch_and_the_last_are_validated(tmp_path):
    whole, outputs = make(tmp_path / 'whole', **PLAIN)
    first = Position()
    train(whole, first, outputs)
    job, outputs = make(tmp_path / 'run', val_interval=2, **PLAIN)
    outputs.save_period = 1
    position = Position()
    assert train(job, position, outputs)
    assert same(parameters(job), parameters(whole))  # validating changes nothing
    rows = read_history(tmp_path / 'run' / 'history.csv')
    assert [row['epoch'] for row in rows] == [2, 3]
    assert [row['val_top1'] for row in rows] == [row['val_top1'] for row in first.rows[1:]]
    both = [row['train_loss'] for row in first.rows[:2]]
    assert rows[0]['train_loss'] == pytest.approx(sum(both) / 2)  # over both epochs
    assert '[Epoch 1] loss=' in (tmp_path / 'run' / 'train.log').read_text()
    assert sorted(path.name for path in (tmp_path / 'run').glob('epoch-*.params')) == [
        'epoch-2.params',
        'epoch-3.params',
    ]
    # From a checkpoint between an epoch without validation and the next.
    names = sorted(path.name for path in (tmp_path / 'run' / 'checkpoints').iterdir())
    kept = next(name for name in names if 'epoch-001-batch-000002' in name)
    (tmp_path / 'again' / 'checkpoints').mkdir(parents=True)
    (tmp_path / 'again' / 'checkpoints' / kept).write_bytes((tmp_path / 'run' / 'checkpoints' / kept).read_bytes())
    again, outputs = make(tmp_path / 'again', val_interval=2, **PLAIN)
    state, path = outputs.store.load_newest()
    other = begin(again, state, path, RunSettings(resume=True), lambda line: None)
    assert train(again, other, outputs)
    assert same(parameters(again), parameters(job))
    assert [row['train_loss'] for row in other.rows] == [row['train_loss'] for row in position.rows]


def test_a_run_ends_for_want_of_a_better_figure_and_goes_on_with_more_patience(tmp_path):
    changes = {**PLAIN, 'num_epochs': 6}
    job, outputs = make(tmp_path / 'run', patience=2, **changes)
    scored(job, [0.3, 0.5, 0.5, 0.4])
    position = Position()
    assert train(job, position, outputs)
    assert position.epoch == 4
    assert (
        '2 validations without a better figure: the run ends after epoch 4' in (tmp_path / 'run/train.log').read_text()
    )
    again, position, done = resumed(tmp_path / 'run', patience=2, **changes)
    assert done
    assert position.epoch == 4
    assert same(parameters(again), parameters(job))
    _, position, done = resumed(tmp_path / 'run', [0.6, 0.1], patience=3, **changes)
    assert done
    assert position.epoch == 6


def test_what_never_bites_is_told():
    run = RunSettings(val_interval=3, patience=2)
    assert unreached(ScheduleSettings(num_epochs=3, lr_decay_epoch=''), LossSettings(), 5, run) == [
        '--val-interval 3: of the 3 epochs of this run only the last is validated',
        '--patience 2: the 3 epochs of this run cannot end early, with 1 validation(s)',
    ]
    run = RunSettings(val_interval=2, patience=2)
    assert not unreached(ScheduleSettings(num_epochs=6, lr_decay_epoch=''), LossSettings(), 5, run)


@pytest.mark.parametrize(('text', 'length'), [('45s', 45), ('90m', 5400), ('1.5h', 5400), ('2d', 172800)])
def test_times(text, length):
    assert seconds(duration(text)) == length


@pytest.mark.parametrize('text', ['', '90', 'h', '-1h', '0m', '1w', 'nanh', 'infh', '1 hour'])
def test_no_times(text):
    with pytest.raises(Exception, match='is not allowed; give a time such as 45s, 90m, 1.5h or 2d'):
        duration(text)
