"""The tables in README and docs/ agree with the networks and the manifests."""

import importlib.util
import json
import re
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import pytest

from model import count, get_model, list_models
from model.attention import ATTENTIONS
from model.parameters.pretrained import folder_name

ROOT = Path(__file__).parents[2]
SCRIPT = [sys.executable, str(ROOT / 'tools' / 'model_table.py')]
MARKERS = '<!-- table: {} --> <!-- end of table -->\n'
NAMES = ('networks', 'compositions', 'detectors', 'trained')
PAGE = 'before\n' + '\n'.join(MARKERS.format(name) for name in NAMES) + 'after\n'


@pytest.fixture
def script(monkeypatch):
    """Return the script as a module, with small tables."""
    monkeypatch.syspath_prepend(str(ROOT / 'tools'))
    spec = importlib.util.spec_from_file_location('script_model_table', ROOT / 'tools' / 'model_table.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, 'COMPOSED', ('resnet50_v1b', 'cifar_resnet8_v2'))
    monkeypatch.setattr(module, 'backbones', lambda: ['resnet50_v1b', 'cifar_resnet8_v2'])
    return module


def cells(line):
    return [cell.strip() for cell in line.strip('|').split('|')]


@pytest.mark.parametrize(
    'page',
    [
        'README.md',
        pytest.param('docs/networks.md', marks=pytest.mark.heavy),  # counts some 300 networks
        'docs/detection.md',
        'docs/reproducing.md',
    ],
)
def test_the_page_is_up_to_date(page):
    done = subprocess.run([*SCRIPT, '--check', str(ROOT / page)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_table_is_on_a_page(script):
    others = {
        ROOT / 'docs' / f'{name}.md' for name in ('dianet', 'dcanet', 'residual_attention', 'open_atac', 'claims')
    }
    pages = [ROOT / 'README.md', *{*(ROOT / 'docs').glob('*.md')} - others]
    found = re.findall(r'<!-- table: ([a-z-]+) -->', '\n'.join(page.read_text(encoding='utf-8') for page in pages))
    assert sorted(found) == sorted({*script.TABLES, 'inference', 'attention', 'training', 'beside-torch'})


def test_a_page_gets_the_tables_that_it_has_markers_for(tmp_path, script):
    page = tmp_path / 'docs' / 'page.md'
    page.parent.mkdir()
    page.write_text(MARKERS.format('results'), encoding='utf-8')
    shipped(tmp_path / 'params', 'cifar_resnet8_v2', [0.5, 0.6])
    shipped(tmp_path / 'params', 'cifar_resnet14_v2', [0.5], epochs=400)
    (tmp_path / 'params' / 'cifar10' / 'cifar_resnet14_v2' / 'seed-0.params').unlink()
    assert script.main(['--update', str(page), '--params-dir', str(tmp_path / 'params')]) == 0
    text = page.read_text(encoding='utf-8')
    assert '[`cifar_resnet8_v2`](../params/cifar10/cifar_resnet8_v2/seed-0.params)' in text
    assert 'cifar_resnet14_v2' not in text  # without its parameters
    assert text.count('| network |') == 1


@pytest.mark.heavy
def test_update_then_check(tmp_path, script, monkeypatch):
    monkeypatch.setattr(script, 'row_of', lru_cache(maxsize=None)(script.row_of))
    page = tmp_path / 'page.md'
    page.write_text(PAGE, encoding='utf-8')
    with pytest.raises(script.UserError, match='out of date'):
        script.main(['--check', str(page)])
    assert page.read_text(encoding='utf-8') == PAGE
    assert script.main(['--update', str(page), '--json', str(tmp_path / 'rows.json')]) == 0
    assert script.main(['--check', str(page)]) == 0
    text = page.read_text(encoding='utf-8')
    assert '| `cifar_resnet8_v2` | 32 | 77,850 | 12.5 M | 89.5 % (cifar10) | 89,578 | 14.3 M | 90.6 % |' in text
    assert text.startswith('before\n')
    assert text.endswith('after\n')
    assert '| `retinanet_resnet50_v1b` | 37,968,692 | 37,743,348 | 250.5 G | 36.2 | 55.9 |' in text
    rows = json.loads((tmp_path / 'rows.json').read_text())
    assert [row['model'].split('_')[0] for row in rows['detectors']] == ['retinanet'] * 3 + ['cascade'] * 3
    params = {row['model']: row['params'] for row in rows['networks']}
    assert params['cifar_resnet8_v2'] == 77_850
    assert params['dca_se_resnet50_v1b'] == 28_645_285  # as published: with the bottleneck adapter
    assert all(len(row['sha256']) == 64 for row in rows['trained'])


def test_compositions_name_every_unit_alone_and_connected(script):
    rows = {name: script.row_of(name) for name in script.readme_names()}
    table = script.composition_table(rows)
    params, macs, top1 = ([cells(line) for line in part.splitlines()] for part in table.split('\n\n'))
    assert params[0][1:] == ['none', '`atac`', *(f'`{unit}`' for unit in ATTENTIONS), '`dia`']
    small = dict(zip(params[0], params[3]))
    assert small['none'] == '0.07785'
    for unit, row in ATTENTIONS.items():
        if row.place in ('convolution', 'entry'):  # these blocks do not have such a place
            assert small[f'`{unit}`'] == '–'
            continue
        there = {'': True, 'dca_': row.connects, 'share_': row.shares}
        costs = [
            taken and count(get_model(f'cifar_{part}{unit}_resnet8_v2'), (1, 3, 32, 32))
            for part, taken in there.items()
        ]
        assert small[f'`{unit}`'] == ' / '.join(f'{cost.params / 1e6:#.4g}' if cost else '–' for cost in costs)
        macs_cell = dict(zip(macs[0], macs[3]))[f'`{unit}`']
        assert macs_cell == ' / '.join(f'{cost.macs / 1e9:#.4g}' if cost else '–' for cost in costs)
    large = dict(zip(top1[0], top1[2]))
    assert large == {
        'Published top-1, %': '`resnet50_v1b`',
        'none': '75.9',
        '`atac`': '78.59',
        '`se`': '77.29 / 77.55',
        '`sk`': '77.79 / 77.94',
        '`ge`': '76.24 / 76.75',
        '`gc`': '74.9 / 75.42',
        '`cbam`': '77.28 / 77.83',
        '`simam`': '77.45 / –',
        '`triplet`': '77.48 / –',
        '`aff`': '79.1 / –',
        '`iaff`': '79.8 / –',
    }


def test_a_composition_is_taken_apart_and_put_together(script):
    for name in list_models():
        backbone = script.backbone_of(name)
        lead = 'cifar_' if name.startswith('cifar_') else ''
        part = name[len(lead) : len(name) - len(backbone) + len(lead)]
        assert backbone in list_models(backbone)
        assert script.composed(backbone, part) == name


def shipped(folder, name, tops, epochs=3, data='Digits', way='cifar10', settings=None, **options):
    """Write manifests of runs into `folder`, a seed for each accuracy, with the first one's parameters."""
    place = folder / way / folder_name(name, options)
    place.mkdir(parents=True)
    for seed, top1 in enumerate(tops):
        manifest = {
            'model': name,
            'model_kwargs': {'classes': 10, **options},
            'classes': 10,
            'preprocessing': {'size': 32},
            'data': data,
            'seed': seed,
            'epochs': epochs,
            'settings': settings or {},
            'accuracy': {'top1': top1},
            'sha256': '0' * 64,
        }
        (place / f'seed-{seed}.json').write_text(json.dumps(manifest))
    (place / 'seed-0.params').write_bytes(b'')


def test_trained_networks_with_mean_and_spread(script, tmp_path):
    folder = tmp_path / 'params'
    shipped(folder, 'cifar_dca_se_resnet8_v2', [0.9])
    shipped(folder, 'cifar_atac_resnet8_v2', [0.8, 0.81, 0.83])
    shipped(folder, 'cifar_atac_resnet8_v2', [0.7, 0.7], act_global=True)
    shipped(folder, 'cifar_resnet8_v2', [0.85], act_layers=4)
    shipped(folder, 'cifar_resnet14_v2', [0.875], epochs=400)
    rows = script.trained_rows(folder)
    assert len(rows) == 8
    long, short = script.trained_table(rows).split('\n\nDigits, 3 epochs:\n\n')
    assert long.startswith('Digits, 400 epochs:\n\n| network |')
    assert '| 0 | 87.50 % | 92.0 % |' in long
    body = [cells(line) for line in short.splitlines()[2:]]
    link = '(params/cifar10/{}/seed-0.params)'
    atac = 'cifar_atac_resnet8_v2'
    assert body == [
        ['[`cifar_resnet8_v2` `act_layers=4`]' + link.format('cifar_resnet8_v2-act_layers_4'), '77,850', '12.5 M', '0',
         '85.00 %', '89.5 %'],
        [f'[`{atac}`]' + link.format(atac), '89,578', '14.3 M', '0, 1, 2', '81.33 ± 1.53 %', '90.6 %'],
        [f'[`{atac}` `act_global=True`]' + link.format(f'{atac}-act_global'), '89,578', body[2][2], '0, 1',
         '70.00 ± 0.00 %', ''],
        ['[`cifar_dca_se_resnet8_v2`]' + link.format('cifar_dca_se_resnet8_v2'), *body[3][1:3], '0', '90.00 %', ''],
    ]  # fmt: skip


def test_optimizers_have_tables_of_their_own(script, tmp_path):
    for way, settings in (('cifar10', {'optimizer': 'nag'}), ('cifar10_muon', {'optimizer': 'muon'}), ('old', {})):
        shipped(tmp_path, 'cifar_resnet8_v2', [0.5], way=way, settings=settings)
    table = script.trained_table(script.trained_rows(tmp_path))
    alike, muon = table.split('\n\nDigits, 3 epochs with `--optimizer muon`:\n\n')
    assert [text.count('cifar_resnet8_v2/seed-0.params') for text in (alike, muon)] == [2, 1]
    assert alike.startswith('Digits, 3 epochs:')


def test_parameters_without_a_manifest_are_told(script, tmp_path):
    (tmp_path / 'cifar10' / 'x').mkdir(parents=True)
    (tmp_path / 'cifar10' / 'x' / 'net.params').write_bytes(b'')
    with pytest.raises(script.UserError, match='net.params: has no manifest'):
        script.trained_rows(tmp_path)


def test_prints_what_matches(in_process):
    code, out, err = in_process('model_table.py', 'cifar_*dia_resnet29bn_v1')
    assert code == 0, err
    assert '| `cifar_dia_resnet29bn_v1` | 32 | 531,962 | 47.8 M |  |' in out
    assert len(out.splitlines()) == 4
    code, out, err = in_process('model_table.py', 'cifar_dia_resnet164bn_v1')
    assert '| 1,946,132 | 251.5 M | 76.67 % (cifar100) |' in out  # with the published 100 classes


@pytest.mark.parametrize(
    ('arguments', 'status', 'words'),
    [
        (['no_such_*'], 1, ['no_such_*', 'list_models']),
        (['--check', 'missing.md'], 1, ['missing.md', 'no such file']),
        (['--update', 'page.md'], 1, ['page.md', 'none of the tables', '<!-- table: networks -->']),
        (['--update', 'page.md', 'cifar_*'], 2, ['--update', 'cifar_*']),
        (['--update', 'page.md', '--check', 'page.md'], 2, ['--update', '--check']),
        (['--updat', 'page.md'], 2, ['--updat']),
    ],
)
def test_mistakes_are_told_in_one_sentence(arguments, status, words, tmp_path, monkeypatch, in_process):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'page.md').write_text('no markers')
    code, out, err = in_process('model_table.py', *arguments)
    assert code == status
    assert err.count('\n') == 1
    for word in words:
        assert word in err
    assert (tmp_path / 'page.md').read_text() == 'no markers'
