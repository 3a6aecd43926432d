"""The project's metadata for tools: its version, whom to cite, how it is checked and built."""

import re
from pathlib import Path

import pytest
import yaml

import model
from model.published import PUBLISHED
from tests.test_house import FLOORS

ROOT = Path(__file__).resolve().parents[1]


def text(name):
    return (ROOT / name).read_text(encoding='utf-8')


def test_one_version():
    project = text('pyproject.toml').partition('[project]')[2].partition('[project.')[0]
    (version,) = re.findall(r"^version = '(.+)'$", project, re.M)
    assert model.__version__ == version == yaml.safe_load(text('CITATION.cff'))['version']


@pytest.mark.parametrize('package', FLOORS)
def test_packages_say_that_they_are_typed(package):
    assert (ROOT / package / 'py.typed').exists()


def test_papers_of_what_is_implemented_can_be_cited():
    content = yaml.safe_load(text('CITATION.cff'))
    assert content['cff-version'] == '1.2.0'
    cited = {reference['url'].rpartition('/')[2] for reference in content['references']}
    table = text('docs/networks.md').partition('## Units')[2].partition('## Options')[0]
    named = set(re.findall(r'arxiv\.org/abs/([\d.]+)', text('README.md') + table))
    papers = {row.paper for row in PUBLISHED.values()}
    named |= {paper.rpartition('arXiv ')[2] for paper in papers if 'arXiv ' in paper}
    assert named - cited == set()
    volumes = {paper[paper.index('PMLR ') :] for paper in papers if 'PMLR ' in paper}
    assert all(any(volume in reference['notes'] for reference in content['references']) for volume in volumes)
    assert all('arXiv ' in paper or 'PMLR ' in paper for paper in papers)
    for reference in content['references']:
        assert reference['authors'], reference['title']
        if 'PMLR' not in reference['notes']:
            assert reference['identifiers'][0]['value'] == f'arXiv:{reference["url"].rpartition("/")[2]}'


def test_the_public_checks_are_those_of_a_laptop():
    steps = yaml.safe_load(text('.github/workflows/ci.yml'))['jobs']['checks']['steps']
    assert [step['run'] for step in steps if 'run' in step] == ['.ci/run']


def test_the_container_ends_in_the_quickstart():
    lines = [line for line in text('Dockerfile').splitlines() if line and not line.startswith('#')]
    assert lines[-1] == 'CMD ["bash", "scripts/quickstart.sh"]'
    (setup,) = (line for line in lines if 'scripts/setup.sh' in line)
    flags = re.findall(r'--[\w${}-]+', setup)
    assert flags == ['--python', '--${DEVICE}']
    assert all(
        f'{flag} ' in text('scripts/setup.sh') or f'{flag},' in text('scripts/setup.sh')
        for flag in ('--python', '--cpu', '--gpu')
    )
