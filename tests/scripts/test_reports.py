"""plot_history, benchmark and benchmark_data: what they write, and how they fail."""

import json

import pytest
from PIL import Image

from tests.figures import nothing_cut_off
from tests.scripts.conftest import run
from training.logging.history import write_history


def history(folder, epochs):
    folder.mkdir()
    rows = [
        {
            'epoch': epoch + 1,
            'step': 10 * epoch,
            'lr': 0.1,
            'train_loss': 2 / (epoch + 1),
            'train_accuracy': epoch / epochs,
            'val_loss': 2.0,
            'val_top1': epoch / epochs,
            'val_top5': 1.0,
            'best_top1': epoch / epochs,
            'images_per_second': 1.0,
            'seconds': 1.0,
            'val_seconds': 1.0,
        }
        for epoch in range(epochs)
    ]
    write_history(folder / 'history.csv', rows)
    return folder


def test_one_run_and_several(tmp_path, in_process):
    first, second = history(tmp_path / 'first', 4), history(tmp_path / 'second', 20)
    one, both = tmp_path / 'one.png', tmp_path / 'both.png'
    code, out, err = in_process('plot_history.py', first, '-o', one)
    assert code == 0, err
    assert 'first: 4 epochs, best top-1 75.00 % in epoch 4' in out
    code, out, err = in_process('plot_history.py', first, second / 'history.csv', '--output', both)
    assert code == 0, err
    assert 'second: 20 epochs' in out
    sizes = [Image.open(path).convert('RGB').getcolors(1 << 20) for path in (one, both)]
    assert all(len(colours) > 10 for colours in sizes)  # something is drawn
    assert sizes[0] != sizes[1]


def test_a_title_is_drawn(tmp_path, in_process):
    run_folder = history(tmp_path / 'run', 3)
    pictures = []
    for title in ('A', 'B'):
        assert in_process('plot_history.py', run_folder, '-o', tmp_path / 'x.png', '--title', title)[0] == 0
        pictures.append((tmp_path / 'x.png').read_bytes())
    assert pictures[0] != pictures[1]


def test_no_word_of_a_comparison_is_cut_off(tmp_path, in_process, monkeypatch):
    runs = [history(tmp_path / f'{number}-{"a_rather_long_name_of_a_run_" * 5}', 4) for number in range(3)]
    with nothing_cut_off(monkeypatch, 1):
        assert in_process('plot_history.py', *runs, '-o', tmp_path / 'both.png')[0] == 0


def test_plotting_mistakes(tmp_path, in_process):
    code, _, err = in_process('plot_history.py', tmp_path)
    assert code == 1
    assert 'history.csv' in err
    (tmp_path / 'history.csv').write_text('a,b\n1,2\n')
    assert in_process('plot_history.py', tmp_path)[0] == 1
    write_history(tmp_path / 'history.csv', [])
    code, _, err = in_process('plot_history.py', tmp_path)
    assert code == 1
    assert 'has no epoch yet' in err


def test_benchmark(digits_params, tmp_path):
    file = tmp_path / 'speed.json'
    done = run(
        'benchmark.py',
        *(
            '--params',
            digits_params,
            '--batch-size',
            '4,2',
            '--repeats',
            2,
            '--seconds',
            0,
            '--profile',
            '--json',
            file,
        ),
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(file.read_text())['rows']
    modes = ('imperative', 'hybrid', 'static', 'optimized')
    assert [(row['batch_size'], row['mode']) for row in rows] == [(batch, mode) for batch in (4, 2) for mode in modes]
    for row in rows:
        assert len(row['measurements_ms']) == 2
        assert min(row['measurements_ms']) <= row['ms_per_image'] <= max(row['measurements_ms'])
        assert row['latency_ms'] == pytest.approx(row['batch_size'] * row['ms_per_image'])
        assert row['relative_difference'] < 1e-4
        assert 0 < row['share_of_matrix_peak'] < 1.5
        assert row['macs'] == rows[0]['macs'] > 1e6
        name = '_sg_mkldnn_conv' if row['mode'] == 'optimized' else 'Convolution'
        assert name in [operator[0] for operator in row['operators']]
        assert f', {row["batch_size"]}, {row["mode"]}, float32\n' in done.stdout


def test_benchmark_of_several_networks_and_precisions(tmp_path, in_process):
    file = tmp_path / 'speed.json'
    names = ('cifar_resnet8_v2', 'cifar_se_resnet11bn_v1')
    code, _, err = in_process(
        'benchmark.py',
        *('--model', ','.join(names), '--batch-size', 2, '--modes', 'optimized', '--repeats', 1, '--seconds', 0),
        *('--precision', 'float32,bfloat16', '--json', file),
    )
    if code == 1:
        pytest.skip(err)  # no bfloat16 here
    rows = json.loads(file.read_text())['rows']
    assert [(row['model'], row['precision']) for row in rows] == [
        (name, precision) for name in names for precision in ('float32', 'bfloat16')
    ]
    assert rows[1]['relative_difference'] > 10 * rows[0]['relative_difference']


def test_benchmark_finds_a_mode_that_computes_something_else(digits_params, in_process, monkeypatch):
    from inference.comparison import runners

    right = runners.runner

    def wrong(net, mode, *rest):
        run = right(net, mode, *rest)
        return (lambda batch: run(batch) + 1) if mode == 'static' else run

    monkeypatch.setattr(runners, 'runner', wrong)
    code, _, err = in_process(
        'benchmark.py', '--params', digits_params, '--repeats', 1, '--seconds', 0, '--batch-size', 2
    )
    assert code == 1
    assert 'in the mode static (float32) differs' in err


@pytest.mark.parametrize(
    ('arguments', 'status', 'sentence'),
    [
        ([], 2, 'neither --params nor --model'),
        (['--model', 'resnet51_v1b'], 2, '--model'),
        (['--model', 'cifar_resnet8_v2', '--modes', 'fast'], 2, "--modes has 'fast'"),
        (['--model', 'cifar_resnet8_v2', '--precision', 'float16'], 2, "--precision has 'float16'"),
        (['--model', 'cifar_resnet8_v2', '--batch-size', '8,0'], 2, '--batch-size 8,0 must be whole numbers'),
        (['--model', 'cifar_resnet8_v2', '--modes', 'hybrid', '--precision', 'int8'], 2, 'none of the modes hybrid'),
    ],
)
def test_benchmark_mistakes(in_process, arguments, status, sentence):
    code, _, err = in_process('benchmark.py', *arguments)
    assert code == status
    assert sentence in err


def test_benchmark_data(tmp_path):
    file = tmp_path / 'speed.json'
    done = run('benchmark_data.py', '--images', 256, '--batch-size', 64, '--repeats', 1, '--seconds', 0, '--json', file)
    assert done.returncode == 0, done.stderr
    speeds = json.loads(file.read_text())['images_per_second']
    # A hundred times, on a quiet machine.
    assert speeds['loader'] > speeds['gluon']
    done = run('benchmark_data.py', '--images', 256, '--batch-size', 200)
    assert done.returncode == 2
    assert '--batch-size 200' in done.stderr
