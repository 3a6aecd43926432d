"""scripts/validate.py: the training loop's own figures, every image once, and one sentence for every mistake."""

import csv
import json
import re

import mxnet as mx
import numpy as np
import pytest
from PIL import Image

import train_cifar
import train_imagenet
from data.classification.by_name import load_dataset
from data.preprocessing import CIFAR_MEAN, CIFAR_STD, Preprocessing
from environment import UserError
from environment.cpu import lacks
from inference.engine.network import why_not
from model.parameters.file_format import read_params_file, write_params_file
from tests.data.conftest import write_images
from tests.scripts.conftest import NAME, make_network, run
from training.logging.history import read_history


def scored_by_hand(net, images, labels, preprocessing):
    logits = net(mx.nd.array(preprocessing.batch(images))).asnumpy().astype(np.float64)
    order = np.argsort(-logits, axis=1)
    loss = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels]
    return {
        'count': len(labels),
        'top1': (order[:, 0] == labels).mean(),
        'top5': (order[:, :5] == labels[:, None]).any(1).mean(),
        'loss': pytest.approx(loss.mean(), rel=1e-5),
    }


def test_figures_come_from_the_manifest_alone(digits_params, tmp_path):
    file = tmp_path / 'figures.json'
    done = run(
        'validate.py',
        '--params',
        digits_params,
        '--batch-size',
        100,
        '--json',
        file,
        '--csv',
        'classes.csv',
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    dataset = load_dataset('digits', 'test')
    expected = scored_by_hand(
        make_network(10), dataset.images, dataset.labels, Preprocessing(32, (0.3,) * 3, (0.35,) * 3)
    )
    figures = json.loads(file.read_text())
    assert {key: figures[key] for key in expected} == expected
    assert f'top-1 {100 * figures["top1"]:.2f} %  top-5 {100 * figures["top5"]:.2f} %' in done.stdout
    assert (figures['model'], figures['dataset'], figures['split']) == (NAME, 'digits', 'test')
    rows = figures['classes']
    assert [row['class'] for row in rows] == list(dataset.class_names)
    assert [row['support'] for row in rows] == np.bincount(dataset.labels).tolist()
    recalls = [row['recall'] for row in rows]
    assert figures['macro']['recall'] == figures['balanced_accuracy'] == pytest.approx(np.mean(recalls))
    assert figures['weighted']['recall'] == pytest.approx(figures['top1'])
    with open(tmp_path / 'classes.csv', newline='') as lines:
        assert [float(row['f1']) for row in csv.DictReader(lines)] == [row['f1'] for row in rows]
    assert f'mean over classes {100 * figures["macro"]["precision"]:>7.2f} %' in done.stdout


def test_quiet_and_verbose(digits_params, tmp_path, in_process):
    file = tmp_path / 'figures.json'
    arguments = ['--params', digits_params, '--limit', 20, '--json', file]
    assert in_process('validate.py', *arguments, '-q') == (0, '', '')
    assert json.loads(file.read_text())['count'] == 20
    code, out, err = in_process('validate.py', *arguments, '--verbose')
    assert code == 0
    assert 'top-1' in out
    assert f'mxnet {mx.__version__}' in err
    assert re.search(r'scoring: \d+\.\d\d s\n', err)
    code, out, err = in_process('validate.py', *arguments, '-q', '-v')
    assert (code, out) == (2, '')
    assert 'give one of them' in err
    code, out, err = in_process('validate.py', '--params', 'none.params', '-q')
    assert (code, out) == (1, '')
    assert 'none.params' in err


def test_a_file_without_manifest_and_a_folder(bare_params, tmp_path, in_process):
    """Flags replace the manifest; every flag below changes the figures or is needed."""
    folder = tmp_path / 'images'
    for i, name in enumerate(('ant', 'bee', 'cow')):
        write_images(folder / name, 7, size=40, seed=i)
    broken = [folder / 'bee' / f'broken{i}.png' for i in range(3)]
    for path in broken:
        path.write_bytes(b'')
    file = tmp_path / 'figures.json'
    arguments = ['--params', bare_params, '--dataset', folder, '--split', 'all', '--json', file]
    code, _, err = in_process('validate.py', *arguments)
    assert code == 2
    assert 'no manifest' in err
    assert '--model NAME' in err
    arguments += ['--model', NAME, '--classes', 3]
    code, _, err = in_process('validate.py', *arguments)
    assert code == 1
    assert '3 images of' in err
    assert 'at most 2 of 24 may be' in err
    assert 'broken' in err
    assert '--max-bad' not in err  # this script does not have it

    for path in broken:
        path.unlink()
    arguments += ['--resize', 36, '--size', 32, '--mean', '0.1,0.2,0.3', '--std', '1,1,1', '--limit', 20]
    arguments += ['--interpolation', 'plain']
    code, _, err = in_process('validate.py', *arguments, '--mode', 'static')
    assert code == 0, err
    preprocessing = Preprocessing(32, (0.1, 0.2, 0.3), (1, 1, 1), resize=36, interpolation='plain')
    dataset = load_dataset(folder, 'all', preprocessing=preprocessing).limited(20)
    expected = scored_by_hand(make_network(3), dataset.images, dataset.labels, preprocessing)
    figures = json.loads(file.read_text())
    assert {key: figures[key] for key in expected} == expected


def test_few_damaged_images_are_left_out(bare_params, tmp_path, in_process):
    write_images(tmp_path / 'images' / 'ant', 120, size=8)
    write_images(tmp_path / 'images' / 'bee', 1, size=8)
    write_images(tmp_path / 'images' / 'cow', 1, size=8)
    (tmp_path / 'images' / 'ant' / '007.png').write_bytes(b'')
    flags = ('--model', NAME, '--classes', 3, '--dataset', tmp_path / 'images', '--split', 'all', '--size', 8)
    code, out, err = in_process('validate.py', '--params', bare_params, *flags, '--json', tmp_path / 'out.json')
    assert code == 0, err
    assert ': 121 images' in out
    assert 'top-5' not in out  # with three classes it means nothing
    assert 'skipped: ' in out.splitlines()[-1]
    figures = json.loads((tmp_path / 'out.json').read_text())
    assert figures['count'] == 121
    assert len(figures['unreadable']) == 1
    assert '007.png' in figures['unreadable'][0]


def test_classes_are_matched_by_name(bare_params, tmp_path, in_process):
    """The folder has two of the network's three classes, so its own numbering would be wrong."""
    folder, names, file = tmp_path / 'images', tmp_path / 'names.txt', tmp_path / 'figures.json'
    for i, name in enumerate(('bee', 'cow')):
        write_images(folder / name, 10, seed=i)
    names.write_text('cow\nant\nbee\n')
    arguments = ['--params', bare_params, '--model', NAME, '--dataset', folder, '--split', 'all', '--json', file]
    code, _, err = in_process('validate.py', *arguments, '--class-names', names)
    assert code == 0, err
    dataset = load_dataset(folder, 'all')
    labels = np.array([2, 0])[dataset.labels]
    expected = scored_by_hand(make_network(3), dataset.images, labels, Preprocessing(32, CIFAR_MEAN, CIFAR_STD))
    figures = json.loads(file.read_text())
    assert {key: figures[key] for key in expected} == expected
    names.write_text('cow\nant\nwasp\n')
    code, _, err = in_process('validate.py', *arguments, '--class-names', names)
    assert code == 1
    assert "the class 'bee', which is not among the 3 classes" in err


def test_a_folder_in_one_piece(bare_params, tmp_path, in_process):
    for name in ('ant', 'bee', 'cow'):
        write_images(tmp_path / name, 10)
    arguments = ['--params', bare_params, '--model', NAME, '--classes', 3, '--dataset', tmp_path]
    _, out, _ = in_process('validate.py', *arguments)
    assert ': 6 images' in out
    assert 'these are the fifth that training holds out; --split all scores every image' in out
    _, out, _ = in_process('validate.py', *arguments, '--split', 'all')
    assert ': 30 images' in out
    assert 'held-out' not in out


@pytest.mark.parametrize('precision', ['float32', 'bfloat16', 'int8'])
def test_figures_of_the_optimized_network(digits_params, tmp_path, in_process, precision):
    if lacks(precision):
        pytest.skip(f'this processor has no {precision}')
    file = tmp_path / 'figures.json'
    arguments = ['--params', digits_params, '--limit', 100, '--batch-size', 50, '--json', file]
    code, _, err = in_process('validate.py', *arguments)
    assert code == 0, err
    expected = json.loads(file.read_text())
    if precision == 'int8':
        write_images(tmp_path / 'images', 9, size=32)
        arguments += ['--calibration', tmp_path / 'images']
    code, out, err = in_process('validate.py', *arguments, '--precision', precision)
    assert code == 0, err
    figures = json.loads(file.read_text())
    assert (expected['precision'], figures['precision']) == (None, precision)
    assert f'{NAME}, optimized for {precision}, on digits' in out
    assert figures['count'] == 100
    # Only rounding differs, but it does.
    assert figures['loss'] == pytest.approx(expected['loss'], rel={'float32': 1e-4}.get(precision, 0.1))
    assert figures['loss'] != expected['loss'] or precision == 'float32'


@pytest.mark.parametrize(
    ('arguments', 'status', 'sentence'),
    [
        (['--precision', 'int8'], 2, '--precision int8 and --calibration belong together'),
        (['--precision', 'float32', '--mode', 'static'], 2, '--mode static cannot be combined with --precision'),
        (['--precision', 'float32', '--gpus', '0,1'], 2, '--gpus 0,1 cannot be combined with --precision'),
        (['--batch-size', '0'], 2, '--batch-size'),
        (['--dataset', 'cifar11'], 2, '--dataset cifar11 is neither'),
        (['--mean', '1,2'], 2, 'mean'),
        (['--mean', 'x'], 2, '--mean x must be three numbers'),
        (['--std', '0,1,1'], 2, 'std'),
        (['--option', 'act_redaction=2'], 2, "no argument 'act_redaction'; did you mean act_reduction"),
        (['--option', 'nonsense'], 2, 'KEY=VALUE'),
        (['--option', 'act_reduction=2,colour=red'], 2, "no argument 'colour'"),
        (['--model', 'cifar_resnet8'], 2, '--model'),
        (['--model', 'cifar_resnet8_v2'], 1, 'not the parameters of this network'),
        (['--classes', '7'], 1, 'output.weight has the shape (10, 64) there and (7, 64)'),
        (['--split', 'middle'], 2, '--split'),
        (['--params', 'absent.params'], 1, 'absent.params: there is no such file'),
        (['--class-names', 'absent.txt'], 1, '--class-names absent.txt cannot be read'),
        (['--nonsense'], 2, '--nonsense'),
        (['--json', 'absent/x.json', '--dataset', 'absent'], 1, 'cannot write absent/x.json'),  # before anything else
    ],
)
def test_mistakes(digits_params, in_process, arguments, status, sentence):
    code, _, err = in_process('validate.py', '--params', digits_params, *arguments)
    assert code == status
    assert sentence in err
    assert err.startswith('error: ')
    assert err.count('\n') == 1
    assert 'Traceback' not in err


def test_damaged_parameters(digits_params, tmp_path, in_process):
    damaged = tmp_path / 'net.params'
    content = bytearray(digits_params.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(bytes(content))
    damaged.with_suffix('.json').write_bytes(digits_params.with_suffix('.json').read_bytes())
    code, _, err = in_process('validate.py', '--params', damaged)
    assert code == 1
    assert 'damaged: its sha256' in err


@pytest.mark.skipif(mx.context.num_gpus() > 0, reason='there is a GPU')
def test_a_gpu_that_is_not_there_is_told(digits_params, in_process):
    code, _, err = in_process('validate.py', '--params', digits_params, '--limit', '8', '--gpus', '7')
    assert (code, err) == (0, '--gpus 7: no GPU is visible, computing on the CPU\n')


@pytest.mark.parametrize(
    ('value', 'words'), [(np.nan, 'output.weight holds NaN'), (3e38, 'answers with NaN or infinity')]
)
def test_answers_that_are_no_numbers_are_no_figures(digits_params, tmp_path, in_process, value, words):
    """The parameters themselves may not be finite, or be so large that what is computed from them is not."""
    arrays = read_params_file(digits_params)
    arrays['output.weight'] = np.full_like(arrays['output.weight'], value)
    with open(tmp_path / 'net.params', 'wb') as file:
        write_params_file(file, arrays)
    flags = ('--model', 'cifar_atac_resnet8_v2', '--classes', 10, '--dataset', 'digits', '--limit', 8)
    status, out, err = in_process('validate.py', '--params', tmp_path / 'net.params', *flags)
    assert (status, out) == (1, '')
    assert words in err
    assert err.count('\n') == 1


@pytest.mark.skipif(why_not() is not None, reason=f'no engine: {why_not()}')
def test_many_images_run_in_the_engine(digits_params, in_process, tmp_path):
    figures = {}
    for flags in ('', '--mode hybrid', '--limit 100'):
        code, _, err = in_process(
            'validate.py', '--params', digits_params, '--split', 'all', *flags.split(), '--json', tmp_path / 'out.json'
        )
        assert code == 0, err
        assert ('by the engine of this project' in err) == (flags == '')
        figures[flags] = json.loads((tmp_path / 'out.json').read_text())
    for name in ('top1', 'top5', 'count'):
        assert figures[''][name] == figures['--mode hybrid'][name]
    assert figures['']['loss'] == pytest.approx(figures['--mode hybrid']['loss'], rel=1e-4)


@pytest.mark.skipif(why_not() is not None, reason=f'no engine: {why_not()}')
def test_a_plan_that_is_refused_is_told(digits_params, in_process, monkeypatch):
    def refused(*arguments, **options):
        raise UserError("the engine 'own' cannot run this network: for a test")

    monkeypatch.setattr('inference.network.LoadedNetwork.optimized', refused)
    code, out, err = in_process('validate.py', '--params', digits_params, '--split', 'all')
    assert code == 0, err
    assert "not optimized: the engine 'own' cannot run this network: for a test" in err
    assert 'top-1' in out


def test_validation_of_a_list_with_several_labels_an_image(tmp_path, in_process):
    """After training with either script on a CSV file, scores equal the figures in the history."""
    lines = ['path,labels,split']
    for index, name in enumerate(f'{part}{i}' for part in ('train', 'val') for i in range(6)):
        pixels = np.random.RandomState(index).randint(0, 256, (32, 32, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f'{name}.png')
        lines.append(f'{name}.png,{("red", "red;blue", "")[index % 3]},{name[:-1]}')
    (tmp_path / 'list.csv').write_text('\n'.join(lines) + '\n')
    common = '--batch-size 2 --num-epochs 1 --mode hybrid --no-report'.split()
    small = ['--dataset', str(tmp_path / 'list.csv'), '--model', 'cifar_resnet8_v2']
    large = ['--data-dir', str(tmp_path / 'list.csv'), '--model', 'cifar_resnet8_v2', '--input-size', '32', '-j', '1']
    for script, flags in ((train_cifar, small), (train_imagenet, large)):
        folder = tmp_path / script.__name__
        assert script.main([*flags, *common, '--save-dir', str(folder)]) == 0
        file = tmp_path / f'{script.__name__}.json'
        status, out, err = in_process(
            'validate.py', '--params', folder, '--dataset', tmp_path / 'list.csv', '--split', 'val', '--json', file
        )
        assert status == 0, err
        figures, (row,) = json.loads(file.read_text()), read_history(folder / 'history.csv')
        assert figures['map'] == pytest.approx(row['val_map'])
        assert figures['macro']['f1'] == pytest.approx(row['val_f1'])
        assert figures['loss'] == pytest.approx(row['val_loss'], rel=1e-5)
        assert [(each['class'], each['support']) for each in figures['classes']] == [('blue', 2), ('red', 4)]
        assert 'top1' not in figures
        assert f'mAP {100 * row["val_map"]:.2f} %' in out
