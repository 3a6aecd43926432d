"""Check HTML pages: self-contained, well-formed, and without complaints in a browser."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Dict, List, Tuple

import pytest

__all__ = ['Page', 'open_in_browser']

# Elements that have no end tag.
VOID = {'area', 'base', 'br', 'col', 'embed', 'hr', 'img', 'input', 'link', 'meta', 'source', 'track', 'wbr'}
LOADING = {'src', 'href', 'srcset', 'data', 'poster', 'action', 'xlink:href', 'background'}


class Page(HTMLParser):
    """A parsed page. Raises `AssertionError` if its tags do not match, or it would load anything from elsewhere."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: List[Tuple[str, Dict[str, str]]] = []
        self.words: List[str] = []
        self._open: List[str] = []
        self.content = path.read_text(encoding='utf-8')
        self.feed(self.content)
        self.close()
        assert self._open == []
        self.text = ' '.join(' '.join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.check(tag, dict(attributes))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.check(tag, dict(attributes))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open[-1:] == ['style']:
            assert '@import' not in data
            assert 'url(' not in data
        else:
            self.words.append(data)

    def check(self, tag, attributes):
        assert tag not in ('script', 'iframe', 'object', 'embed', 'base')
        for name, value in attributes.items():
            assert not name.startswith('on'), name
            if name in LOADING:
                assert value.startswith(('data:', '#')), f'{tag} {name}={value[:80]}'
            if name == 'style':
                assert 'url(' not in value
        self.tags.append((tag, attributes))

    def all(self, tag: str) -> List[Dict[str, str]]:
        """Return the attributes of all elements with a tag."""
        return [attributes for name, attributes in self.tags if name == tag]


def open_in_browser(path: Path, folder: Path, width: int = 1200) -> str:
    """Return the page as headless Chromium has it after loading; fail if there is a complaint on its console.

    Skips the test if there is no Chromium.
    """
    browser = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
    if browser is None:
        pytest.skip('there is no Chromium')
    flags = ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--enable-logging=stderr']
    flags += [f'--user-data-dir={folder}', f'--window-size={width},900', '--dump-dom']
    done = subprocess.run([browser, *flags, path.as_uri()], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    complaints = re.findall(r'^.*CONSOLE.*$', done.stderr, re.MULTILINE)
    assert not complaints, complaints
    return done.stdout
