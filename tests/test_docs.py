"""README and docs/: every code block runs or at least parses, every link has a target, every figure can be drawn."""

import argparse
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import environment
from model.registry import ACTIVATIONS, ATTENTIONS, BACKBONES
from tests.photos import write_photos
from training.config.settings import Parser

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / 'README.md',
    ROOT / 'CONTRIBUTING.md',
    *sorted((ROOT / 'docs').glob('*.md')),
    ROOT / 'examples/README.md',
]
BLOCK = re.compile(r'^(?:<!-- not run: (?P<why>[^\n]+) -->\n)?```(?P<kind>\w*)\n(?P<code>.*?)^```$', re.M | re.S)
# Other people's programs.
OTHERS = {'source', 'pip', 'docker', 'curl', 'git', 'cd', 'ls', 'uv', 'mkdir', 'cp', '.venv/bin/ruff', 'ffmpeg'}
WORDS = {'do', 'done', 'then', 'fi', 'else'}


def blocks(kind, run=None):
    """Return the code blocks of a kind, those that are run or the others, as parameters named by page and line."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding='utf-8')
        for match in BLOCK.finditer(text):
            if match['kind'] == kind and run in (None, match['why'] is None):
                line = text[: match.start()].count('\n') + 1
                found.append(pytest.param(match['code'], id=f'{page.relative_to(ROOT)}:{line}'))
    return found


def commands(code):
    """Yield the commands of a shell block as lists of words, without assignments before them."""
    code = re.sub(r'\\\n', ' ', code)
    code = re.sub(r'^ *\w+=\$\([^)]*\)', '', code, flags=re.M)
    words = []
    for line in code.split('\n'):
        lexer = shlex.shlex(line, posix=True, punctuation_chars=';&|')
        lexer.whitespace_split = True
        words += [*lexer, ';']
    command = []
    for word in words:
        if set(word) <= set(';&|'):
            if command and command[0] != 'for':
                yield command
            command = []
        elif command or not (word in WORDS or re.match(r'\w+=', word)):
            command.append(word)


class Captured(Exception):
    """A parser, caught when it was to parse its command line."""


def parser_of(script, monkeypatch):
    """Return the parser of one of our scripts, without running the script."""

    def capture(self, *arguments, **options):
        raise Captured(self)

    path = ROOT / script
    monkeypatch.syspath_prepend(str(path.parent))
    spec = importlib.util.spec_from_file_location(f'docs_{path.stem}', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, 'parse_args', capture)
        patch.setattr(Parser, 'parse', capture)
        with pytest.raises(Captured) as caught:
            module.main([])
    return caught.value.args[0]


def check_flags(script, words, monkeypatch):
    """Parse a command line; the values are only examples, so they are not converted."""
    parser = parser_of(script, monkeypatch)
    for action in parser._actions:
        action.type = None
        if action.choices:
            action.choices = [*map(str, action.choices), *action.choices]
    try:
        argparse.ArgumentParser.parse_args(parser, words)
    except (environment.UsageError, SystemExit) as error:
        pytest.fail(f'{script} {shlex.join(words) if hasattr(shlex, "join") else words}: {error}')


@pytest.fixture
def place(tmp_path):
    """Make a folder that looks like the repository, with photos in it."""
    for path in ROOT.iterdir():
        if not path.name.startswith('.') and path.name not in ('runs', 'data', 'photos', '__pycache__'):
            (tmp_path / path.name).symlink_to(path)
    binaries = tmp_path / '.venv' / 'bin'
    binaries.mkdir(parents=True)
    (binaries / 'python').write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (binaries / 'python').chmod(0o755)
    (binaries / 'activate').write_text(f'export PATH="{binaries}:$PATH"\n')
    write_photos(tmp_path / 'photos', 30)
    return tmp_path


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_is_of_a_kind_that_is_checked(page):
    text = page.read_text(encoding='utf-8')
    assert text.count('```') == 2 * len(BLOCK.findall(text))
    assert {match['kind'] for match in BLOCK.finditer(text)} <= {'python', 'bash', 'text'}
    assert text.count('<!-- not run') == sum(match['why'] is not None for match in BLOCK.finditer(text))
    outside = BLOCK.sub('', text)
    assert not re.search(r'^\n {4}\S', outside, re.M), 'code is put between fences'


@pytest.fixture
def registry():
    """Forget what a block registers after it."""
    kept = [(table, dict(table)) for table in (ACTIVATIONS, ATTENTIONS, BACKBONES)]
    yield
    for table, rows in kept:
        table.clear()
        table.update(rows)


@pytest.mark.parametrize('code', blocks('python', run=True))
def test_python_runs(code, monkeypatch, tmp_path, registry):
    for name in ('params', 'docs'):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, 'block', 'exec'), {'__name__': 'block'})


@pytest.mark.parametrize('code', blocks('python'))
def test_python_compiles(code):
    compile(code, 'block', 'exec')


@pytest.mark.slow
@pytest.mark.parametrize('code', blocks('bash', run=True))
def test_shell_runs(code, place):
    code = code.replace('--num-epochs 10', '--num-epochs 2')
    done = subprocess.run(
        ['bash', '-euo', 'pipefail', '-c', f'source .venv/bin/activate\n{code}'],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1200,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize('code', blocks('bash'))
def test_shell_commands_have_flags_that_exist(code, monkeypatch):
    for command in commands(code):
        if command[0] == 'horovodrun':
            command = command[command.index('python') :]
        program, *words = command
        if program.endswith('python') and words[0] == '-m':
            name = words[1].replace('.', '/')
            assert words[1] == 'pytest' or (ROOT / f'{name}.py').exists() or (ROOT / name / '__main__.py').exists()
        elif program.endswith('python'):
            check_flags(words[0], words[1:], monkeypatch)
        elif program == 'bash':
            text = (ROOT / words[0]).read_text(encoding='utf-8')
            if words[0] != 'scripts/test.sh':  # whose arguments are pytest's
                assert [word for word in words[1:] if word.startswith('-') and word not in text] == []
        else:
            assert program in OTHERS, f'{program}: no command of ours'


def test_published_figures_do_not_depend_on_what_suits_a_folder():
    """Where flags say nothing, a run on a folder chooses for itself, from trained parameters to start from on."""
    text = (ROOT / 'docs' / 'reproducing.md').read_text(encoding='utf-8')
    found = [
        words for block in BLOCK.finditer(text) for words in commands(block['code']) if words[1:2] == ['train_cifar.py']
    ]
    assert len(found) >= 5
    assert [words for words in found if '--original-defaults' not in words] == []


def test_a_flag_that_does_not_exist_is_found(monkeypatch):
    with pytest.raises(pytest.fail.Exception, match='--no-such-flag'):
        check_flags('scripts/predict.py', ['--params', 'FILE', '--no-such-flag', 'x.jpg'], monkeypatch)
    assert list(commands('A=1 python x.py --a "b c" \\\n --d | head  # --e\ny=$(ls z)\nbash f.sh')) == [
        ['python', 'x.py', '--a', 'b c', '--d'],
        ['head'],
        ['bash', 'f.sh'],
    ]


def anchors(page):
    """Return the anchors that a forge gives to the headings of a page."""
    text = BLOCK.sub('', page.read_text(encoding='utf-8'))
    headings = re.findall(r'^#+ (.+)$', text, re.M)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in re.findall(r'\]\(([^)\s]+)\)', page.read_text(encoding='utf-8')):
        if link.startswith('https://'):
            continue
        name, _, anchor = link.partition('#')
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_pages_are_as_short_as_they_are_to_be():
    for name, most in (('README.md', 180), ('CONTRIBUTING.md', 150)):
        assert len((ROOT / name).read_text(encoding='utf-8').splitlines()) <= most


def test_every_page_is_in_both_lists():
    for path in (ROOT / 'docs').glob('*.md'):
        for page, link in ((ROOT / 'README.md', f'docs/{path.name}'), (ROOT / 'docs/README.md', path.name)):
            assert path.name == 'README.md' or f']({link}' in page.read_text(encoding='utf-8'), (page, path.name)


def test_the_figure_is_what_its_script_draws(tmp_path):
    subprocess.run(
        [sys.executable, str(ROOT / 'tools/draw_idea.py'), '--output', str(tmp_path / 'idea.svg')], check=True
    )
    assert (tmp_path / 'idea.svg').read_bytes() == (ROOT / 'docs/figures/idea.svg').read_bytes()


def test_every_kind_of_operator_in_a_profile_is_explained():
    table = (ROOT / 'docs' / 'engine.md').read_text(encoding='utf-8').partition('## Reading a profile')[2]
    sources = [path.read_text(encoding='utf-8') for path in (ROOT / 'kernels' / 'engine').glob('*.h')]
    kinds = {
        kind for text in sources for line in re.findall(r'\bkind = (.+);', text) for kind in re.findall('"(.+?)"', line)
    }
    assert len(kinds) > 20
    assert [kind for kind in sorted(kinds) if f'`{kind}`' not in table] == []
