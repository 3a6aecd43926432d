"""HTML pages: text is escaped, pictures are embedded bit for bit, and nothing is loaded from elsewhere."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from common.html import Markup, escape, image, page, section, table
from tests.pages import Page, open_in_browser

EVIL = '</td><script src="https://elsewhere.example/x.js"></script>"&'


def written(tmp_path, body, title='A title'):
    path = tmp_path / 'page.html'
    path.write_bytes(page(title, body))
    return path


def test_text_stays_text(tmp_path):
    body = section(EVIL, table([(EVIL, Markup('<b>bold</b>'), 3)], head=(EVIL, 'b', 'c'), numbers=(2,)))
    parsed = Page(written(tmp_path, body, EVIL))
    script = '<script src="https://elsewhere.example/x.js"></script>'
    assert parsed.text.count(script) == 5  # page's title, twice, section's, head, cell
    assert parsed.all('b') == [{}]
    assert {'class': 'number'} in parsed.all('td')
    assert escape('"<&') == '&quot;&lt;&amp;'


def test_pictures_come_back(tmp_path):
    pixels = np.random.RandomState(0).randint(0, 256, (9, 7, 3)).astype(np.uint8)
    parsed = Page(written(tmp_path, image(pixels, EVIL) + image(pixels, 'b', lossy=True, css='pixels')))
    exact, lossy = parsed.all('img')
    assert exact['alt'] == EVIL
    assert lossy['class'] == 'pixels'
    found = [Image.open(io.BytesIO(base64.b64decode(each['src'].partition(',')[2]))) for each in (exact, lossy)]
    assert (np.asarray(found[0]) == pixels).all()
    assert [each.format for each in found] == ['PNG', 'JPEG']


def test_a_phone_is_told_its_width(tmp_path):
    assert {'name': 'viewport', 'content': 'width=device-width, initial-scale=1'} in Page(written(tmp_path, '')).all(
        'meta'
    )


def test_a_name_that_is_no_utf8_is_shown_with_an_escape():
    assert b'<title>caf\\udcff</title>' in page('caf\udcff', '')


@pytest.mark.parametrize(
    'body',
    [
        '<img src="https://elsewhere.example/a.png">',
        '<a href="http://elsewhere.example">x</a>',
        '<p style="background:url(//elsewhere.example/a.png)">x</p>',
        '<script>1</script>',
        '<p>',
    ],
)
def test_the_check_of_pages_finds_what_it_is_for(tmp_path, body):
    with pytest.raises(AssertionError):
        Page(written(tmp_path, body))


def test_a_browser_has_nothing_to_say(tmp_path):
    drawn = open_in_browser(written(tmp_path, '<p>Fine</p>'), tmp_path / 'browser')
    assert '<p>Fine</p>' in drawn


def test_the_policy_of_a_page_forbids_what_comes_from_elsewhere(tmp_path):
    path = written(tmp_path, '<img alt="" src="https://elsewhere.example/a.png">')
    with pytest.raises(AssertionError, match='Content Security Policy'):
        open_in_browser(path, tmp_path / 'browser')
