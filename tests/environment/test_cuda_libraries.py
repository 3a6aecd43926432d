"""CUDA's libraries from pip packages: found, and each loaded after those that it needs."""

import ctypes
import shutil
import subprocess
import sys

import pytest

from environment import cuda_libraries


@pytest.fixture
def site(tmp_path, monkeypatch):
    folder = tmp_path / 'site-packages'
    folder.mkdir()
    monkeypatch.setattr(sys, 'path', [*sys.path, str(folder)])
    return folder


def add_libraries(site, names):
    for name in names:
        folder = site / 'nvidia' / cuda_libraries.LIBRARIES[name].split('-')[1] / 'lib'
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_nothing_is_loaded_for_the_cpu_build(site, monkeypatch):
    add_libraries(site, cuda_libraries.LIBRARIES)
    monkeypatch.setattr(ctypes, 'CDLL', lambda *args, **kwargs: pytest.fail('a library was loaded'))
    assert cuda_libraries.cuda_wheel() is None
    cuda_libraries.preload()


@pytest.mark.skipif(sys.platform != 'linux', reason='the CUDA build is for Linux')
def test_those_that_are_there_are_loaded_in_order(site, monkeypatch):
    (site / 'mxnet_cu112-1.9.1.dist-info').mkdir()
    present = [name for name in cuda_libraries.LIBRARIES if name != 'libnccl.so.2']
    add_libraries(site, reversed(present))
    loaded = []
    monkeypatch.setattr(ctypes, 'CDLL', lambda path, mode: loaded.append((path.rpartition('/')[2], mode)))
    cuda_libraries.preload()
    assert loaded == [(name, ctypes.RTLD_GLOBAL) for name in present]
    assert cuda_libraries.cuda_wheel() == 'mxnet-cu112 1.9.1'


@pytest.mark.skipif(sys.platform != 'linux' or shutil.which('cc') is None, reason='needs a C compiler on Linux')
def test_a_library_that_names_another_then_loads(site):
    """Like libmxnet.so, the library names libcudart.so.11.0, which is in no folder that the loader searches."""
    folder = site / 'nvidia' / 'cuda_runtime' / 'lib'
    folder.mkdir(parents=True)
    (site / 'mxnet_cu112-1.9.1.dist-info').mkdir()
    needed, user = folder / 'libcudart.so.11.0', site / 'libuser.so'
    (site / 'a.c').write_text('int seven(void) { return 7; }')
    (site / 'b.c').write_text('int seven(void); int eight(void) { return seven() + 1; }')
    cc = ['cc', '-shared', '-fPIC', '-o']
    subprocess.run([*cc, str(needed), str(site / 'a.c'), '-Wl,-soname,libcudart.so.11.0'], check=True)
    subprocess.run([*cc, str(user), str(site / 'b.c'), str(needed)], check=True)
    with pytest.raises(OSError, match='libcudart'):
        ctypes.CDLL(str(user))
    cuda_libraries.preload()
    assert ctypes.CDLL(str(user)).eight() == 8
