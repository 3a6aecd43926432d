"""--help of every script and tool: immediate, with examples that work, and with defaults in words."""

import json
import re
import shlex
import subprocess
import sys

import pytest

from inference import choices
from inference.export_kinds import KINDS
from model.convert import SOURCES
from model.hybridization import MODES
from tests.scripts.conftest import ROOT

PATTERNS = ('train_*.py', 'scripts/[a-z]*.py', 'tools/[a-z]*.py')
COMMANDS = sorted(str(path.relative_to(ROOT)) for pattern in PATTERNS for path in ROOT.glob(pattern))
HEAVY = ['mxnet', 'numpy', 'cv2', 'PIL', 'matplotlib', 'sklearn', 'scipy', 'gluoncv', 'horovod', 'tqdm']
# Runs a script once for each command line in one process; importing a heavy package ends a run.
DRIVER = """
import contextlib, io, json, pathlib, runpy, sys

class Reached(BaseException):
    pass

class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.split('.')[0] in heavy:
            raise Reached(name)

script, heavy, lines = json.loads(sys.stdin.read())
def write_text(path, *_, **__):
    raise Reached(path)

sys.meta_path.insert(0, Finder)
pathlib.Path.write_text = write_text
ends = []
for argv in lines:
    sys.argv = [script, *argv]
    sys.path.insert(0, script.rpartition('/')[0] or '.')
    out = io.StringIO()
    stream = io.TextIOWrapper(io.BytesIO(), encoding='utf-8')
    with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(out):
        try:
            runpy.run_path(script, run_name='__main__')
            end = 'ran'
        except SystemExit as error:
            end = f'exit {error.code} {out.getvalue()}'
        except Reached as error:
            end = f'reached {error}'
    stream.flush()
    ends.append([end, stream.buffer.getvalue().decode()])
print(json.dumps([ends, sorted(heavy_one for heavy_one in heavy if heavy_one in sys.modules)]))
"""


def answers(command, lines, cwd):
    """Return how the script ends with each command line, what it prints, and which heavy packages it imports."""
    given = json.dumps([str(ROOT / command), HEAVY, lines])
    done = subprocess.run(
        [sys.executable, '-c', DRIVER], input=given, capture_output=True, text=True, cwd=cwd, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def examples_of(help_text):
    """Return the command lines of the examples, without the shell's parts: pipes, variables, comments."""
    text = help_text.partition('\nexamples:\n')[2].replace('\\\n', ' ')
    lines = [line.partition('  #')[0].strip() for line in text.splitlines() if line.strip()]
    return [shlex.split(line[re.search(r'python \S+\.py', line).end() :]) for line in lines], lines


@pytest.mark.parametrize('command', COMMANDS)
def test_help_is_quick_and_shows_examples_that_work(command, tmp_path):
    ((end, text),), imported = answers(command, [['--help']], tmp_path)
    assert end == 'exit 0 '
    assert imported == []
    examples, lines = examples_of(text)
    assert len(examples) >= 3, text
    assert all(f'python {command}' in line for line in lines)
    assert not re.search(r'default: (xxx|-1)\b', text), text
    ends, imported = answers(command, examples, tmp_path)
    assert imported == []
    for (end, _), line in zip(ends, lines):
        # Status 1: the example's files do not exist; 2: its flags do not.
        assert end.startswith(('reached', 'ran', 'exit 0', 'exit 1')), (line, end)


# These print by nature: what is wrong with an installation, or what a server or a study is doing.
TALKERS = {'scripts/doctor.py', 'scripts/serve.py'}


@pytest.mark.parametrize('command', [name for name in COMMANDS if not name.startswith('tools/')])
def test_what_prints_can_be_quiet_or_tell_more(command, tmp_path):
    if command in TALKERS:
        return
    source = (ROOT / command).read_text()
    assert not re.search(r'\bprint\((?!.*file=sys\.stderr)', source), 'results go through common.console'
    ((_, text),), _ = answers(command, [['--help']], tmp_path)
    for flags in ('-q, --quiet', '-v, --verbose'):
        assert f'  {flags} ' in text
    assert 'print errors alone' in ' '.join(text.split())


def test_faults_in_the_flags_are_told_as_quickly(tmp_path):
    ((end, _),), imported = answers('scripts/predict.py', [['--params', 'x', '--bath-size', '3', 'a.jpg']], tmp_path)
    assert end.startswith('exit 2 error: there is no flag --bath-size; the nearest flag is --batch-size')
    assert imported == []


def test_choices_are_those_of_the_packages_that_need_mxnet(monkeypatch):
    for folder in ('scripts', 'tools'):
        monkeypatch.syspath_prepend(str(ROOT / folder))
    import convert_params

    assert tuple(SOURCES) == convert_params.ORIGINALS
    assert tuple(MODES) == choices.MODES
    assert tuple(KINDS) == choices.EXPORTS
    assert tuple(name for name, kind in KINDS.items() if kind.asked) == choices.ASKED
