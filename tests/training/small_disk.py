"""Run a Python script on a disk that is full after some KB: a tmpfs in a namespace of its own.

    outcome = on_small_disk(kilobytes, script)

The script finds the empty disk as `disk` (a `pathlib.Path`), and `fill(disk, free)`, which leaves `free` bytes
of it. `file_size_limit(size)` is the same for the files of this process, without a disk.
"""

import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

__all__ = ['available', 'file_size_limit', 'on_small_disk']

ROOT = Path(__file__).resolve().parents[2]
PRELUDE = """
import environment, os, subprocess, sys
from pathlib import Path
disk = Path(sys.argv[1])

def fill(disk, free):
    ballast = disk / 'ballast'
    ballast.unlink() if ballast.exists() else None
    room = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    ballast.write_bytes(bytes(max(room - free, 0)))

"""


def _command(folder: str, kilobytes: int, *command: str) -> list:
    mount = f'mount -t tmpfs -o size={kilobytes}k none "$0" && exec "$@"'
    return ['unshare', '--map-root-user', '--mount', 'sh', '-c', mount, folder, *command]


def available() -> bool:
    """Return whether this machine allows such a disk."""
    if shutil.which('unshare') is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        return subprocess.run(_command(folder, 64, 'true'), capture_output=True).returncode == 0


def on_small_disk(kilobytes: int, script: str) -> subprocess.CompletedProcess:
    """Run the script, and return its output and its exit status."""
    with tempfile.TemporaryDirectory() as folder:
        command = _command(folder, kilobytes, sys.executable, '-c', PRELUDE + script, folder)
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


@contextmanager
def file_size_limit(size):
    """Limit files of this process to `size` bytes within the block."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
