"""Learning rates against closed formulas, and against the original's published log."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from environment import UsageError
from training.config.schedule import ScheduleSettings
from training.optim.schedule import SHAPES, Schedule, make_schedule

LR = 0.075
# The README command of open-atac: 160 epochs of 5,004 steps, five of them warm-up.
PUBLISHED = Schedule('cosine', LR, 160, 5004, warmup_epochs=5)


# Its schedule counts 5,004 batches per epoch; its data gave 1,281,167 / 256 = 5,004.56 on average.
@pytest.mark.parametrize(
    ('epoch', 'batch', 'extra', 'logged'),
    [
        (0, 49, 0, '0.000150'),
        (4, 5003, 0, '0.075000'),
        (10, 49, 5, '0.074807'),
        (100, 49, 55, '0.024461'),
        (159, 5003, 0, '0.000000'),
    ],
)
def test_the_published_log(epoch, batch, extra, logged):
    assert f'{PUBLISHED(epoch * 5004 + batch + extra):f}' == logged


def closed(mode, step, lr, epochs, per_epoch, warmup, warmup_lr):
    """Compute the closed formulas, with T and N counted as MXNet counts updates."""
    update, warm = step + 1, warmup * per_epoch
    if update < warm:
        return warmup_lr + (lr - warmup_lr) * update / (warm - 1)
    left = epochs * per_epoch - warm
    if left == 0:
        return lr
    place = min(update - warm, left - 1) / max(left - 1, 1)
    return lr * (1 + math.cos(math.pi * place)) / 2 if mode == 'cosine' else lr * (1 - place) ** 2


@given(
    st.sampled_from(['cosine', 'poly']),
    st.integers(1, 9),
    st.integers(1, 7),
    st.integers(0, 9),
    st.floats(0, 0.01),
    st.data(),
)
def test_smooth_schedules_follow_their_formulas(mode, epochs, per_epoch, warmup, warmup_lr, data):
    warmup = min(warmup, epochs)
    schedule = Schedule(mode, 0.3, epochs, per_epoch, warmup, warmup_lr)
    step = data.draw(st.integers(0, epochs * per_epoch - 1))
    expected = closed(mode, step, 0.3, epochs, per_epoch, warmup, warmup_lr)
    assert schedule(step) == pytest.approx(expected, rel=1e-12, abs=1e-15)


@given(st.integers(1, 12), st.integers(1, 7), st.integers(0, 3), st.lists(st.integers(0, 12), max_size=4, unique=True))
def test_steps_fall_at_the_start_of_their_epoch(epochs, per_epoch, warmup, decay_epochs):
    warmup = min(warmup, epochs)
    schedule = Schedule('step', 0.2, epochs, per_epoch, warmup, decay=0.5, decay_epochs=decay_epochs)
    for step in range(warmup * per_epoch, epochs * per_epoch):
        fallen = sum(epoch <= step // per_epoch for epoch in decay_epochs)
        assert schedule(step) == pytest.approx(0.2 * 0.5**fallen)


def test_a_period_replaces_the_list():
    schedule = Schedule('step', 1.0, 7, 2, decay=0.1, decay_epochs=[1], decay_period=3)
    rates = [schedule(2 * epoch) for epoch in range(7)]
    assert rates == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01])


@given(st.sampled_from(SHAPES), st.lists(st.integers(0, 29), min_size=1, max_size=30))
def test_the_rate_depends_on_the_step_alone(mode, order):
    fresh = [Schedule(mode, 0.1, 6, 5, 2, 0.01, decay_epochs=[3])(step) for step in order]
    used = Schedule(mode, 0.1, 6, 5, 2, 0.01, decay_epochs=[3])
    assert [used(step) for step in order] == fresh


@pytest.mark.parametrize(
    ('arguments', 'complaint'),
    [
        (('linear', 0.1, 1, 1), 'step, cosine, poly'),
        (('step', 0.1, 0, 1), 'at least 1'),
        (('step', 0.1, 1, 0), 'at least 1'),
        (('cosine', 0.1, 3, 1, 4), '0 to the number of epochs, 3'),
    ],
)
def test_settings_that_make_no_schedule(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        Schedule(*arguments)


def test_epoch_lists():
    assert ScheduleSettings(lr_decay_epoch='60, 40').decay_epochs == [40, 60]
    assert ScheduleSettings(lr_decay_epoch='').decay_epochs == []


# From timm 1.0.31's CosineLRScheduler, every third step from the end of the warm-up, base rate 0.3.
TIMMS = json.loads((Path(__file__).parent / 'cosine.json').read_text())
OPTIONS = {
    'plain': {'cycle_epochs': 4},
    'growing': {'cycle_epochs': 2, 'cycle_mult': 2.0, 'cycle_decay': 0.5, 'min_lr': 0.01, 'steps_per_epoch': 4},
    'after a warm-up': {'cycle_epochs': 2, 'cycle_decay': 0.8, 'warmup_steps': 6},
}


@pytest.mark.parametrize('case', TIMMS)
def test_a_cosine_that_begins_anew_is_timms(case):
    options, expected = OPTIONS[case], TIMMS[case]
    schedule = Schedule('cosine', 0.3, 10, **{'steps_per_epoch': 5, **options})
    first = options.get('warmup_steps', 0)
    assert [schedule(step) for step in range(first, 40, 3)] == pytest.approx(expected, abs=1e-9)


@given(st.sampled_from(['cosine', 'poly']), st.integers(1, 6), st.integers(1, 7), st.integers(0, 40))
def test_a_warm_up_by_steps_is_one_by_epochs_where_it_is_as_long(mode, epochs, per_epoch, warmup):
    warmup = min(warmup, epochs)
    one = Schedule(mode, 0.3, epochs, per_epoch, warmup, 0.01)
    other = Schedule(mode, 0.3, epochs, per_epoch, warmup_steps=warmup * per_epoch, warmup_lr=0.01)
    steps = range(epochs * per_epoch)
    assert [one(step) for step in steps] == [other(step) for step in steps]


def test_a_warm_up_by_steps_within_an_epoch():
    schedule = Schedule('step', 1.0, 2, 10, warmup_steps=5, decay_epochs=[1], decay=0.1)
    assert [schedule(step) for step in range(20)] == pytest.approx([0.25, 0.5, 0.75, 1, 1] + 5 * [1] + 10 * [0.1])
    assert Schedule('cosine', 1.0, 1, 4, warmup_steps=8)(3) == pytest.approx(4 / 7)  # longer than the run


@pytest.mark.parametrize('mode', SHAPES)
def test_the_rate_ends_at_its_minimum(mode):
    schedule = Schedule(mode, 0.3, 5, 4, 1, min_lr=0.02, decay_epochs=[2, 3, 4])
    rates = [schedule(step) for step in range(4, 20)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == pytest.approx(0.3, rel=0.2)
    assert rates[-1] == pytest.approx(0.02)


def test_mmdetections_warm_up_by_steps_or_epochs():
    by_steps = Schedule('step', 0.3, 3, 4, warmup_steps=8, warmup_ratio=0.25, decay_epochs=[1])
    by_epochs = Schedule('step', 0.3, 3, 4, warmup_epochs=2, warmup_steps=500, warmup_ratio=0.25, decay_epochs=[1])
    expected = [0.3 * (0.1 if t >= 4 else 1) * min(1, 0.25 + 0.75 * t / 8) for t in range(12)]
    assert [by_steps(t) for t in range(12)] == pytest.approx(expected) == [by_epochs(t) for t in range(12)]


def test_a_minimum_above_the_rate_is_refused():
    with pytest.raises(UsageError, match='--min-lr is 0.5; allowed: 0 to --lr, which is 0.1'):
        make_schedule(ScheduleSettings(min_lr=0.5), 10)
    scaled = make_schedule(ScheduleSettings(lr=0.2, min_lr=0.1, scale_lr=100), 10, images=50)
    assert (scaled.lr, scaled.min_lr) == (0.1, 0.05)
