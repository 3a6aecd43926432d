"""What a run leaves for its reader: history, curves, log, progress, TensorBoard, the position in a checkpoint."""

import csv
import errno
import fcntl
import io
import math
import os
import pty
import re
import struct
import sys
import termios

import numpy as np
import pytest
from PIL import Image

from environment import UserError
from tests.figures import nothing_cut_off
from training.checkpoints.checkpoint import CheckpointStore
from training.checkpoints.position import Position, Totals
from training.config.run_folder import RunFolder
from training.logging import text_log as run_log
from training.logging.curves import draw_curves
from training.logging.events import EventLog, read_events
from training.logging.history import COLUMNS, read_history, write_history
from training.logging.outputs import Outputs
from training.logging.progress import Progress, clock
from training.logging.text_log import RunLog, append_line, epoch_line

NO_TEXT = b'caf\xc3\xa9-\xff'  # a file name that is UTF-8 except for its last byte


def rows(count):
    made = []
    for epoch in range(count):
        made.append(dict.fromkeys(COLUMNS, 0.1 * (epoch + 1)))
        made[-1].update(epoch=epoch + 1, step=10 * epoch + 10)
    return made


def test_history_round_trip(tmp_path):
    write_history(tmp_path / 'history.csv', rows(3))
    assert read_history(tmp_path / 'history.csv') == rows(3)
    write_history(tmp_path / 'history.csv', rows(2))  # an epoch that is repeated is listed once
    assert (tmp_path / 'history.csv').read_text().splitlines()[0] == ','.join((*COLUMNS, 'version'))
    assert len(read_history(tmp_path / 'history.csv')) == 2


def test_files_that_count_epochs_from_0_are_still_read(tmp_path):
    with open(tmp_path / 'history.csv', 'w', newline='') as file:
        writer = csv.DictWriter(file, COLUMNS)  # these have no column for the version
        writer.writeheader()
        writer.writerows({**row, 'epoch': row['epoch'] - 1} for row in rows(3))
    assert read_history(tmp_path / 'history.csv') == rows(3)
    write_history(tmp_path / 'history.csv', rows(3))
    assert read_history(tmp_path / 'history.csv') == rows(3)
    log = EventLog(tmp_path / 'log.jsonl')
    log.path.write_text('{"event": "batches", "step": 2, "epoch": 0, "batch": 1}\n{"event": "damaged", "step": 2}\n')
    events = [
        {'event': 'batches', 'step': 2, 'epoch': 1, 'batch': 2},
        {'event': 'damaged', 'step': 2},
        {'event': 'epoch', 'step': 3, 'epoch': 2},
    ]
    assert read_events(log.path) == events[:2]
    assert log.rewind(2) == 0  # as in a resumed run, which appends to the same file
    log.add('epoch', 3, epoch=2)
    assert log.rewind(3) == 0
    assert read_events(log.path) == events
    position = Position(rows=rows(2))
    tree = position.tree()
    assert Position.from_tree(tree) == position
    del tree['version']
    assert [row['epoch'] for row in Position.from_tree(tree).rows] == [2, 3]


HEAD = ','.join(COLUMNS) + '\n'


@pytest.mark.parametrize('content', [None, 'epoch,step\n0,1\n', HEAD + '0,1\n', 'x\n1\n', HEAD + '9' * 200_000, '\0'])
def test_a_history_that_is_none(tmp_path, content):
    path = tmp_path / 'history.csv'
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=re.escape(str(path))):
        read_history(path)


@pytest.mark.parametrize('count', [1, 2, 40])
def test_curves_are_a_picture_with_both_lines(tmp_path, count):
    draw_curves(tmp_path / 'curves.png', rows(count), 'a title')
    pixels = np.asarray(Image.open(tmp_path / 'curves.png').convert('RGB')).reshape(-1, 3)
    for colour in ((0x3B, 0x6E, 0xA8), (0xC8, 0x55, 0x3D)):
        assert (np.abs(pixels.astype(int) - colour).max(1) < 8).sum() > 20


@pytest.mark.parametrize('count', [1, 120])
def test_no_word_of_the_curves_is_cut_off(tmp_path, monkeypatch, count):
    history = [{**row, 'val_top1': 1.0, 'val_loss': 12345.678 + row['epoch']} for row in rows(count)]
    with nothing_cut_off(monkeypatch, 1):
        draw_curves(tmp_path / 'curves.png', history, 'cifar_dca_cbam_resnet164bn_v1 on photos')


def test_no_rows_no_picture(tmp_path):
    draw_curves(tmp_path / 'curves.png', [])
    assert not (tmp_path / 'curves.png').exists()


def test_the_log_has_the_originals_format(tmp_path, capsys):
    log = RunLog(tmp_path / 'train.log')
    log.flags({'num-epochs': 3, 'model': 'atac'})
    log(epoch_line(rows(1)[0]))
    flags, line = (tmp_path / 'train.log').read_text().splitlines()
    assert flags == "Namespace(num_epochs=3, model='atac')"
    assert re.fullmatch(r'\[Epoch 1\] train=0\.100000 val=0\.100000 loss=0\.100000 time: 0\.200000', line)
    assert capsys.readouterr().out == line + '\n'


def test_a_log_that_cannot_be_written(tmp_path):
    with pytest.raises(UserError, match='cannot write the log'):
        RunLog(tmp_path / 'absent' / 'train.log')('line')


def test_a_line_may_hold_a_name_that_is_no_utf8(tmp_path):
    append_line(tmp_path / 'train.log', f'run folder {os.fsdecode(NO_TEXT)}')
    assert (tmp_path / 'train.log').read_bytes() == b'run folder ' + NO_TEXT + b'\n'


def steps_in(log):
    return [event['step'] for event in read_events(log.path)]


def test_events_beyond_a_checkpoint_are_dropped(tmp_path):
    log = EventLog(tmp_path / 'log.jsonl')
    assert log.rewind(0) == 0
    for step in range(4):
        log.add('epoch', step)
    with open(log.path, 'ab') as file:
        file.write(b'{"event": "ep')  # a kill cut it off
    assert log.rewind(2) == 0
    assert steps_in(log) == [0, 1, 2]


@pytest.mark.parametrize(
    'line',
    [
        *(b'', b'{"event": "ep', b'[]', b'5', b'{}', b'{"event": "epoch"}', b'\xff\xfe', b'\0' * 9),
        pytest.param(b'{"event": "epoch", "step": 1, "x": ' + b'[' * 100_000, id='nested'),
        pytest.param(b'{"event": "epoch", "step": ' + b'1' * 100_000 + b'}', id='digits'),
    ],
)
def test_a_damaged_line_costs_itself_alone(tmp_path, line):
    log = EventLog(tmp_path / 'log.jsonl')
    log.add('epoch', 1)
    with open(log.path, 'ab') as file:
        file.write(line + b'\n')
    log.add('epoch', 2)
    with pytest.raises(UserError, match=r'log\.jsonl is damaged'):
        read_events(log.path)
    assert log.rewind(9) == 1
    assert steps_in(log) == [1, 2]


def test_a_run_goes_on_with_a_damaged_event_log_and_says_so(tmp_path):
    (tmp_path / 'log.jsonl').write_text('{"event": "epoch", "step": 0}\nnonsense\n')
    log = RunLog(tmp_path / 'train.log')
    Outputs(RunFolder(tmp_path), CheckpointStore(tmp_path), log, {}).begin(Position())
    assert 'log.jsonl was damaged: 1 lines of it were no events and are left out' in log.path.read_text()


def test_a_folder_in_place_of_the_event_log_is_told(tmp_path):
    (tmp_path / 'log.jsonl').mkdir()
    with pytest.raises(UserError, match='it is a folder'):
        EventLog(tmp_path / 'log.jsonl').rewind(0)


class GoneReader(io.StringIO):
    """Make stdout a pipe whose reader is gone, or a file on a full disk."""

    def __init__(self, number):
        super().__init__()
        self.number, self.lines = number, 0

    def write(self, text):
        self.lines += 1
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize('number', [errno.EPIPE, errno.ENOSPC, errno.EIO])
def test_a_console_that_fails_does_not_stop_a_run(tmp_path, monkeypatch, number):
    silenced = []
    monkeypatch.setattr(sys, 'stdout', GoneReader(number))
    monkeypatch.setattr(run_log, 'silence_stdout', lambda: (silenced.append(1), setattr(sys, 'stdout', io.StringIO())))
    log = RunLog(tmp_path / 'train.log')
    for line in 'abc':
        log(line)
    reason = f'nothing is printed from here on ({os.strerror(number)})'
    assert (tmp_path / 'train.log').read_text().splitlines() == [reason, 'a', 'b', 'c']
    assert silenced == [1]
    with pytest.raises(FileNotFoundError), log.console():  # errors that are not the console's
        open(tmp_path / 'absent')


def test_a_real_console_on_a_full_disk(tmp_path, monkeypatch):
    with open('/dev/full', 'w') as full:
        monkeypatch.setattr(sys, 'stdout', full)
        log = RunLog(tmp_path / 'train.log')
        log('a')
        log('b')
    assert [line[:18] for line in (tmp_path / 'train.log').read_text().splitlines()] == ['nothing is printed', 'a', 'b']


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_bar_tells_loss_accuracy_speed_and_time_left():
    stream = Terminal()
    bar = Progress(1, 3, total=10, first=4, batch=32, stream=stream)
    bar.bar.mininterval = 0
    bar.update(5, 1.25, 0.5)
    bar.close()
    text = stream.getvalue()
    assert 'epoch 2 of 3' in text
    assert '5/10' in text
    assert re.search(r'loss 1\.250, accuracy 0\.500, \d+ images/s, \d+:\d\d:\d\d left', text)


def test_a_line_now_and_then_where_there_is_no_terminal(monkeypatch):
    monkeypatch.setattr('training.logging.progress.EVERY', 0)
    stream = io.StringIO()
    bar = Progress(2, 20, 200, 0, 32, stream)
    bar.update(82, 1.25, 0.5)
    bar.close()
    line = r'epoch 3/20, 41 %, loss 1\.250, accuracy 0\.500, \d+ images/s, \d+:\d\d:\d\d left\n'
    assert re.fullmatch(line, stream.getvalue())
    Progress(2, 20, 200, 0, 32, stream, telling=False).update(90, 1.25)
    assert stream.getvalue().count('\n') == 1


def test_no_bar_where_nobody_watches():
    stream = io.StringIO()
    bar = Progress(0, 1, 10, 0, 32, stream)
    bar.update(1, 1.0, 0.0)
    bar.close()
    assert stream.getvalue() == ''


def test_a_terminal_without_lines_is_told_in_lines(monkeypatch):
    main, terminal = pty.openpty()  # its size is 0 x 0
    monkeypatch.setattr('training.logging.progress.EVERY', 0)
    with open(terminal, 'w') as stream:
        Progress(0, 1, 10, 0, 32, stream).update(1, 1.0, 0.0)
        assert os.read(main, 1000).startswith(b'epoch 1/1, 10 %, loss 1.000, accuracy 0.000, ')
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack('HHHH', 40, 100, 0, 0))
        bar = Progress(0, 1, 10, 0, 32, stream)
        bar.update(0, math.nan, math.nan)  # neither the speed nor the remaining time is known
        bar.update(0, math.nan, math.nan)
        drawn = os.read(main, 10000)
        assert b'epoch 1 of 1   0%|' in drawn
        assert b'images/s' not in drawn
        bar.close()
    os.close(main)


def test_clock():
    assert [clock(seconds) for seconds in (0, 59.6, 3725)] == ['0:00:00', '0:01:00', '1:02:05']


def test_a_record_goes_through_a_checkpoint():
    position = Position(2, 3, 13, Totals(64, 70.5, 40.0, 1.5), rows(2), ['a-best.params'])
    assert Position.from_tree(position.tree()) == position
    assert position.best('val_top1') == pytest.approx(0.2)
    assert Position().best('val_top1') == -np.inf
    position.close_epoch(rows(3)[2])
    assert (position.epoch, position.batch, position.step, position.totals) == (3, 0, 13, Totals())


def test_totals_are_means_over_images():
    totals = Totals()
    totals.add(32, 64.0, 16.0)
    totals.add(16, 8.0, 8.0)
    assert (totals.mean_loss, totals.accuracy) == (1.5, 0.5)
    assert math.isnan(Totals().mean_loss)
    assert math.isnan(Totals().accuracy)
