"""How entry points end: their exit status, and what they print."""

import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from environment import run_main

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def run(body, tmp_path, *flags):
    """Run an entry point with this body of `main`."""
    lines = '\n'.join('    ' + line for line in body.splitlines())
    script = tmp_path / 'entry.py'
    script.write_text(f'import environment\ndef main():\n{lines}\nenvironment.run_main(main)\n')
    command = [sys.executable, *flags, str(script)]
    environment = {**os.environ, 'PYTHONPATH': ROOT}
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ('body', 'status', 'message'),
    [
        ('pass', 0, ''),
        ('return 0', 0, ''),
        ('return 3', 3, ''),
        ('raise environment.UserError("no such file: x")', 1, 'error: no such file: x\n'),
        ('raise environment.UsageError("--a is b")', 2, 'error: --a is b\n'),
        ('raise environment.SetupError("run: this")', 1, 'error: run: this\n'),
        ('raise KeyboardInterrupt', 130, ''),
        ('raise SystemExit(143)', 143, ''),
    ],
)
def test_status_and_message(tmp_path, body, status, message):
    done = run(body, tmp_path)
    assert (done.returncode, done.stderr) == (status, message)


def test_a_name_that_is_no_text_is_printed_with_escapes(tmp_path, monkeypatch):
    monkeypatch.setenv('PYTHONIOENCODING', 'utf-8:strict')  # as in a UTF-8 locale
    done = run('import os; print("a é", os.fsdecode(b"caf\\xff"))', tmp_path)
    assert (done.returncode, done.stderr) == (0, '')
    assert done.stdout.endswith('caf\\udcff\n')


@pytest.mark.parametrize('error', ['ValueError', 'AttributeError', 'OSError', 'ImportError', 'BrokenPipeError'])
def test_a_bug_keeps_its_traceback(tmp_path, error):
    done = run(f'raise {error}("a bug of ours")', tmp_path)
    assert done.returncode == 1
    assert 'Traceback' in done.stderr
    assert f'{error}: a bug of ours' in done.stderr


@pytest.mark.parametrize(
    ('package', 'flag'),
    [('onnx', '--onnx'), ('tensorboard', '--tensorboard'), ('horovod', '--horovod')],
)
def test_a_missing_extra_names_its_command(tmp_path, package, flag):
    absent = f'import sys; sys.modules[{package!r}] = None'  # Python's mark for a module that cannot be imported
    for body in (f'import {package}', f'environment.import_extra({package!r})'):
        blocked = f'{absent}\ntry:\n    {body}\nfinally:\n    del sys.modules[{package!r}]'
        done = run(blocked, tmp_path)
        assert done.returncode == 1
        assert done.stderr.count('\n') == 1
        assert f'has no package {package}; run: bash ' in done.stderr
        assert done.stderr.endswith(f'scripts/setup.sh {flag}\n')


def test_a_missing_module_of_ours_is_a_bug(tmp_path):
    done = run('import model.nonsense', tmp_path)
    assert "No module named 'model.nonsense'" in done.stderr
    assert 'Traceback' in done.stderr


def test_an_installed_extra_is_imported():
    import environment

    assert environment.import_extra('json').dumps(1) == '1'


def test_verbose_adds_where_an_error_arose(tmp_path):
    for verbose in (False, True):
        heeded = f'from common.console import heed; heed(quiet=False, verbose={verbose})'
        done = run(f'{heeded}\nraise environment.UserError("the flag is wrong")', tmp_path)
        assert done.returncode == 1
        assert done.stderr.endswith('error: the flag is wrong\n')
        assert ('Traceback' in done.stderr) == verbose


def test_a_reader_that_goes_away_ends_it_quietly(tmp_path):
    script = tmp_path / 'entry.py'
    script.write_text(
        'import environment\ndef main():\n    for i in range(100000): print(i)\nenvironment.run_main(main)\n'
    )
    command = f'{sys.executable} {script} | head -n 1'
    environment = {**os.environ, 'PYTHONPATH': ROOT}
    done = subprocess.run(
        command, shell=True, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert (done.stdout, done.stderr) == ('0\n', '')


def test_an_interrupt_from_outside(tmp_path):
    script = tmp_path / 'entry.py'
    script.write_text(
        'import environment, signal, time\n'
        # If the tests run in the background, the signal may be ignored.
        'signal.signal(signal.SIGINT, signal.default_int_handler)\n'
        'def main():\n    print("up", flush=True)\n    time.sleep(60)\n'
        'environment.run_main(main)\n'
    )
    command = [sys.executable, str(script)]
    environment = {**os.environ, 'PYTHONPATH': ROOT}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == 'up\n'
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(300) == 130
        assert process.stderr.read() == ''


@pytest.mark.parametrize(
    ('number', 'sentence'),
    [
        (errno.EACCES, 'permission denied; change the permissions or choose another path'),
        (errno.ENAMETOOLONG, 'the name is too long; choose a shorter one'),
        (errno.EMFILE, 'too many files are open; raise the limit (ulimit -n) and start again'),
        (errno.ENOENT, 'there is no such file or folder; check the path'),
    ],
)
def test_an_error_about_a_path_is_one_sentence(capsys, number, sentence):
    def main():
        raise OSError(number, os.strerror(number), '/a/path')

    with pytest.raises(SystemExit) as ended:
        run_main(main)
    assert (ended.value.code, capsys.readouterr().err) == (1, f'error: cannot use /a/path: {sentence}\n')


@pytest.mark.parametrize('arguments', [(errno.EINVAL, 'Invalid argument', '/a/path'), (errno.EACCES, 'no path')])
def test_an_error_of_the_system_that_no_path_mends_is_a_bug(arguments):
    def main():
        raise OSError(*arguments)

    with pytest.raises(OSError, match=arguments[1]):
        run_main(main)


@pytest.mark.parametrize('text', ['short', 'long' * 10000])
@pytest.mark.parametrize('leave', [lambda: 0, lambda: sys.exit(0)])
def test_a_full_disk_behind_stdout_is_one_sentence(monkeypatch, capsys, text, leave):
    def main():
        print(text)
        return leave()

    with open('/dev/full', 'w') as full:
        monkeypatch.setattr(sys, 'stdout', full)
        with pytest.raises(SystemExit) as ended:
            run_main(main)
        full.flush()  # as the interpreter does at exit
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith('error: cannot write the output: the disk is full; free some')


def test_an_interrupt_before_a_script_has_begun(tmp_path):
    script = tmp_path / 'script.py'
    script.write_text('import _bootstrap\nraise KeyboardInterrupt\n')
    environment = {**os.environ, 'PYTHONPATH': os.path.join(ROOT, 'scripts')}
    command = [sys.executable, '-S', str(script)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, '', '')
    script.write_text('import _bootstrap\nraise ValueError("a bug")\n')
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert 'Traceback' in done.stderr
