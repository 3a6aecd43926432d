"""The doctor: it runs anywhere, reports what it finds, and its commands are the ones that help."""

import json
import os
import subprocess
import sys

import pytest

from environment import cpu, cuda_libraries, gpu, health, threads
from kernels import engine, place

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DOCTOR = os.path.join(ROOT, 'scripts', 'doctor.py')
SETUP = f'bash {os.path.join(ROOT, "scripts", "setup.sh")}'


def run(*arguments, flags=(), **variables):
    clean = {k: v for k, v in os.environ.items() if k not in threads.VARIABLES}
    command = [sys.executable, *flags, DOCTOR, *arguments]
    environment = {**clean, **variables}
    return subprocess.run(command, cwd='/', env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def doctor(monkeypatch):
    """Return the script as a module."""
    monkeypatch.syspath_prepend(os.path.join(ROOT, 'scripts'))
    import doctor

    return doctor


def says_what_to_do(finding):
    return finding.state == 'ok' or bool(finding.command) != ('nothing to do' in finding.what)


def test_a_sound_set_up(tmp_path):
    done = run('--json', str(tmp_path / 'findings.json'))
    assert (done.returncode, done.stderr) == (0, '')
    findings = json.loads((tmp_path / 'findings.json').read_text())
    subjects = {finding['subject'] for finding in findings}
    named = {
        'Python',
        'platform',
        'NumPy',
        'MXNet',
        'GluonCV',
        'Horovod',
        'processor',
        'threads',
        'kernels',
        'engine',
        'CUDA driver',
        'data',
    }
    assert named <= subjects
    assert all(finding['what'] in done.stdout and finding['command'] in done.stdout for finding in findings)
    assert {finding['state'] for finding in findings} <= {'ok', 'note'}
    by_subject = {finding['subject']: finding for finding in findings}
    assert by_subject['threads']['what'] == f'{threads.physical_cores()} for {threads.physical_cores()} physical cores'
    assert by_subject['MXNet']['what'].startswith('1.9.1')


def test_where_nothing_is_installed():
    done = run(flags=['-S'])
    assert done.returncode == 1
    assert f'FAIL NumPy          {sys.executable} has no package numpy' in done.stdout
    assert 'FAIL MXNet' in done.stdout
    assert f'run: {SETUP}' in done.stdout or '.venv/bin/activate' in done.stdout
    assert done.stderr == ''


@pytest.mark.parametrize('broken', ['numpy', 'mxnet', 'gluoncv'])
def test_a_broken_package_is_named(tmp_path, broken):
    (tmp_path / f'{broken}.py').write_text('raise OSError("libnothing.so: cannot open")\n')
    done = run(PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert 'libnothing.so: cannot open' in done.stdout
    assert f'run: {SETUP} --fresh' in done.stdout
    assert done.stderr == ''


def test_threads_that_the_user_limits(tmp_path):
    done = run(OMP_NUM_THREADS=str(threads.physical_cores() + 1))
    assert (
        f'{threads.physical_cores() + 1} for {threads.physical_cores()} physical cores, as OMP_NUM_THREADS'
        in done.stdout
    )
    assert 'run: unset OMP_NUM_THREADS' in done.stdout


def test_an_unwritable_report_is_one_sentence():
    done = run('--json', '/no/such/folder/x.json')
    assert done.returncode == 1
    assert done.stderr.count('\n') == 1
    assert done.stderr.startswith('error: cannot write /no/such/folder/x.json')


def test_wrong_usage():
    assert run('--nonsense').returncode == 2


def test_data_folders(tmp_path):
    folder = tmp_path / 'datasets' / 'cifar10'
    folder.mkdir(parents=True)
    (folder / 'cifar-10-binary.tar.gz').touch()
    done = run(MXNET_HOME=str(tmp_path), HOME=str(tmp_path))
    assert f'ok   data           {folder}' in done.stdout
    assert f'{tmp_path / "datasets" / "cifar100"} is empty' in done.stdout
    assert 'nothing to do: training with --dataset cifar100 downloads to it' in done.stdout
    for name in ('imagenet', 'coco'):
        assert f'{tmp_path / ".mxnet" / "datasets" / name} is empty' in done.stdout


@pytest.mark.parametrize(
    ('wheel', 'gpus', 'version', 'states'),
    [
        (None, [], None, {'CUDA driver': 'ok'}),
        ('mxnet-cu112 1.9.1', [], None, {'CUDA driver': 'FAIL', 'CUDA libraries': 'note'}),
        (None, [gpu.Gpu('A100', (8, 0))], 12040, {'CUDA driver': 'ok', 'GPU': 'note'}),
        ('mxnet-cu112 1.9.1', [gpu.Gpu('A100', (8, 0))], 12040, {'CUDA driver': 'ok', 'GPU': 'ok'}),
        ('mxnet-cu112 1.9.1', [gpu.Gpu('H100', (9, 0))], 12040, {'GPU': 'FAIL'}),
        (None, [gpu.Gpu('H100', (9, 0))], 12040, {'GPU': 'note'}),
        ('mxnet-cu112 1.9.1', [gpu.Gpu('V100', (7, 0))], 10020, {'CUDA driver': 'FAIL'}),
    ],
)
def test_gpus(doctor, monkeypatch, wheel, gpus, version, states):
    monkeypatch.setattr(cuda_libraries, 'cuda_wheel', lambda: wheel)
    monkeypatch.setattr(gpu, 'gpus', lambda: gpus)
    monkeypatch.setattr(gpu, 'driver_cuda_version', lambda: version)
    found = {finding.subject: finding for finding in doctor.graphics()}
    assert {subject: found[subject].state for subject in states} == states
    for finding in found.values():
        assert finding.state != 'FAIL' or finding.command == f'{SETUP} --cpu'
        assert says_what_to_do(finding)


def test_every_finding_says_what_to_do(doctor, monkeypatch, tmp_path):
    monkeypatch.setattr(health, 'check_mxnet', lambda: health.Problem('MXNet does not start', 'this command'))
    monkeypatch.setattr(cpu, 'processor', lambda: ('an old processor', ['sse']))
    monkeypatch.setenv('MXNET_HOME', str(tmp_path))
    monkeypatch.setenv('HOME', str(tmp_path))
    compiled = doctor.compiled_kernels() + doctor.inference_engine()
    findings = doctor.packages() + doctor.processor() + compiled + doctor.data()
    noted = {finding.subject for finding in findings if finding.state == 'note'}
    assert noted >= {'processor', 'kernels', 'engine', 'data'}
    assert [finding for finding in findings if not says_what_to_do(finding)] == []


@pytest.mark.skipif(engine.why_not() is not None, reason=f'no engine: {engine.why_not()}')
@pytest.mark.parametrize(
    ('content', 'state'), [(None, 'not compiled'), (b'', 'is damaged'), ('other', 'was compiled for another')], ids=str
)
def test_an_engine_that_cannot_run(doctor, monkeypatch, tmp_path, content, state):
    monkeypatch.setattr(place, 'FOLDER', tmp_path / 'kernels')
    monkeypatch.setattr(engine, '_loaded', {})
    path = engine.library_path(engine.chosen())
    path.parent.mkdir(parents=True)
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else b'')
    if content == 'other':
        place.seal(path, 'of other sources')
    (finding,) = doctor.inference_engine()
    assert (finding.subject, finding.state) == ('engine', 'note')
    assert state in finding.what
    assert finding.command == f'cd {ROOT} && {sys.executable} -m kernels.engine'


@pytest.mark.parametrize(('instructions', 'found'), [(('sse',), 'no AVX2'), (('sse', 'avx2', 'fma'), 'no BMI1')])
def test_a_processor_for_which_there_is_no_engine(doctor, monkeypatch, instructions, found):
    monkeypatch.setattr(engine, 'processor', lambda: cpu.processor()._replace(instructions=instructions))
    (finding,) = doctor.inference_engine()
    assert finding.state == 'ok'
    assert found in finding.what


def test_folders_that_may_not_be_read(doctor, monkeypatch, tmp_path):
    def refuse(path, *_):
        raise PermissionError(13, 'Permission denied', str(path))

    monkeypatch.setenv('MXNET_HOME', str(tmp_path / 'locked' / 'home'))
    monkeypatch.setattr(os, 'listdir', refuse)
    monkeypatch.setattr(os.path, 'exists', lambda path: str(path) in ('/', str(tmp_path)))  # as below such a folder
    monkeypatch.setattr(os, 'access', lambda path, how: False)
    findings = doctor.data()
    assert [finding.state for finding in findings] == ['FAIL', 'FAIL', 'note', 'note', 'FAIL']
    assert {finding.command for finding in findings} == {f'export MXNET_HOME={os.path.join(ROOT, "datasets")}', ''}
    assert all(map(says_what_to_do, findings))


def test_a_home_folder_that_nobody_has():
    done = run(flags=['-S'], MXNET_HOME='~nobody-of-that-name/mxnet')
    assert done.stderr.startswith('error: ~nobody-of-that-name/mxnet begins with an unknown home folder')
    assert done.stderr.count('\n') == 1
