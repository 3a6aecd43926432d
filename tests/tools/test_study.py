"""tools/study.py trains what is not finished, and reports the results."""

import csv
import importlib.util
import json
import os
import signal
import sys
import threading
import time

import pytest

from environment import UsageError, UserError
from tests.scripts.conftest import ROOT

# Stands in for a training script; fails once where it is told to.
TRAINER = """
import json, pathlib, sys
flags = dict(zip(sys.argv[1::2], sys.argv[2::2]))  # --resume is the last
folder = pathlib.Path(flags['--save-dir'])
(folder / 'checkpoints').mkdir(parents=True, exist_ok=True)
resumed = '--resume' in sys.argv
if flags['--fail-once'] in str(folder) and not resumed:
    print('error: the disk is full')
    sys.exit(1)
top1 = 0.5 + 0.1 * ('se' in flags['--model']) + 0.01 * int(flags['--seed']) * (1 + ('se' in flags['--model']))
row = dict(epoch=0, step=1, lr=0.1, train_loss=1, train_accuracy=0.5, val_loss=1, val_top1=top1, val_top5=1,
           best_top1=top1, images_per_second=1, seconds=1, val_seconds=1)
(folder / 'history.csv').write_text(','.join(row) + chr(10) + ','.join(map(str, row.values())) + chr(10))
pathlib.Path(flags['--json']).write_text(json.dumps({'top1': top1, 'resumed': resumed}))
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Return the tool, with a stand-in for the training script."""
    monkeypatch.syspath_prepend(str(ROOT / 'tools'))
    spec = importlib.util.spec_from_file_location('study_tool', ROOT / 'tools' / 'study.py')
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, 'study_tool', module)  # where dataclasses look
    spec.loader.exec_module(module)
    (tmp_path / 'train_cifar.py').write_text(TRAINER)
    monkeypatch.setattr(module._bootstrap, 'ROOT', tmp_path)
    return module


def test_a_study_goes_on_where_it_stopped(study, tmp_path, capsys):
    out = tmp_path / 'out'
    flags = ['--units', 'none,se', '--model', 'cifar_resnet8_v2', '--seeds', '0,1,2', '-o', str(out), '--jobs', '2']
    assert study.main([*flags, '--flags', '--fail-once se_resnet8_v2/seed-1']) == 1
    told = capsys.readouterr()
    assert 'cifar_se_resnet8_v2, seed 1: failed with status 1: error: the disk is full' in told.err
    assert len((out / 'results.csv').read_text().splitlines()) == 1 + 5
    first = (out / 'cifar_resnet8_v2' / 'seed-0.json').stat().st_mtime_ns

    assert study.main([*flags, '--flags', '--fail-once se_resnet8_v2/seed-1']) == 0
    assert '5 of 6 runs are already finished' in capsys.readouterr().out
    assert (out / 'cifar_resnet8_v2' / 'seed-0.json').stat().st_mtime_ns == first
    assert json.loads((out / 'cifar_se_resnet8_v2' / 'seed-1.json').read_text())['resumed']
    rows = {row['network']: row for row in csv.DictReader((out / 'summary.csv').read_text().splitlines())}
    assert float(rows['cifar_resnet8_v2']['mean']) == pytest.approx(51)
    assert float(rows['cifar_se_resnet8_v2']['difference']) == pytest.approx(11)
    assert {'study.html', 'table.tex'} <= {path.name for path in out.iterdir()}
    with pytest.raises(UserError, match='holds a study of train_cifar.py --fail-once'):
        study.main([*flags, '--flags', '--fail-once nothing'])


# Stands in for one that is asked to stop, and says that it was.
STOPPED = """
import pathlib, signal, sys, time
folder = pathlib.Path(dict(zip(sys.argv[1::2], sys.argv[2::2]))['--save-dir'])
folder.mkdir(parents=True)
signal.signal(signal.SIGINT, lambda *_: ((folder / 'saved').touch(), sys.exit(130)))
(folder / 'ready').touch()
time.sleep(100)
"""


@pytest.mark.usefixtures('own_handlers')
@pytest.mark.parametrize(('number', 'status'), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_study_that_is_stopped_ends_when_its_runs_have_saved(study, tmp_path, number, status):
    (tmp_path / 'train_cifar.py').write_text(STOPPED)
    out = tmp_path / 'out'

    def stop():
        end = time.monotonic() + 90
        while len(list(out.glob('*/seed-0/ready'))) < 2 and time.monotonic() < end:
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    stopper = threading.Thread(target=stop)
    stopper.start()
    flags = ['--models', 'a,b', '--seeds', '0,1', '-o', str(out), '--jobs', '2']
    assert study.main(flags) == status
    stopper.join()
    assert sorted(file.parts[-3] for file in out.glob('*/*/saved')) == ['a', 'b']  # and no other has begun


def test_an_unknown_metric_is_one_sentence_and_starts_no_more_runs(study, tmp_path, capfd):
    out = tmp_path / 'out'
    flags = ['--models', 'a', '--seeds', '0,1', '-o', str(out), '--flags', '--fail-once nothing']
    with pytest.raises(UsageError, match=r'--metric top7 is not in .*seed-0\.json, which has: top1'):
        study.main([*flags, '--metric', 'top7'])
    assert 'Traceback' not in capfd.readouterr().err
    assert [file.name for file in (out / 'a').glob('*.json')] == ['seed-0.json']
    assert study.main(flags) == 0


def test_a_run_that_its_time_limit_ends_is_no_error(study, tmp_path, capfd):
    (tmp_path / 'train_cifar.py').write_text('')  # ends with status 0 and without figures
    flags = ['--models', 'a', '--seeds', '0,1', '-o', str(tmp_path / 'out'), '--flags', '--max-time 1m']
    assert study.main(flags) == 0
    told = capfd.readouterr()
    assert told.out.count('stopped before its end; the same command continues it') == 2
    assert told.err == ''


def test_a_file_says_the_same(study, tmp_path):
    file = tmp_path / 'study.yaml'
    file.write_text('models: a,b\nseeds: 3,4\nflags: {fail-once: x, horovod: false, cutout: true, gpus: [0, 1]}\n')
    args = study.parse([str(file), '--seeds', '7'])
    assert (args.models, args.seeds, args.baseline) == (['a', 'b'], [7], 'a')
    assert args.flags == ['--fail-once=x', '--cutout', '--gpus=0,1']


@pytest.mark.parametrize(
    ('flags', 'told'),
    [
        (['--models', 'a', '--units', 'se'], 'give either --models'),
        (['--units', 'se'], 'give either --models'),
        (['--models', 'a', '--flags', '--seed 3'], '--flags contains --seed'),
        (['--models', 'a', '--flags=--save-dir=x'], '--flags contains --save-dir=x'),
        (['--models', 'a', '--baseline', 'b'], '--baseline b is not one of'),
        (['--models', 'a', '--seeds', ''], 'must each name at least one'),
        (['--models', 'a', '--seeds', '1,x'], "'x' is not allowed"),
    ],
)
def test_mistakes(study, flags, told):
    with pytest.raises(UsageError, match=told):
        study.parse(flags)


def test_units_go_into_names(study):
    assert study.with_unit('cifar_resnet8_v2', 'none') == 'cifar_resnet8_v2'
    assert study.with_unit('cifar_resnet8_v2', 'dca_se') == 'cifar_dca_se_resnet8_v2'
    assert study.with_unit('resnet50_v1b', 'eca') == 'eca_resnet50_v1b'


def test_recipes_are_rows(study, tmp_path, capsys):
    folder = tmp_path / 'table'
    folder.mkdir()
    (folder / 'se.yaml').write_text('model: cifar_se_resnet164bn_v1\nlr: 0.2\n')
    (folder / 'plain.yaml').write_text('model: cifar_resnet164bn_v1\n')
    (folder / 'study.yaml').write_text("title: 'One: two'\nseeds: 0,1\nbaseline: plain\n")
    (tmp_path / 'train_cifar.py').write_text(TRAINER)
    out = tmp_path / 'out'
    flags = [str(folder / 'study.yaml'), '-o', str(out), '--swap', '164bn=20bn', '--flags', '--fail-once nothing']
    args = study.parse(flags)
    assert args.rows == {
        'plain': ['--config', str(folder / 'plain.yaml'), '--model', 'cifar_resnet20bn_v1'],
        'se': ['--config', str(folder / 'se.yaml'), '--model', 'cifar_se_resnet20bn_v1'],
    }
    assert study.parse(flags[:1]).rows['se'] == ['--config', str(folder / 'se.yaml')]
    assert study.main(flags) == 0
    rows = {row['network']: row for row in csv.DictReader((out / 'summary.csv').read_text().splitlines())}
    assert float(rows['se']['difference']) == pytest.approx(10.5)
    assert json.loads((out / 'study.json').read_text())['swap'] == {'164bn': '20bn'}
    with pytest.raises(UserError, match='give the same --flags, --recipes and --swap'):
        study.main([*flags[:3], '--flags', '--fail-once nothing'])


@pytest.mark.parametrize(
    ('flags', 'told'),
    [
        (['--recipes', 'nowhere'], 'nowhere is neither a YAML file nor a folder'),
        (['--recipes', '{}', '--models', 'a'], 'give either --models'),
        (['--models', 'a', '--swap', 'a=b'], '--swap only applies to --recipes'),
        (['--recipes', '{},{}/a.yaml'], 'have the same name'),
        (['--recipes', '{}', '--swap', 'a'], 'A=B, such as'),
    ],
)
def test_recipes_that_make_no_study(study, tmp_path, flags, told, capsys):
    (tmp_path / 'a.yaml').write_text('model: a\n')
    with pytest.raises((UsageError, SystemExit)) as caught:
        study.parse([flag.replace('{}', str(tmp_path)) for flag in flags])
    assert told in str(caught.value) + capsys.readouterr().err


def test_all_networks_start_alike(study, tmp_path):
    (tmp_path / 'tuned.yaml').write_text('model: a\nuse-pretrained: best\n')
    (tmp_path / 'plain.yaml').write_text('model: a\n')

    def start(argv):
        args = study.parse(argv)
        run = study.Run(args.models[0], 0, tmp_path / 'a' / 'seed-0')
        command = run.command(study.typed(study.Study, vars(args)))
        return [command[place + 1] for place, word in enumerate(command) if word == '--use-pretrained']

    assert start(['--models', 'a', '--flags', '--dataset photos']) == ['off']
    assert start(['--models', 'a', '--flags', '--use-pretrained timm']) == ['timm']
    assert start(['--models', 'a', '--flags=--init-params=x']) == []
    assert start(['--recipes', str(tmp_path / 'tuned.yaml')]) == []
    assert start(['--recipes', str(tmp_path / 'plain.yaml')]) == ['off']
