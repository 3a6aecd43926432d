"""The detection command: every flag has an effect, killed runs end like unbroken ones, mistakes give one sentence."""

import hashlib
import json
import shlex
import signal
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest

import train_detection
from detection.task import DetectionTask
from environment import UsageError, UserError
from model import get_model, save_params
from model.parameters.file_format import read_params_file
from tests.detection.data import write_coco
from tests.training import jobs, killing
from training.checkpoints.position import Position
from training.logging.curves import draw_curves
from training.logging.events import read_events
from training.logging.history import read_history, write_history
from training.logging.metrics import DETECTION
from training.loop import NonFinite
from training.optim.schedule import make_schedule

BACKBONE = 'se_resnet18_v1b'
NETWORK = (
    f'--model retinanet_{BACKBONE} --option channels=8,head_convolutions=1 --short 48 --max-size 64 -j 1 --no-report'
)
SCRATCH = '--frozen-stages 0 --train-norms'
BASE = f'{NETWORK} {SCRATCH} --batch-size 2 --num-epochs 1 --limit-train 6 --limit-val 2 --warmup-steps 2 --lr 0.004'


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return write_coco(tmp_path_factory.mktemp('data') / 'shapes')


class Run:
    """Return a finished run in a folder of its own."""

    def __init__(self, data, folder, flags):
        self.folder = folder
        argv = [*shlex.split(flags), '--data-dir', str(data), '--save-dir', str(folder), '--json', f'{folder}.json']
        assert train_detection.main(argv) == 0
        self.figures = json.loads(Path(f'{folder}.json').read_text())
        self.params = Path(self.figures['params'])
        self.manifest = json.loads(self.params.with_suffix('.json').read_text())
        self.digest = hashlib.sha256(self.params.read_bytes()).hexdigest()
        self.history = read_history(folder / 'history.csv')
        self.log = (folder / 'train.log').read_text()


@pytest.fixture(scope='module')
def run(data, tmp_path_factory):
    """Return `run(flags)`, which trains with them, once for each set of flags."""
    known = {}

    def once(flags):
        if flags not in known:
            known[flags] = Run(data, tmp_path_factory.mktemp('runs') / 'run', flags)
        return known[flags]

    return once


def digest(parameters):
    return hashlib.sha256(b''.join(array.tobytes() for _, array in sorted(parameters.items()))).hexdigest()


@pytest.fixture(scope='module')
def learned(data):
    """Return `learned(flags)`, which gives the parameters after three steps with them."""
    base = []

    def once(flags):
        if flags != BASE or not base:
            settings = train_detection.make_parser().parse([*shlex.split(flags), '--data-dir', str(data)])
            task = DetectionTask(settings, [mx.cpu()])
            images = task.load()
            task.assign(images, task.choose(images.classes), print)
            job = task.job(task.mode)
            for step, (_, pixels, targets, _) in zip(range(3), images.train.batches(0)):
                job.step.trainer.set_learning_rate(job.schedule(step))
                job.step(pixels, targets)
            parameters = job.net._collect_params_with_prefix()
            values = {name: parameter.data().asnumpy() for name, parameter in parameters.items()}
            if flags != BASE:
                return values  # not kept: a network's parameters for each flag would be a gigabyte
            base.append(values)
        return base[0]

    return once


@pytest.fixture(scope='module')
def classifier(tmp_path_factory):
    """Return parameters of the backbone as a classifier with another number of classes."""
    mx.random.seed(3)
    net = get_model(BACKBONE, classes=5)
    net.initialize(mx.init.MSRAPrelu())
    with mx.autograd.record():
        net(mx.nd.random.normal(shape=(2, 3, 64, 64))).backward()
    path = tmp_path_factory.mktemp('classifier') / 'net.params'
    save_params(net, path, {'model': BACKBONE, 'model_kwargs': {'classes': 5}, 'classes': 5})
    return path


def test_a_run_leaves_what_a_classifiers_run_leaves(run):
    done = run(BASE)
    assert done.manifest['task'] == 'detection'
    assert done.manifest['class_names'] == ['red', 'green', 'blue']
    assert done.manifest['categories'] == [2, 3, 7]
    assert done.manifest['model_kwargs'] == {'classes': 3, 'channels': 8, 'head_convolutions': 1}
    assert done.manifest['preprocessing']['short'] == 48
    assert set(done.manifest['accuracy']) == {'ap', 'ap50', 'ap75', 'aps', 'apm', 'apl'}
    assert tuple(done.history[0]) == DETECTION.columns
    assert (
        done.figures['ap'] == done.manifest['accuracy']['ap'] == done.history[-1]['val_ap'] == done.figures['best_ap']
    )
    assert 'instances_train: 6 images to train on, 2 to validate on, 3 classes' in done.log
    assert '[Epoch 1] validation: AP=' in done.log
    events = [event['event'] for event in read_events(done.folder / 'log.jsonl')]
    assert events == ['epoch']
    assert (done.folder / 'history.png').read_bytes()[:4] == b'\x89PNG'
    assert list((done.folder / 'checkpoints').glob('*.ckpt'))


@pytest.mark.parametrize(
    'flags',
    [
        '--short 32',
        '--max-size 48',
        '--no-flip',
        '--interpolation plain',
        '--categories red,blue',
        '--batch-size 1',
        '--seed 1',
        '--lr 0.002',
        '--warmup-steps 0',
        '--warmup-ratio 0.9',
        '--clip-norm 0.01',
        '--clip-norm 0 --lr-mode cosine',
        '--lr-mode cosine --min-lr 0.001 --warmup-epochs 1',
        '--accumulate 2',
        '--layer-decay 0.5',
        '--head-lr 0.001',
        '--optimizer adamw',
        '--optimizer nag',
        '--wd 0.1',
        '--scale-lr 16',
    ],
)
def test_flags_change_what_is_learned(learned, flags):
    assert digest(learned(f'{BASE} {flags}')) != digest(learned(BASE))


def test_op_by_op_it_learns_nearly_the_same(learned):
    graph, plain = learned(BASE), learned(f'{BASE} --mode imperative')
    for name, array in graph.items():
        np.testing.assert_allclose(plain[name], array, rtol=1e-2, atol=1e-3, err_msg=name)


def test_the_same_flags_learn_the_same(run, data, tmp_path):
    again = Run(data, tmp_path / 'again', f'{BASE} -j 3 --log-interval 2 --checkpoint-interval 2 --save-period 1')
    assert again.digest == run(BASE).digest
    assert 'Epoch[1] Batch [2]\tSpeed: ' in again.log
    assert '\tloss=' in again.log
    assert len(list((again.folder / 'checkpoints').glob('*.ckpt'))) == 2


def test_starting_from_a_classifier_with_the_published_freezing(learned, classifier):
    """The stem, the first stage and all statistics stay as they are; the rest is trained."""
    flags = BASE.replace(SCRATCH, f'--backbone-params {classifier}')
    before = {name: array for name, array in read_params_file(classifier).items() if not name.startswith('fc.')}
    after, free = learned(flags), learned(f'{flags} {SCRATCH}')
    same = {name for name, array in before.items() if (after[f'backbone.{name}'] == array).all()}
    stays = ('conv1', 'bn1', 'layer1'), ('running_mean', 'running_var')
    assert same == {name for name in before if name.startswith(stays[0]) or name.endswith(stays[1])}
    assert same < set(before)
    assert all((free[f'backbone.{name}'] != array).any() for name, array in before.items())
    statistics = learned(flags + ' --train-norms')  # and the first stage still stays as it is
    changed = {name for name, array in before.items() if (statistics[f'backbone.{name}'] != array).any()}
    assert {name for name in changed if name.startswith(stays[0])} == set()
    assert any(name.endswith('running_mean') for name in changed)


def test_starting_from_a_detector(run, learned):
    first = run(BASE)
    after = learned(f'{BASE} --init-params {first.params} --lr 1e-12')
    for name, array in read_params_file(first.params).items():
        if not name.endswith(('running_mean', 'running_var')):
            np.testing.assert_allclose(after[name], array, atol=1e-6)


def test_the_schedule_is_mmdetections():
    settings = train_detection.make_parser().parse([])
    schedule = make_schedule(settings.schedule, steps_per_epoch=1000)
    assert schedule(0) == pytest.approx(0.01 / 3)
    assert schedule(250) == pytest.approx(0.01 * (1 / 3 + 2 / 3 / 2))
    assert [schedule(step) for step in (500, 15999, 16000, 21999, 22000, 23999)] == pytest.approx(
        [0.01, 0.01, 0.001, 0.001, 0.0001, 0.0001]
    )
    data, optimizer, network = settings.data, settings.optimizer, settings.network
    assert (data.short, data.max_size, data.batch_size, settings.gradient.clip_norm) == (800, 1333, 2, 35)
    assert (optimizer.momentum, optimizer.wd, optimizer.optimizer) == (0.9, 1e-4, 'sgd')
    assert (settings.schedule.num_epochs, network.frozen_stages, network.train_norms) == (24, 1, False)


@pytest.mark.parametrize(
    ('flags', 'error', 'sentence'),
    [
        (
            '',
            UsageError,
            'there is nothing to start from, .*; give --backbone-params FILE or --use-pretrained, or --fr',
        ),
        (f'{SCRATCH} --model yolo_resnet50_v1b', UsageError, '--model: yolo_resnet50_v1b is not a detector'),
        (f'{SCRATCH} --option width=3', UsageError, '--model: .*width'),
        (f'{SCRATCH} --frozen-stages 5', UsageError, "'5' is not allowed; allowed: whole numbers from 0 to 4"),
        (f'{SCRATCH} --short 900 --max-size 800', UsageError, '--short or --max-size: max_size 800'),
        (f'{SCRATCH} --batch-size 99 --categories pink', UsageError, "no category 'pink'"),
        (f'{SCRATCH} --init-params a --backbone-params b', UsageError, '--init-params and --backbone-params both say'),
        (f'{SCRATCH} --backbone-params none.params', UserError, 'none.params'),
        (f'{SCRATCH} --train-annotations none.json', UserError, 'cannot read none.json'),
        (f'{SCRATCH} --val-images nowhere', UserError, 'cannot read the folder of images nowhere'),
        (f'{SCRATCH} --use-pretrained', UsageError, '--use-pretrained best: .*; --backbone-params takes any file'),
        (f'{SCRATCH} --dtype float16', UsageError, 'there is no flag --dtype'),
    ],
)
def test_mistakes_are_one_sentence_before_there_is_a_folder(data, tmp_path, flags, error, sentence):
    argv = [*shlex.split(f'{NETWORK} {flags}'), '--data-dir', str(data), '--save-dir', str(tmp_path / 'run')]
    with pytest.raises(error, match=sentence) as raised:
        train_detection.main(argv)
    assert '\n' not in str(raised.value)
    assert not (tmp_path / 'run').exists()


def test_the_way_back_has_the_scripts_own_flags(data, tmp_path):
    flags = BASE.replace('--lr 0.004', '--lr 1e30').replace('--warmup-steps 2', '--warmup-steps 0')
    argv = [*shlex.split(f'{flags} --checkpoint-interval 1 --max-skipped 0'), '--data-dir', str(data)]
    with pytest.raises(NonFinite, match='a longer --warmup-steps, from that state with --resume-from$'):
        train_detection.main([*argv, '--save-dir', str(tmp_path / 'run')])


def test_what_is_wrong_with_the_data_is_told_in_the_log(tmp_path):
    data = write_coco(tmp_path / 'shapes', train=7, val=2)
    path = data / 'annotations' / 'instances_train.json'
    content = json.loads(path.read_text())
    content['annotations'][0]['bbox'][2] = 0
    content['annotations'][-1]['category_id'] = 99
    path.write_text(json.dumps(content))
    (data / 'train' / '2.png').write_bytes(b'no image')
    flags = BASE.replace('--limit-train 6', '') + ' --no-report'
    done = Run(data, tmp_path / 'run', flags)
    assert 'instances_train.json: 1 empty boxes, left out (such as [' in done.log
    assert 'instances_train.json: 1 annotations of unknown categories, left out (such as category 99 in ' in done.log
    assert '1 damaged images so far, the first: ' in done.log
    with pytest.raises(UserError, match='1 images of instances_train cannot be used, and --max-bad 0 '):
        Run(data, tmp_path / 'strict', f'{flags} --max-bad 0')


def test_curves_and_the_best_epoch_are_those_of_average_precision(tmp_path):
    figures = enumerate((0.1, 0.3, 0.2))
    rows = [{**dict.fromkeys(DETECTION.columns, figure), 'epoch': i, 'step': i} for i, figure in figures]
    draw_curves(tmp_path / 'curves.png', rows, 'a run')
    assert (tmp_path / 'curves.png').read_bytes()[:4] == b'\x89PNG'
    assert Position(rows=rows).best('val_ap') == 0.3
    write_history(tmp_path / 'history.csv', rows, DETECTION)
    assert read_history(tmp_path / 'history.csv') == rows


LONG = f'{NETWORK} {SCRATCH} --batch-size 2 --num-epochs 2 --warmup-steps 4 --lr 0.004 --checkpoint-interval 2'.split()


def start(data, folder, *flags):
    script = ['train_detection.py', *LONG, '--data-dir', str(data), '--save-dir', str(folder), *flags]
    return jobs.start(data, folder, script=script)


@pytest.mark.heavy
def test_stopped_it_ends_with_the_bits_of_an_unbroken_run(data, tmp_path):
    whole, broken = tmp_path / 'whole', tmp_path / 'broken'
    assert jobs.wait(start(data, whole), whole) == 0, killing.said(whole)
    job = start(data, broken)
    jobs.wait_for_checkpoint(broken, job, 2)
    job.send_signal(signal.SIGTERM)
    assert jobs.wait(job, broken) in (143, 0), killing.said(broken)
    assert jobs.wait(start(data, broken, '--resume', '-j', '2'), broken) == 0, killing.said(broken)
    assert killing.differences(killing.outcome(whole), killing.outcome(broken)) == []
    with pytest.raises(UsageError, match='--short is 32 and the run to resume was started with 48'):
        train_detection.main(['--resume', '--save-dir', str(broken), '--data-dir', str(data), '--short', '32'])
