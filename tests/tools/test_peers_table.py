"""The table of other projects' networks in docs/weights.md."""

from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_has_every_network_with_ours(in_process):
    page = ROOT / 'docs' / 'weights.md'
    code, _, err = in_process('model_table.py', '--check', page)
    assert code == 0, err
    lines = page.read_text(encoding='utf-8').splitlines()
    assert "| timm | `legacy_seresnet50` | `se_resnet50_v1` `stem_pool='ceil'` | logits | 1 |" in lines
    composed = '| timm | `resnet50[cbam]` | `cbam_resnet50_v1b` `unit_bias=False` | logits | none: '
    assert [line for line in lines if line.startswith(composed)]
    assert '| torchvision | `mnasnet0_75` | `mnasnet0_75` `scaled_stem=True` | names | 1 |' in lines
    rows = [line for line in lines if line.startswith('| ')]
    assert len(rows) == len(set(rows)) > 100
