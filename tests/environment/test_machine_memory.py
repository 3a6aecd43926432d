"""The memory of a machine, and of a container."""

from environment.machine_memory import all_memory, free_memory

GIB = 1 << 30


def test_a_containers_limit_and_the_files_that_it_would_give_back(tmp_path, monkeypatch):
    monkeypatch.setenv('HOROVOD_LOCAL_SIZE', '1')
    present, free = all_memory(str(tmp_path)), free_memory(str(tmp_path))
    assert 0 < free <= present
    (tmp_path / 'memory.max').write_text('max\n')
    (tmp_path / 'memory.current').write_text(f'{GIB}\n')
    assert all_memory(str(tmp_path)) == present
    (tmp_path / 'memory.max').write_text(f'{1 << 20}\n')
    (tmp_path / 'memory.current').write_text(f'{1 << 20}\n')
    assert all_memory(str(tmp_path)) == 1 << 20
    assert free_memory(str(tmp_path)) == 0
    (tmp_path / 'memory.stat').write_text(f'anon 5\ninactive_file {1 << 19}\n')
    assert free_memory(str(tmp_path)) == 1 << 19
    monkeypatch.setenv('HOROVOD_LOCAL_SIZE', '4')
    assert free_memory(str(tmp_path)) == 1 << 17


def test_the_first_version_of_control_groups(tmp_path, monkeypatch):
    monkeypatch.setenv('HOROVOD_LOCAL_SIZE', '1')
    folder = tmp_path / 'memory'
    folder.mkdir()
    (folder / 'memory.limit_in_bytes').write_text('3000')
    (folder / 'memory.usage_in_bytes').write_text('2000')
    (folder / 'memory.stat').write_text('total_inactive_file 500')
    assert all_memory(str(tmp_path)) == 3000
    assert free_memory(str(tmp_path)) == 1500
