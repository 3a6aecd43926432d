"""What the processor can do."""

import platform

from environment.cpu import lacks, processor


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
