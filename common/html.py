"""Build HTML pages that open from disk, without a network, on any screen: pictures and styles are embedded.

`page` assembles the file from parts made by `table`, `image` and `section`. Plain text goes through `escape`.
"""

import base64
import hashlib
import html
import io
from typing import Any, Iterable, Optional, Sequence

from common.text import printable

__all__ = ['Markup', 'escape', 'image', 'markup', 'page', 'section', 'table']

# Colours are variables, so that a page follows the reader's choice of light or dark, drawings included.
STYLE = """
:root { --paper: #fff; --card: #f7f7f8; --ink: #1c1d20; --faint: #6b6f76; --line: #dcdde0; --heat: 198, 83, 43;
  color-scheme: light dark; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #16171a; --card: #1f2125; --ink: #e8e8ea; --faint: #9a9ea6; --line: #3a3d43;
    --heat: 235, 120, 75; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 72rem; background: var(--paper); color: var(--ink);
  font: 16px/1.45 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.5rem; line-height: 1.2; margin: .5rem 0; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid var(--line); padding-bottom: .25rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
p, figcaption, summary { margin: .4rem 0; }
.faint, figcaption, caption { color: var(--faint); font-size: .875rem; }
code { font-size: .875em; white-space: pre-wrap; }
.wide { overflow-x: auto; }
.grid { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); }
.small.grid { gap: .6rem; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); }
figure { margin: 0; min-width: 0; }
img, svg { display: block; width: 100%; height: auto; }
img { border-radius: 4px; }
img.pixels { image-rendering: pixelated; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem .25rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { font-weight: 600; }
.number { text-align: right; white-space: nowrap; }
details > summary { cursor: pointer; color: var(--faint); }
"""


def escape(text: Any) -> str:
    """Escape text for HTML, including quoted attributes."""
    return html.escape(printable(str(text), keep='\n\t'), quote=True)


class Markup(str):
    """Text that is already HTML."""


def markup(content: Any) -> str:
    """Return `content` as HTML, escaped unless it is `Markup`."""
    return content if isinstance(content, Markup) else escape(content)


def table(rows: Iterable[Sequence[Any]], head: Sequence[Any] = (), numbers: Sequence[int] = ()) -> Markup:
    """Return a table. Cells that are not `Markup` are escaped; the columns in `numbers` are right-aligned."""

    def row(cells: Sequence[Any], tag: str) -> str:
        kind = [' class="number"' if i in numbers else '' for i in range(len(cells))]
        return '<tr>' + ''.join(f'<{tag}{k}>{markup(cell)}</{tag}>' for k, cell in zip(kind, cells)) + '</tr>'

    lines = [f'<thead>{row(head, "th")}</thead>'] if head else []
    lines += ['<tbody>', *(row(cells, 'td') for cells in rows), '</tbody>']
    return Markup('<div class="wide"><table>\n' + '\n'.join(lines) + '\n</table></div>')


def image(pixels: Any, alt: str, lossy: bool = False, css: Optional[str] = None) -> Markup:
    """Embed a picture: (H, W, 3) or (H, W) uint8, as PNG, or as JPEG if `lossy`. `alt` describes it."""
    from PIL import Image

    file = io.BytesIO()
    if lossy:
        Image.fromarray(pixels).save(file, 'JPEG', quality=88)
    else:
        Image.fromarray(pixels).save(file, 'PNG', optimize=True)
    data = base64.b64encode(file.getvalue()).decode()
    kind = f' class="{escape(css)}"' if css else ''
    return Markup(f'<img{kind} alt="{escape(alt)}" src="data:image/{"jpeg" if lossy else "png"};base64,{data}">')


def section(title: str, body: str) -> Markup:
    """Return a section of a page with a heading. `body` is HTML."""
    return Markup(f'<section>\n<h2>{escape(title)}</h2>\n{body}\n</section>')


def page(title: str, body: str, style: str = '', script: str = '') -> bytes:
    """Return the complete HTML file: `body` is HTML, `style` is appended to the common style sheet.

    The page's content security policy forbids loading anything from elsewhere, so a page that is not self-contained
    visibly breaks. A server's page may have a `script`, which may send requests to that server and show pictures that
    it made itself.
    """
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        policy = policy.replace('data:', 'data: blob:') + f"; script-src 'sha256-{digest}'; connect-src 'self'"
        body += f'\n<script>{script}</script>'
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>{STYLE}{style}</style>
</head>
<body>
<h1>{escape(title)}</h1>
{body}
</body>
</html>
""".encode('utf-8', 'backslashreplace')  # file names may not be UTF-8
