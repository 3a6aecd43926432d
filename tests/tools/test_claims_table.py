"""tools/claims_table.py: claims name what exists, and verdicts follow from intervals."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from environment import UsageError, UserError
from model import get_model
from training.report.study import paired

ROOT = Path(__file__).parents[2]
PAGE = ROOT / 'docs' / 'claims.md'


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / 'tools'))
    spec = importlib.util.spec_from_file_location('claims_table_tool', ROOT / 'tools' / 'claims_table.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_claims_compare_what_there_is(tool):
    tables = tool.folders(ROOT)
    for claim in tool.CLAIMS:
        for case in claim.cases:
            assert case.contender != case.baseline
            for name in (case.contender, case.baseline):
                if case.study in tables:
                    assert (tables[case.study] / f'{name}.yaml').is_file(), (case, name)
                else:
                    assert (ROOT / 'params' / case.study).is_dir(), case
                    get_model(name.partition('-')[0])


@pytest.mark.parametrize(
    ('values', 'expected'),
    [
        ({0: 81.0, 1: 81.1, 2: 81.2}, 'supported'),
        ({0: 79.0, 1: 79.1, 2: 79.2}, 'not supported'),
        ({0: 81.0, 1: 79.5, 2: 80.4}, 'undecided'),
        ({0: 90.0}, 'undecided: one seed'),
        ({7: 90.0}, 'not tried'),
    ],
)
def test_verdicts(tool, values, expected):
    assert tool.verdict(paired(values, {0: 80.0, 1: 80.05, 2: 80.1})) == expected


def test_networks_that_were_trained_differently_are_not_compared(tool):
    sides = {'a': tool.Side({0: 90.0}, '30 epochs'), 'b': tool.Side({0: 80.0}, '8 epochs')}
    assert tool.case_cells(tool.Case('study', 'a', 'b'), sides)[-1] == 'not tried'
    sides['b'] = sides['b']._replace(budget='30 epochs')
    assert tool.case_cells(tool.Case('study', 'a', 'b'), sides)[-2:] == ['+10.00', 'undecided: one seed']


def write_run(root, network, seed, top1):
    path = root / 'params' / 'some' / network / f'seed-{seed}.json'
    path.parent.mkdir(parents=True, exist_ok=True)
    manifest = {'model': network, 'model_kwargs': {}, 'classes': 10, 'seed': seed, 'sha256': 'x', 'epochs': 30}
    path.write_text(json.dumps({**manifest, 'accuracy': {'top1': top1}}))


def test_a_claim_is_tested_on_manifests_and_on_trials(tool, tmp_path, monkeypatch, capsys):
    cases = (tool.Case('some', 'b', 'a', '+0.6'), tool.Case('one-trial', 'y', 'x'), tool.Case('one-trial', 'z', 'x'))
    monkeypatch.setattr(tool, 'CLAIMS', (type(tool.CLAIMS[0])('Paper', 'table 1', 'b helps', cases),))
    monkeypatch.setattr(tool._bootstrap, 'ROOT', tmp_path)
    for seed, (a, b) in enumerate(((0.8, 0.81), (0.805, 0.816), (0.79, 0.799))):
        write_run(tmp_path, 'a', seed, a)
        write_run(tmp_path, 'b', seed, b)
    rows = {'x': {'mean': 50.5, 'spread': 0.7, 'values': {'0': 50.0, '1': 51.0}}, 'y': {'mean': 49.0, 'spread': None}}
    rows['y']['values'] = {'1': 49.0}
    trial = {'flags': '--num-epochs 2', 'swap': {}, 'seeds': [0, 1], 'rows': rows}
    file = tmp_path / 'results' / 'trials' / 'one-trial.json'
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(trial))
    tool.main([])
    lines = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines[2:5]]
    assert cells[0][:6] == [
        'Paper: b helps',
        'table 1',
        '`b` against `a`',
        '+0.6',
        '[30 epochs](reproducing.md)',
        '0, 1, 2',
    ]
    assert cells[0][6:8] == ['79.83 ± 0.76', '80.83 ± 0.86']
    assert re.fullmatch(r'\+1\.00 \(\+0\.75 to \+1\.25\)', cells[0][8])
    assert cells[0][9] == 'supported'
    assert cells[1][2:] == [
        '`y` against `x`',
        '–',
        'trial `one-trial`',
        '1',
        '50.50 ± 0.71',
        '49.00',
        '-2.00',
        'undecided: one seed',
    ]
    assert cells[2][9] == 'not tried'
    assert lines[6] == "- `one-trial`: `--seeds 0,1 --flags '--num-epochs 2'`"


def test_deletion_is_shown_by_network_and_stage(tool, tmp_path, monkeypatch):
    page = tmp_path / 'page.md'
    page.write_text('<!-- table: deletion -->\n<!-- end of table -->\n')
    monkeypatch.setattr(tool._bootstrap, 'ROOT', tmp_path)
    with pytest.raises(UserError, match='cannot be read'):
        tool.main(['--update', str(page)])
    row = {
        'network': 'n',
        'images': 20,
        'stage': 'stage 1',
        'covers': {'hottest': {'lost': 0.3}, 'shifted': {'lost': 0.1}},
    }
    (tmp_path / 'results' / 'claims').mkdir(parents=True)
    (tmp_path / 'results' / 'claims' / 'deletion.json').write_text(json.dumps([row]))
    with pytest.raises(UserError, match='out of date'):
        tool.main(['--check', str(page)])
    tool.main(['--update', str(page)])
    tool.main(['--check', str(page)])
    assert '| `n` | stage 1 | 20 | 0.300 | 0.100 |' in page.read_text()
    with pytest.raises(UsageError, match='both given'):
        tool.main(['--check', str(page), '--update', str(page)])


@pytest.mark.heavy
def test_the_page_is_up_to_date(tool):
    tool.main(['--check', str(PAGE)])
