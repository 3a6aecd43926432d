"""The papers' pages have a table for every folder of recipes, and the tables agree with the networks."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from environment import UsageError, UserError
from model import count, get_model

ROOT = Path(__file__).parents[2]
PAGES = {name: f'docs/{name}.md' for name in ('dianet', 'dcanet', 'residual_attention', 'open_atac')}
RECIPE = """# ResNet-8{} on CIFAR-10.
#
# Paper:    nobody's
# Command:  python train_cifar.py --config recipes/some/table1/{}.yaml
# Expected: {}
# Printed:  {}
# Last run: never

model: {}
dataset: cifar10
"""


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / 'tools'))
    spec = importlib.util.spec_from_file_location('paper_table_tool', ROOT / 'tools' / 'paper_table.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def some(tool, tmp_path, monkeypatch):
    """Return the tool in a project with one paper, which has one table of two rows."""
    monkeypatch.setattr(tool._bootstrap, 'ROOT', tmp_path)
    folder = tmp_path / 'recipes' / 'some' / 'table1'
    folder.mkdir(parents=True)
    (folder / 'study.yaml').write_text('seeds: 0\n')
    plain = ('', 'plain', '89.5 % top-1 (a figure)', '77,850 parameters, 0.013 G operations', 'cifar_resnet8_v2')
    shared = (' with SE', 'share_se', 'not at hand', '0.09 M parameters', 'cifar_share_se_resnet8_v2')
    for row in (plain, shared):
        (folder / f'{row[1]}.yaml').write_text(RECIPE.format(*row))
    return tmp_path


def test_a_table_has_figures_command_sizes_and_trials(tool, some, capsys):
    tool.main(['some-table1'])
    lines = [[cell.strip() for cell in line.strip('|').split('|')] for line in capsys.readouterr().out.splitlines()]
    cost = count(get_model('cifar_share_se_resnet8_v2'), (1, 3, 32, 32))
    assert lines[2:] == [
        [
            'ResNet-8 on CIFAR-10',
            '89.5 %',
            '`python train_cifar.py --config recipes/some/table1/plain.yaml`',
            '77,850 =',
            '12.5 M =',
            '',
        ],
        [
            'ResNet-8 with SE on CIFAR-10',
            '–',
            '`python train_cifar.py --config recipes/some/table1/share_se.yaml`',
            f'{cost.params:,} (printed: 0.09 M)',
            f'{cost.macs / 1e6:,.1f} M',
            '',
        ],
    ]
    study = some / 'study'
    study.mkdir()
    made = {'script': 'train_cifar.py', 'flags': ['--num-epochs', '3'], 'swap': {'resnet20': 'resnet8'}}
    (study / 'study.json').write_text(json.dumps(made))
    (study / 'summary.csv').write_text('network,mean,spread\nplain,80.04,0.26\nshare_se,81.0,\n')
    (study / 'results.csv').write_text(
        'network,seed,top1_percent,folder\nplain,1,80.3,a\nplain,0,79.78,b\nshare_se,0,81.0,c\n'
    )
    tool.main(['some-table1', '--take', str(study)])
    kept = json.loads((some / 'results' / 'trials' / 'some-table1.json').read_text())
    assert (kept['flags'], kept['seeds']) == ('--num-epochs 3', [0, 1])
    assert kept['rows']['plain']['values'] == {'0': 79.78, '1': 80.3}
    page = some / 'page.md'
    page.write_text(
        '<!-- table: some-rows --> <!-- end of table -->\n<!-- table: some-table1 --> <!-- end of table -->\n'
    )
    with pytest.raises(UserError, match='out of date'):
        tool.main(['--check', str(page)])
    tool.main(['--update', str(page)])
    tool.main(['--check', str(page)])
    text = page.read_text()
    assert '| 80.0 % ± 0.3 |' in text
    assert '| 81.0 % |' in text
    budget = "Trial: `--seeds 0,1 --swap resnet20=resnet8 --flags '--num-epochs 3'`; mean ± standard deviation."
    assert f'| 81.0 % |\n\n{budget}\n\n<!-- end of table -->' in text
    assert '| [table1](../recipes/some/table1) | 2 | 1 | 1 | 2 |' in text
    assert '| all | 2 | 1 | 1 | 2 |' in text


@pytest.mark.parametrize(
    ('argv', 'told'),
    [
        (['no-table'], "no table 'no-table'; allowed: some-table1"),
        (['some-table1', '--take', 'nowhere'], '--take nowhere is not a finished study'),
        (['--take', 'x'], 'name it, such as dianet-reduction'),
        (['some-table1', '--update', 'x'], "leave out 'some-table1'"),
        (['--check', 'x', '--update', 'x'], '--update and --check are both given'),
    ],
)
def test_what_it_is_not_asked(tool, some, argv, told):
    with pytest.raises(UsageError, match=re.escape(told)):
        tool.main(argv)


@pytest.mark.parametrize('paper', PAGES)
def test_a_page_has_every_table_and_every_row(tool, paper):
    text = (ROOT / PAGES[paper]).read_text(encoding='utf-8')
    known = tool.folders(ROOT)
    of_paper = [name for name, folder in known.items() if folder.parent.name == paper]
    assert set(re.findall('<!-- table: ([a-z0-9-]+) -->', text)) == {f'{paper}-rows'.replace('_', '-'), *of_paper}
    files = [file for name in of_paper for file in known[name].glob('*.yaml')]
    for file in files:
        command = 'tools/study.py' if file.name == 'study.yaml' else '--config'
        assert command in file.read_text(encoding='utf-8')
        if command == '--config':
            assert f'--config {file.relative_to(ROOT).as_posix()}`' in text


@pytest.mark.heavy
@pytest.mark.parametrize('paper', PAGES)
def test_a_page_is_up_to_date(tool, paper, monkeypatch):
    monkeypatch.chdir(ROOT)
    tool.main(['--check', PAGES[paper]])
