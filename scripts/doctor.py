"""Report what works on this machine, and the exact command to fix what does not.

    python scripts/doctor.py                       # one line per check
    python scripts/doctor.py --json doctor.json    # and the same as JSON
    OMP_NUM_THREADS=1 python scripts/doctor.py     # with your own settings, to see their effect

Each line is ok, a note (it works, but something could be better or is not installed) or FAIL, with the command that
changes it, or a remark that there is nothing to do. The exit status is 1 if anything fails. Only Python itself is
needed to run it.
"""

import os

USERS_ENVIRONMENT = dict(os.environ)  # before anything of ours sets a variable

import argparse
import ctypes
import platform
import sys
from pathlib import Path
from typing import Callable, List, NamedTuple, Optional

import _bootstrap
import environment
from common.files import expanded, write_json
from common.usage import described
from environment import cpu, cuda_libraries, gpu, health, threads
from environment.health import mend

# What MXNet's kernels, or ours, look for: name: any of these flags of the processor
INSTRUCTIONS = {
    'AVX2': ('avx2',),
    'AVX-512': ('avx512f',),
    'VNNI (int8)': ('avx512_vnni', 'avx_vnni'),
    'AVX-512 bfloat16': ('avx512_bf16',),
    'AMX bfloat16': ('amx_bf16',),
    'AMX int8': ('amx_int8',),
}


class Finding(NamedTuple):
    """One line of the report. `state` is 'ok', 'note' or 'FAIL'; `command` fixes or improves it."""

    subject: str
    state: str
    what: str
    command: str = ''


def checked(subject: str, problem: Optional[health.Problem], fine: Callable[[], str]) -> Finding:
    """Return a failure where a check found a problem, else ok with what `fine` has to say."""
    if problem is not None:
        return Finding(subject, 'FAIL', problem.what, problem.command)
    return Finding(subject, 'ok', fine())


def version_of(package: str) -> Optional[str]:
    """Return the installed version of a package, or None."""
    from importlib import metadata  # Python 3.7 has none, and is to be told by `import _bootstrap` that it is too old

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def python() -> List[Finding]:
    """Python, the platform, and whether this is the project's own environment."""
    return [
        checked('Python', health.check_python(), lambda: f'{platform.python_version()} ({sys.executable})'),
        checked('platform', health.check_platform(), platform.platform),
    ]


def packages() -> List[Finding]:
    """Check that NumPy, MXNet, GluonCV and Horovod are installed and can be imported."""
    findings = [checked('NumPy', health.check_numpy(), lambda: version_of('numpy') or 'version unknown')]
    wheel = cuda_libraries.cuda_wheel()
    broken = health.check_mxnet()
    findings.append(checked('MXNet', broken, lambda: wheel or f'{version_of("mxnet")}, CPU build'))
    for subject, module, package, flags in (
        ('GluonCV', 'gluoncv', 'gluoncv', ''),
        ('Horovod', 'horovod.mxnet', 'horovod', ' --horovod'),
    ):
        version = version_of(package)
        if version is None and flags:
            findings.append(
                Finding(subject, 'note', 'not installed; needed to train with several processes', mend(flags))
            )
        elif version is None:
            findings.append(Finding(subject, 'FAIL', 'not installed', mend()))
        elif broken is not None:
            findings.append(Finding(subject, 'note', f'{version}, not tried, as MXNet does not start', broken.command))
        else:
            findings.append(starting(subject, module, version, flags))
    return findings


def starting(subject: str, module: str, version: str, flags: str) -> Finding:
    """Return whether an installed package can be imported."""
    try:
        __import__(module)
    except Exception as error:  # whatever a broken package throws is the finding
        return Finding(
            subject, 'FAIL', f'{version} does not start ({health.first_line(error)})', mend(' --fresh' + flags)
        )
    return Finding(subject, 'ok', version)


def processor() -> List[Finding]:
    """Return the instruction sets, the physical cores, and the threads that MXNet uses."""
    name, instructions = cpu.processor()
    has = [label for label, any_of in INSTRUCTIONS.items() if set(instructions).intersection(any_of)]
    findings = [Finding('processor', 'ok', f'{name}: {", ".join(has)}')]
    if 'AVX2' not in has:
        what = f'{name}: no AVX2, which makes networks slow; nothing to do but on another processor'
        findings = [Finding('processor', 'note', what)]
    cores = threads.physical_cores()
    setting = next((name for name in threads.VARIABLES if USERS_ENVIRONMENT.get(name)), None)
    using = os.environ.get(setting or 'OMP_NUM_THREADS', '')
    if 'mxnet' in sys.modules and sys.platform == 'linux':
        using = str(ctypes.CDLL('libgomp.so.1').omp_get_max_threads())  # the runtime that MXNet has loaded
    what = f'{using} for {cores} physical cores'
    if setting is None:
        findings.append(Finding('threads', 'ok', what))
    else:
        state = 'ok' if using == str(cores) else 'note'
        findings.append(
            Finding('threads', state, f'{what}, as {setting} says', '' if state == 'ok' else f'unset {setting}')
        )
    return findings


def compiled_kernels() -> List[Finding]:
    """Return whether MXNet's operators have our kernels."""
    broken = health.check_mxnet()
    if broken is not None:
        return [Finding('kernels', 'note', 'not tried, as MXNet does not start', broken.command)]
    import kernels
    from kernels.place import flaw, library_path, why_not

    reason = why_not()
    if reason is not None:
        return [Finding('kernels', 'ok', f'none: {reason}')]
    if USERS_ENVIRONMENT.get(kernels.SWITCH) == '0':
        return [Finding('kernels', 'note', f'left out, as {kernels.SWITCH} says', f'unset {kernels.SWITCH}')]
    if kernels.load():
        return [Finding('kernels', 'ok', 'compiled for this processor and this MXNet')]
    path = library_path()
    state = f'{path} {flaw(path)}' if path.exists() else 'not compiled'
    command = f'cd {_bootstrap.ROOT} && {sys.executable} -m kernels.build'
    return [Finding('kernels', 'note', f'{state}: attention trains more slowly', command)]


def inference_engine() -> List[Finding]:
    """Return whether optimized networks can run in the project's own engine."""
    broken = health.check_mxnet()
    if broken is not None:
        return [Finding('engine', 'note', 'not tried, as MXNet does not start', broken.command)]
    from kernels import engine
    from kernels.place import flaw

    reason = engine.why_not()
    if reason is not None:
        return [Finding('engine', 'ok', f'none: {reason}')]
    found = engine.load()
    if not isinstance(found, str):
        return [Finding('engine', 'ok', f'compiled for {engine.chosen().upper()}')]
    path = engine.library_path(engine.chosen())
    state = f'{path} {flaw(path) or "cannot be loaded"}' if path.exists() else 'not compiled'
    command = f'cd {_bootstrap.ROOT} && {sys.executable} -m kernels.engine'
    return [Finding('engine', 'note', f'{state}: optimized networks run in MXNet, more slowly', command)]


def graphics() -> List[Finding]:
    """Return the CUDA driver and libraries, and each GPU against the machine code in MXNet's CUDA build."""
    wheel, version, found = cuda_libraries.cuda_wheel(), gpu.driver_cuda_version(), gpu.gpus()
    if version is None:
        state = Finding('CUDA driver', 'ok', "no NVIDIA driver or GPU; MXNet's CPU build needs none")
        if wheel is not None:
            state = Finding('CUDA driver', 'FAIL', f'no NVIDIA driver or GPU, which {wheel} needs', mend(' --cpu'))
    else:
        runs = f'runs CUDA {version // 1000}.{version % 1000 // 10}'
        state = Finding('CUDA driver', 'ok', runs)
        if version < gpu.CUDA_VERSION:
            state = Finding('CUDA driver', 'note', f"{runs}; nothing to do: MXNet's CPU build needs none")
            if wheel is not None:
                state = Finding('CUDA driver', 'FAIL', f'{runs}, MXNet needs 11', mend(' --cpu'))
    findings = [state]
    if wheel is not None:
        missing = sorted(
            {cuda_libraries.LIBRARIES[name] for name in cuda_libraries.LIBRARIES if name not in cuda_libraries.find()}
        )
        findings.append(Finding('CUDA libraries', 'ok', f'{len(cuda_libraries.find())} of pip packages'))
        if missing:
            what = f'not from pip: {", ".join(missing)}; the system must have them'
            findings[-1] = Finding('CUDA libraries', 'note', what, mend(' --gpu --fresh'))
    for one in found:
        reason = gpu.unusable(one)
        capability = '.'.join(map(str, one.capability))
        if reason is not None and wheel is None:
            findings.append(Finding('GPU', 'note', f"{reason}; nothing to do: MXNet's CPU build needs none"))
        elif reason is not None:
            findings.append(Finding('GPU', 'FAIL', reason, mend(' --cpu')))
        elif wheel is None:
            findings.append(Finding('GPU', 'note', f"{one.name}, idle under MXNet's CPU build", mend(' --gpu')))
        else:
            findings.append(Finding('GPU', 'ok', f'{one.name}, compute capability {capability}'))
    return findings


def data() -> List[Finding]:
    """Return the folders where datasets are looked for, and downloaded to."""
    home = expanded(os.environ.get('MXNET_HOME') or Path('~', '.mxnet'))
    usual = expanded(Path('~', '.mxnet'))
    elsewhere = f'export MXNET_HOME={_bootstrap.ROOT / "datasets"}'
    # (folder, what works without it, the command that selects another)
    looked_at = [
        (home / 'datasets' / name, f'training with --dataset {name} downloads to it', elsewhere)
        for name in ('cifar10', 'cifar100')
    ]
    looked_at += [
        (usual / 'datasets' / name, f'{script} --data-dir takes another folder', '')
        for name, script in (('imagenet', 'train_imagenet.py'), ('coco', 'train_detection.py'))
    ]
    findings = []
    for folder, without, command in looked_at:
        try:
            full = bool(os.listdir(folder))
        except FileNotFoundError:
            full = False
        except OSError as error:
            what = f'cannot read {folder} ({error.strerror})'
            if command:
                findings.append(Finding('data', 'FAIL', what, command))
            else:
                findings.append(Finding('data', 'note', f'{what}; nothing to do: {without}'))
            continue
        if full:
            findings.append(Finding('data', 'ok', str(folder)))
        else:
            findings.append(Finding('data', 'note', f'{folder} is empty; nothing to do: {without}'))
    existing = next(folder for folder in (home, *home.parents) if os.path.exists(folder))
    if not os.access(existing, os.W_OK):
        findings.append(Finding('data', 'FAIL', f'cannot write to {home}', elsewhere))
    return findings


def report(findings: List[Finding]) -> str:
    """Return the findings as a table, each command below its finding."""
    lines = []
    for finding in findings:
        lines.append(f'{finding.state:<5}{finding.subject:<15}{finding.what}')
        if finding.command:
            lines.append(f'{"":<20}run: {finding.command}')
    return '\n'.join(lines)


def main(argv: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter, **described(__doc__))
    parser.add_argument('--json', metavar='FILE', help='also write the findings to FILE')
    options = parser.parse_args(argv)
    findings = python()
    if all(finding.state != 'FAIL' for finding in findings):  # nothing else matters before
        findings += packages() + processor() + compiled_kernels() + inference_engine() + graphics() + data()
    print(report(findings))
    if options.json:
        write_json(options.json, [finding._asdict() for finding in findings])
    return int(any(finding.state == 'FAIL' for finding in findings))


if __name__ == '__main__':
    environment.run_main(main)
