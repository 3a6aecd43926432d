"""The pages: their links lead somewhere, and the one about the engine names all that a profile does."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').glob('*.md'))]


def anchors(page):
    """The headings of a page as links call them."""
    text = re.sub(r'```.*?```', '', page.read_text(), flags=re.DOTALL)
    headings = re.findall(r'^#+ (.+)$', text, flags=re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r'\]\(([^)\s]+)\)', page.read_text()):
        if '://' in target:
            continue
        name, _, anchor = target.partition('#')
        other = page.parent / name if name else page
        assert other.exists(), target
        assert not anchor or anchor in anchors(other), target


def test_every_kind_of_operator_in_a_profile_is_explained():
    table = (ROOT / 'docs' / 'engine.md').read_text().partition('## Reading a profile')[2]
    sources = [path.read_text() for path in (ROOT / 'kernels' / 'engine').glob('*.h')]
    kinds = {
        kind for text in sources for line in re.findall(r'\bkind = (.+);', text) for kind in re.findall('"(.+?)"', line)
    }
    assert len(kinds) > 20
    assert [kind for kind in sorted(kinds) if f'`{kind}`' not in table] == []
