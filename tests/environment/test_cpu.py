"""What the processor can do."""

from environment.cpu import instruction_sets, lacks


def test_the_processor_is_read(tmp_path):
    file = tmp_path / 'cpuinfo'
    file.write_text('processor\t: 0\nflags\t\t: fpu avx512_bf16\n\nprocessor\t: 1\nflags\t\t: fpu\n')
    assert instruction_sets(file) == ['fpu', 'avx512_bf16']
    file.write_text('processor\t: 0\n')
    assert list(instruction_sets(file)) == list(instruction_sets(tmp_path / 'absent')) == []


def test_what_a_precision_needs():
    assert lacks('float32', []) == ()
    assert lacks('bfloat16', ['amx_bf16']) == ()
    assert lacks('int8', ['avx2']) == ('avx512_vnni', 'avx_vnni', 'amx_int8')
