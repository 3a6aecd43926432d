"""What the processor supports."""

import platform

import pytest

from environment import cpu
from environment.cpu import LIMIT, lacks, processor


def test_the_first_processor_is_read(tmp_path):
    file = tmp_path / 'cpuinfo'
    file.write_text(
        'processor\t: 0\nmodel name\t: One\nflags\t\t: fpu avx512_bf16\n\nprocessor\t: 1\nmodel name\t: Two\n'
    )
    assert processor(file) == ('One', ('fpu', 'avx512_bf16'))


def test_a_kernel_that_says_nothing(tmp_path):
    file = tmp_path / 'cpuinfo'
    file.write_text('processor\t: 0\n')
    assert processor(file) == processor(tmp_path / 'absent') == (platform.machine(), ())


def test_what_a_precision_needs():
    assert lacks('float32', []) == ()
    assert lacks('bfloat16', ['amx_bf16']) == ()
    assert lacks('int8', ['avx2']) == ('avx512_vnni', 'avx_vnni', 'amx_int8')


@pytest.mark.parametrize(
    ('limit', 'without'),
    [
        ('AVX2', {'bfloat16', 'int8'}),
        ('avx512_core', {'bfloat16', 'int8'}),
        ('AVX512_CORE_VNNI', {'bfloat16'}),
        ('AVX512_CORE_BF16', set()),
        ('ALL', set()),
    ],
)
def test_what_onednn_may_not_use_is_not_there(monkeypatch, limit, without):
    monkeypatch.setenv(LIMIT, limit)
    monkeypatch.setattr(cpu, 'processor', lambda: cpu.Processor('', ('avx2', 'avx512_vnni', 'avx512_bf16')))
    assert {precision for precision in ('bfloat16', 'int8') if lacks(precision)} == without
    assert lacks('float32') == ()
