"""The ingredients of a modern recipe in one run, which resumes with the same bits wherever it was stopped."""

import numpy as np
import pytest

from tests.training.test_loop import make, parameters, poison, same, untimed
from training.checkpoints.checkpoint import CheckpointStore
from training.checkpoints.position import Position
from training.checkpoints.resume import begin
from training.config.run import RunSettings
from training.loop import train

RECIPE = {
    'drop_path': 0.5,
    'optimizer': 'adamw',
    'lr': 0.01,
    'wd': 0.05,
    'accumulate': 2,
    'clip_norm': 1.0,
    'layer_decay': 0.8,
    'head_lr': 0.05,
    'cycle_epochs': 1,
    'cycle_decay': 0.5,
    'min_lr': 0.001,
    'warmup_epochs': 0,
    'warmup_steps': 2,
    'ema': 0.9,
    'checkpoint_interval': 1,
    'max_skipped': 2,
}


def finished(folder, path=None, **changes):
    """Run the recipe to its end, from a checkpoint of another run if one is given."""
    job, outputs = make(folder, **{**RECIPE, **changes})
    state = None
    if path is not None:
        outputs.store.folder.mkdir(parents=True)
        (outputs.store.folder / path.name).write_bytes(path.read_bytes())
        state, _ = outputs.store.load_newest()
    position = begin(job, state, path, RunSettings(resume=path is not None), lambda line: None)
    assert train(job, position, outputs)
    return job, position


@pytest.mark.parametrize('changes', [{}, {'optimizer': 'lamb', 'trust_clip': True}])
def test_it_resumes_with_the_same_bits(tmp_path, changes):
    job, position = finished(tmp_path / 'unbroken', **changes)
    assert position.step == 9  # 5 batches per epoch, of which two, two and one make a step
    paths = sorted(CheckpointStore(tmp_path / 'unbroken' / 'checkpoints').paths())
    assert len(paths) == 9
    for place, path in enumerate(paths[1:-1:3]):
        again, other = finished(tmp_path / str(place), path, **changes)
        assert same(parameters(again), parameters(job))
        assert untimed(other.rows) == untimed(position.rows)


@pytest.mark.parametrize('kind', ['adamw', 'lamb'])
def test_a_step_that_is_not_finite_leaves_no_trace(tmp_path, kind):
    """It is as if its batches had never come: moments, the number of steps and sums of gradients are as before."""
    job, outputs = make(tmp_path / 'run', **{**RECIPE, 'optimizer': kind, 'num_epochs': 1, 'cycle_epochs': 0})
    poison(job, 1, np.nan)
    position = Position()
    assert train(job, position, outputs)
    assert (position.skipped, position.step) == (1, 3)
    assert set(job.step.trainer.optimizer._index_update_count.values()) == {2}
    assert all(np.isfinite(array).all() for array in parameters(job).values())
