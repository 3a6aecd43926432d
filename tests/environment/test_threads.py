"""The number of threads: each core is counted once, limits are respected, and the user's setting wins."""

import ctypes
import os
import subprocess
import sys

import pytest

from environment import threads

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def topology(folder, siblings):
    """Stand in for a machine whose logical processor i shares its core with siblings[i]."""
    for cpu, text in enumerate(siblings):
        place = folder / f'cpu{cpu}' / 'topology'
        place.mkdir(parents=True)
        (place / 'thread_siblings_list').write_text(text + '\n')
    return folder


@pytest.mark.skipif(not hasattr(os, 'sched_getaffinity'), reason='Linux only')
class TestLinux:
    def test_hyper_threads_are_not_counted(self, tmp_path, monkeypatch):
        monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: {0, 1, 2, 3})
        assert threads._linux_cores(topology(tmp_path, ['0,2', '1,3', '0,2', '1,3'])) == 2

    def test_only_the_affinity_mask_counts(self, tmp_path, monkeypatch):
        monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: {0, 2, 3})
        assert threads._linux_cores(topology(tmp_path, ['0-1', '0-1', '2-3', '2-3'])) == 2

    def test_without_topology_each_processor_is_a_core(self, tmp_path, monkeypatch):
        monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: {0, 1, 5})
        assert threads._linux_cores(tmp_path) == 3

    def test_a_process_bound_to_one_processor_uses_one_thread(self):
        code = 'import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); import environment, sys; '
        assert run(code + 'print(os.environ["OMP_NUM_THREADS"])') == '1'


class TestQuota:
    def membership(self, tmp_path, text):
        path = tmp_path / 'membership'
        path.write_text(text)
        return path

    def test_version_2_takes_the_tightest_on_the_way_up(self, tmp_path):
        root = tmp_path / 'cgroup'
        (root / 'a' / 'b').mkdir(parents=True)
        (root / 'a' / 'cpu.max').write_text('150000 100000\n')
        (root / 'a' / 'b' / 'cpu.max').write_text('max 100000\n')
        assert threads._cgroup_limit(root, self.membership(tmp_path, '0::/a/b\n')) == 1.5

    def test_version_2_in_a_container_reads_its_own_root(self, tmp_path):
        root = tmp_path / 'cgroup'
        root.mkdir()
        (root / 'cpu.max').write_text('400000 100000\n')
        assert threads._cgroup_limit(root, self.membership(tmp_path, '0::/docker/abc\n')) == 4

    def test_version_1(self, tmp_path):
        group = tmp_path / 'cgroup' / 'cpu' / 'job'
        group.mkdir(parents=True)
        (group / 'cpu.cfs_quota_us').write_text('300000\n')
        (group / 'cpu.cfs_period_us').write_text('100000\n')
        membership = self.membership(tmp_path, '4:memory:/job\n3:cpu,cpuacct:/job\n')
        assert threads._cgroup_limit(tmp_path / 'cgroup', membership) == 3

    @pytest.mark.parametrize('quota', ['-1', ''])
    def test_version_1_without_a_quota(self, tmp_path, quota):
        group = tmp_path / 'cgroup' / 'cpu'
        group.mkdir(parents=True)
        (group / 'cpu.cfs_quota_us').write_text(quota)
        (group / 'cpu.cfs_period_us').write_text('100000\n')
        assert threads._cgroup_limit(tmp_path / 'cgroup', self.membership(tmp_path, '3:cpu:/\n')) is None

    @pytest.mark.parametrize(('limit', 'expected'), [(None, 8), (0.5, 1), (2.9, 2), (100.0, 8)])
    @pytest.mark.skipif(sys.platform != 'linux', reason='Linux only')
    def test_it_caps_the_cores_and_leaves_at_least_one(self, monkeypatch, limit, expected):
        monkeypatch.setattr(threads, '_linux_cores', lambda topology: 8)
        monkeypatch.setattr(threads, '_cgroup_limit', lambda root, membership: limit)
        assert threads.physical_cores() == expected


def run(code, **variables):
    """Return the output of Python code in a process whose only thread settings are these."""
    clean = {k: v for k, v in os.environ.items() if k not in (*threads.VARIABLES, *threads.LOCAL_SIZES)}
    environment = {**clean, 'PYTHONPATH': ROOT, **variables}
    command = [sys.executable, '-c', code]
    return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


SHOW = 'import environment, os; print(os.environ.get("OMP_NUM_THREADS"), os.environ.get("MXNET_OMP_MAX_THREADS"))'


def test_all_cores_by_default():
    assert run(SHOW) == f'{threads.physical_cores()} None'


def test_the_users_setting_wins():
    assert run(SHOW, OMP_NUM_THREADS='7') == '7 None'
    assert run(SHOW, MXNET_OMP_MAX_THREADS='5') == 'None 5'


def test_processes_of_one_launcher_share_the_cores(monkeypatch):
    for name in threads.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, 'physical_cores', lambda: 8)
    monkeypatch.setenv('HOROVOD_LOCAL_SIZE', '3')
    threads.set_threads()
    assert os.environ['OMP_NUM_THREADS'] == '2'


def test_never_less_than_one_thread(monkeypatch):
    for name in threads.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, 'physical_cores', lambda: 2)
    monkeypatch.setenv('HOROVOD_LOCAL_SIZE', '16')
    threads.set_threads()
    assert os.environ['OMP_NUM_THREADS'] == '1'


@pytest.mark.skipif(sys.platform != 'linux', reason='asks the runtime by its Linux name')
def test_the_runtime_of_mxnet_obeys():
    ctypes.CDLL('libgomp.so.1')
    code = 'import environment, mxnet, ctypes; print(ctypes.CDLL("libgomp.so.1").omp_get_max_threads())'
    assert run(code) == str(threads.physical_cores())
    assert run(code, OMP_NUM_THREADS='3') == '3'


@pytest.mark.parametrize('given', [{}, {'OMP_WAIT_POLICY': 'passive'}, {'GOMP_SPINCOUNT': '0'}])
def test_how_threads_wait_is_set_unless_the_user_did(given, monkeypatch):
    for name in threads.WAITING:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    threads.set_threads()
    assert {name: os.environ[name] for name in threads.WAITING if name in os.environ} == (given or threads.WAITING)
