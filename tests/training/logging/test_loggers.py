"""Event files for TensorBoard, and loggers for services, with stand-ins for their packages."""

import io
import json
import shlex
import struct
import sys

import numpy as np
import pytest
from PIL import Image

import train_cifar
from data.shown import sheet
from environment import SetupError, UsageError, UserError
from tests.train_cifar.runs import BASE
from training.logging.history import read_history
from training.logging.loggers import TAGS, Loggers
from training.logging.tensorboard import TensorBoard, crc32c

WANDB = """
import json
def tell(*what):
    with open(RECORD, 'a') as file:
        file.write(json.dumps(what) + '\\n')
class Image:
    def __init__(self, pixels):
        self.shape = list(pixels.shape)
class Run:
    id = 'abc'
    def log(self, figures, step):
        if FAILS and step > 1:
            raise RuntimeError('the service\\nis away')
        tell('log', step, {key: value.shape if isinstance(value, Image) else value for key, value in figures.items()})
    def finish(self, exit_code):
        tell('finish', exit_code)
def init(**options):
    options['config'] = options['config']['model']
    tell('init', options)
    return Run()
"""
MLFLOW = """
import json
def tell(*what):
    with open(RECORD, 'a') as file:
        file.write(json.dumps(what) + '\\n')
def set_experiment(name):
    tell('experiment', name)
class Started:
    class info:
        run_id = '77'
def start_run(run_id, run_name):
    tell('start', run_id, run_name)
    return Started
def log_params(values):
    tell('params', values['model'], max(len(value) for value in values.values()) <= 500)
def log_image(pixels, path):
    tell('image', list(pixels.shape), path)
def end_run(status):
    tell('end', status)
class MlflowClient:
    def log_batch(self, run_id, metrics):
        tell('batch', run_id, [[each.key, each.value, each.step] for each in metrics])
"""
ENTITIES = """
import collections
Metric = collections.namedtuple('Metric', 'key value timestamp step')
"""


@pytest.fixture
def services(tmp_path, monkeypatch):
    """Install stand-ins for both packages, which record calls; return a function that reads the record."""
    place = tmp_path / 'packages'
    (place / 'mlflow').mkdir(parents=True)
    for variable in ('WANDB_PROJECT', 'MLFLOW_EXPERIMENT_NAME', 'MLFLOW_EXPERIMENT_ID'):
        monkeypatch.delenv(variable, raising=False)

    def write(fails=False):
        (place / 'wandb.py').write_text(f'RECORD, FAILS = {str(tmp_path / "wandb.jsonl")!r}, {fails}\n{WANDB}')
        (place / 'mlflow' / '__init__.py').write_text(f'RECORD = {str(tmp_path / "mlflow.jsonl")!r}\n{MLFLOW}')
        (place / 'mlflow' / 'entities.py').write_text(ENTITIES)
        for name in ('wandb', 'mlflow', 'mlflow.entities'):
            sys.modules.pop(name, None)

    def record(name):
        lines = (tmp_path / f'{name}.jsonl').read_text().splitlines()
        (tmp_path / f'{name}.jsonl').unlink()
        return [json.loads(line) for line in lines]

    monkeypatch.syspath_prepend(str(place))
    write()
    yield write, record
    for name in ('wandb', 'mlflow', 'mlflow.entities'):
        sys.modules.pop(name, None)


def train(folder, flags):
    assert train_cifar.main([*shlex.split(flags), '--save-dir', str(folder)]) == 0
    return read_history(folder / 'history.csv')


def test_services_are_told_each_step_and_epoch_and_go_on_in_the_same_run(services, tmp_path):
    _, record = services
    folder = tmp_path / 'photos'
    (row,) = train(folder, f'{BASE} --logger wandb,mlflow,tensorboard')
    of_epoch = {tag: row[column] for column, tag in TAGS.items() if column in row}
    init, picture, *logged, end = record('wandb')
    assert init == ['init', {
        'project': 'digits', 'name': 'photos', 'dir': str(folder), 'config': 'cifar_resnet8_v2', 'id': None,
        'resume': 'allow',
    }]  # fmt: skip
    assert picture == ['log', 1, {'training images': [100, 100, 3]}]  # 8 images of 32 pixels
    assert [step for _, step, _ in logged] == [1, 2, 2]
    losses = [figures['step/loss'] for _, _, figures in logged[:2]]
    assert np.mean(losses) == pytest.approx(row['train_loss'])
    assert [figures['step/learning rate'] for _, _, figures in logged[:2]] == [0.1, 0.1]
    assert logged[2][2] == of_epoch
    assert end == ['finish', 0]
    experiment, start, params, image, batch, ended = record('mlflow')
    assert [experiment, start] == [['experiment', 'digits'], ['start', None, 'photos']]
    assert params == ['params', 'cifar_resnet8_v2', True]
    assert image == ['image', [100, 100, 3], 'training images/step-1.png']
    figures = {(key, step): value for key, value, step in batch[2]}
    assert batch[1] == '77'
    assert [figures['step/loss', step] for step in (1, 2)] == losses
    assert {tag: figures[tag, 2] for tag in of_epoch} == of_epoch
    assert ended == ['end', 'FINISHED']
    told, sessions = read_events_of(folder / 'tensorboard')
    assert sessions == [1]
    assert [step for step, _ in told] == [1, 1, 2, 2]
    assert told[0][1]['training images'].shape == (100, 100, 3)
    assert [figures['step/loss'] for _, figures in told[1:3]] == pytest.approx(losses)
    assert told[3][1] == pytest.approx(of_epoch)
    assert train_cifar.main(['--resume', '--save-dir', str(folder), '--num-epochs', '2']) == 0
    init, *logged, _ = record('wandb')
    assert init[1]['id'] == 'abc'
    assert [step for _, step, _ in logged] == [3, 4, 4]  # without images, of which there are some every ten epochs
    assert [line for line in record('mlflow') if line[0] in ('start', 'params')] == [['start', '77', 'photos']]
    assert read_events_of(folder / 'tensorboard')[1] == [1, 3]


def test_what_is_not_installed_and_what_is_no_logger(tmp_path, monkeypatch):
    monkeypatch.setattr('training.config.loggers.find_spec', lambda name: None)
    argv = [*shlex.split(BASE), '--save-dir', str(tmp_path / 'run')]
    with pytest.raises(SetupError, match='--logger wandb: .* has no package wandb; run: .* -m pip install wandb$'):
        train_cifar.main([*argv, '--logger', 'tensorboard,wandb'])
    with pytest.raises(UsageError, match="'comet' is not allowed; allowed: tensorboard, wandb, mlflow"):
        train_cifar.main([*argv, '--logger', 'comet'])
    with pytest.raises(UsageError, match='--log-images is for --logger, which is not given'):
        train_cifar.main([*argv, '--log-images', '3'])
    assert not (tmp_path / 'run').exists()


def records(path):
    """Yield the contents of the records in an event file, whose checksums must be right."""
    content, contents = path.read_bytes(), []
    while content:
        (length,) = struct.unpack('<Q', content[:8])
        for start, end in ((0, 8), (12, 12 + length)):
            (told,) = struct.unpack('<I', content[end : end + 4])
            crc = crc32c(content[start:end])
            assert told == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
        contents.append(content[12 : 12 + length])
        content = content[16 + length :]
    return contents


def fields(message):
    """Return {field number: values} of a protocol buffer."""
    found, place = {}, 0

    def varint():
        nonlocal place
        value = shift = 0
        while True:
            byte = message[place]
            place += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while place < len(message):
        key = varint()
        if key & 7 == 0:
            value = varint()
        else:
            size = {1: 8, 5: 4}.get(key & 7)
            size = varint() if size is None else size
            value = message[place : place + size]
            place += size
        found.setdefault(key >> 3, []).append(value)
    return found


def read_events_of(folder):
    """Return (step, {tag: figure or picture}) of each event in a folder, and the steps at which sessions began."""
    told, sessions = [], []
    for path in sorted(folder.iterdir()):
        for content in records(path):
            event = fields(content)
            if 7 in event:
                sessions.append(event[2][0])
            if 5 in event:
                values = [fields(value) for value in fields(event[5][0])[1]]
                told.append((event[2][0], {value[1][0].decode(): shown(value) for value in values}))
    return told, sessions


def shown(value):
    if 2 in value:
        return struct.unpack('<f', value[2][0])[0]
    image = fields(value[4][0])
    pixels = np.asarray(Image.open(io.BytesIO(image[4][0])))
    assert [*pixels.shape] == [image[number][0] for number in (1, 2, 3)]
    return pixels


def test_event_files(tmp_path):
    assert crc32c(b'123456789') == 0xE3069283  # RFC 3720's polynomial
    assert crc32c(bytes(32)) == 0x8A9136AA  # its example
    pixels = np.random.RandomState(0).randint(0, 256, (30, 200, 3)).astype(np.uint8)
    writer = TensorBoard(tmp_path, 0)
    writer.figures(300, {'loss/training': 0.5, 'naïve': -1e30})
    writer.picture(2**40, 'training images', pixels)
    writer.close(True)
    (first, second), sessions = read_events_of(tmp_path)
    assert sessions == [1]
    assert first == (300, {'loss/training': 0.5, 'naïve': pytest.approx(-1e30)})
    assert second[0] == 2**40
    assert (second[1]['training images'] == pixels).all()
    assert fields(records(writer.path)[0])[3] == [b'brain.Event:2']


def test_tensorboard_itself_reads_them(tmp_path):
    accumulator = pytest.importorskip('tensorboard.backend.event_processing.event_accumulator')
    writer = TensorBoard(tmp_path, 0)
    for step in (1, 2, 3):
        writer.figures(step, {'loss': step / 4})
    TensorBoard(tmp_path, 1).figures(2, {'loss': 9.0})  # resumed after a step, so that 2 and 3 are void
    read = accumulator.EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in read.Scalars('loss')] == [(1, 0.25), (2, 9.0)]


def test_a_sheet_of_images():
    images = [np.full((4, 6, 3), 10 * number, np.uint8) for number in range(5)]
    whole = sheet(images)
    assert whole.shape == (4 * 2 + 2, 6 * 3 + 4, 3)
    assert [int(whole[row, column, 0]) for row, column in ((0, 0), (0, 8), (0, 16), (6, 0), (6, 8))] == [
        0,
        10,
        20,
        30,
        40,
    ]
    assert whole[6, 16, 0] == whole[4, 0, 0] == 255
    assert sheet(images[:1]).shape == (4, 6, 3)


def test_a_logger_that_fails_is_told_of_once_and_left_out(services, tmp_path):
    write, record = services
    write(fails=True)
    train(tmp_path / 'run', f'{BASE} --logger wandb --log-images 0')
    log = (tmp_path / 'run' / 'train.log').read_text()
    assert log.count('--logger wandb failed (RuntimeError: the service is away); the run continues without it') == 1
    assert [kind for kind, *_ in record('wandb')] == ['init', 'log']


def test_a_service_that_refuses_is_an_error_before_the_first_step(services, tmp_path):
    write, record = services
    place = tmp_path / 'packages' / 'wandb.py'
    place.write_text('def init(**options):\n    raise RuntimeError("no key")\n')
    with pytest.raises(UserError, match='--logger wandb cannot start: RuntimeError: no key; fix it, or leave'):
        train(tmp_path / 'run', f'{BASE} --logger wandb')


def test_no_loggers_cost_nothing():
    loggers = Loggers(preprocessing=None, every=1)
    loggers.batch(0, 1, None)
    loggers.step(1, 0.0, 0.0, 0.0)
