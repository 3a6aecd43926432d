"""The table of other projects' networks in docs/weights.md."""

from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_has_every_network_with_ours_and_its_licence(in_process):
    code, out, err = in_process('weights_table.py')
    assert code == 0, err
    assert (
        "| timm | `legacy_seresnet50` | `se_resnet50_v1`, `stem_pool='ceil'` | logits | apache-2.0 | 77.65 % |" in out
    )
    assert '| timm | `resnet50[cbam]` | `cbam_resnet50_v1b`, `unit_bias=False` | logits | – | – |' in out
    assert '| torchvision | `mnasnet0_75` | `mnasnet0_75`, `scaled_stem=True` | names | not stated | 71.18 % |' in out
    rows = [line for line in out.splitlines() if line.startswith('| ')]
    assert len(rows) == len(set(rows)) > 100
    assert in_process('weights_table.py', '--check', ROOT / 'docs' / 'weights.md')[0] == 0


def test_a_page_out_of_date_is_told(in_process, tmp_path):
    page = tmp_path / 'page.md'
    page.write_text('<!-- table: weights -->\n\n<!-- end of table -->\n')
    code, _, err = in_process('weights_table.py', '--check', page)
    assert code == 1
    assert f'run python tools/weights_table.py --update {page}' in err
