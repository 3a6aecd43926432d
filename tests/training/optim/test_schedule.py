"""Learning rates against closed formulas, and against the original's published log."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.config.groups import ScheduleSettings
from training.optim.schedule import SHAPES, Schedule

LR = 0.075
# The README command of open-atac: 160 epochs of 5,004 steps, five of them warm-up.
PUBLISHED = Schedule('cosine', LR, 160, 5004, warmup_epochs=5)


# Its schedule counts 5,004 batches an epoch, its data gave 1,281,167 / 256 = 5,004.56 on average.
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
    """The formulas of the sheet, T and N counted as MXNet counts updates."""
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
