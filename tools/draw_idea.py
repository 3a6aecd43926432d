"""Draw the figure of the README: a backbone, the units plugged into its blocks, and the connection between them.

    python tools/draw_idea.py                  # writes docs/figures/idea.svg
    python tools/draw_idea.py --output idea.svg
    python tools/draw_idea.py --output docs/figures/new.svg    # beside the old one, to compare

The figure is plain SVG text, so the same script always writes the same file.
"""

from html import escape
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

import _bootstrap
from common.usage import described
from environment import run_main
from training.config.settings import Parser

FIGURE = _bootstrap.ROOT / 'docs' / 'figures' / 'idea.svg'
WIDTH, HEIGHT = 960, 452

INK, GREY, PAPER = '#24292f', '#6e7781', '#ffffff'
# (fill, stroke) of each kind of part, both in the drawing and in the name below it.
BACKBONE = ('#eaeef2', '#57606a')
ACTIVATION = ('#ffe2b8', '#b35900')
ATTENTION = ('#cfe4ff', '#0550ae')
CONNECTION = ('#ffd9d6', '#cf222e')

TITLE = 'Three plug points on a backbone, each filled by a word of its name'
# A word of the name, its colours, what it stands for, what that does to a feature map, and what there is of the kind.
LEGEND = (
    ('atac_', ACTIVATION, 'activation unit', 'x → x', ('ReLU, PReLU, ELU, SELU,', 'GELU, Swish, xUnit,', 'ATAC')),
    (
        'dca_',
        CONNECTION,
        'connection',
        'hands *carry on',
        ('none;', 'DCA: through the network;', 'DIA: an LSTM per stage'),
    ),
    ('se_', ATTENTION, 'attention unit', '(x, *carry) → (x, *carry)', ('SE, SK, GE, ECA,', 'GC, CBAM, SGE')),
    (
        'resnet101_v1b',
        BACKBONE,
        'backbone',
        'image → classes',
        ('ResNet, PreResNet, WRN,', 'ResNeXt, MobileNetV2,', 'MnasNet'),
    ),
)

BLOCKS = (150, 392, 634)  # left edges
BLOCK_TOP, BLOCK_WIDTH, BLOCK_HEIGHT = 92, 210, 138
LINE = 178  # height of the residual branch
CARRY = 66  # height of the connection


def text(
    x: float, y: float, words: str, size: int = 14, fill: str = INK, anchor: str = 'middle', weight: str = 'normal'
) -> str:
    """Return a line of text."""
    style = f'font-size="{size}" fill="{fill}" text-anchor="{anchor}" font-weight="{weight}"'
    return f'<text x="{x:g}" y="{y:g}" {style}>{escape(words)}</text>'


def box(
    x: float, y: float, width: float, height: float, colours: Tuple[str, str], words: str = '', size: int = 14
) -> str:
    """Return a rounded box with a word in its middle."""
    shape = f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="7"'
    drawn = f'{shape} fill="{colours[0]}" stroke="{colours[1]}" stroke-width="1.5"/>'
    return drawn + (text(x + width / 2, y + height / 2 + 5, words, size) if words else '')


def arrow(points: Sequence[Tuple[float, float]], colour: str = GREY, width: float = 1.5) -> str:
    """Return a line through the points, with a head at its end."""
    path = ' '.join(f'{x:g},{y:g}' for x, y in points)
    head = 'red' if colour == CONNECTION[1] else 'grey'
    line = f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width:g}"'
    return f'{line} stroke-linejoin="round" marker-end="url(#{head})"/>'


def block(left: float) -> List[str]:
    """Return one residual block: convolution, activation unit, convolution, attention unit, sum."""
    end = left + BLOCK_WIDTH
    parts = [
        box(left, BLOCK_TOP, BLOCK_WIDTH, BLOCK_HEIGHT, ('#f6f8fa', BACKBONE[1])),
        # The shortcut, below the branch.
        arrow([(left - 16, LINE), (left - 16, 214), (end - 12, 214), (end - 12, LINE + 9)]),
        arrow([(left - 32, LINE), (left + 10, LINE)]),
        box(left + 10, LINE - 17, 44, 34, BACKBONE, 'conv', 13),
        box(left + 59, LINE - 17, 30, 34, ACTIVATION, 'σ', 16),
        box(left + 94, LINE - 17, 44, 34, BACKBONE, 'conv', 13),
        box(left + 143, BLOCK_TOP + 18, 36, 85, ATTENTION, 'att', 14),
        arrow([(left + 179, LINE), (end - 21, LINE)]),
        f'<circle cx="{end - 12:g}" cy="{LINE}" r="8" fill="{PAPER}" stroke="{GREY}" stroke-width="1.5"/>',
        text(end - 12, LINE + 5, '+'),
    ]
    return parts


def legend() -> List[str]:
    """Return the legend: what each plug point may hold, and the name of a network with these parts."""
    parts = []
    for i, (word, colours, title, signature, names) in enumerate(LEGEND):
        left = 30 + 232 * i
        parts += [
            box(left, 262, 204, 126, (PAPER, colours[1])),
            text(left + 102, 284, title, 15, colours[1], weight='bold'),
            f'<g font-family="monospace">{text(left + 102, 304, signature, 12, GREY)}</g>',
            *(text(left + 102, 328 + 18 * row, line, 13) for row, line in enumerate(names)),
            f'<rect x="{left}" y="402" width="204" height="34" rx="7" fill="{colours[0]}"/>',
            f'<g font-family="monospace">{text(left + 102, 424, word, 16, weight="bold")}</g>',
        ]
    return parts


def draw() -> str:
    """Return the figure as SVG."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
        ' font-family="Helvetica, Arial, sans-serif" role="img">',
        '<title>A backbone with an activation unit and an attention unit in each block, and a connection between '
        'the attention units</title>',
        '<defs>',
    ]
    for name, colour in (('grey', GREY), ('red', CONNECTION[1])):
        parts.append(
            f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="5.5" markerHeight="5.5" '
            f'orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="{colour}"/></marker>'
        )
    parts += ['</defs>', f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{PAPER}"/>']
    parts.append(box(30, LINE - 22, 72, 44, BACKBONE, 'stem'))
    # Wires come first, so that what they lead to covers their ends.
    for left in (102, *(left + BLOCK_WIDTH - 4 for left in BLOCKS[:-1])):
        parts.append(f'<path d="M{left},{LINE} h32" stroke="{GREY}" stroke-width="1.5"/>')
    for left in BLOCKS:
        parts += block(left)
    parts += [arrow([(BLOCKS[-1] + BLOCK_WIDTH - 4, LINE), (872, LINE)])]
    parts += [box(872, LINE - 22, 70, 44, BACKBONE, 'classes')]
    # What each attention unit passes to the next.
    for left, following in zip(BLOCKS, BLOCKS[1:]):
        start, stop = left + 172, following + 150
        points = [(start, BLOCK_TOP + 18), (start, CARRY), (stop, CARRY), (stop, BLOCK_TOP + 17)]
        parts.append(arrow(points, CONNECTION[1], 2.5))
        parts.append(box((start + stop) / 2 - 38, CARRY - 14, 76, 28, CONNECTION, '*carry', 13))
    parts += [
        text(30, 34, TITLE, 18, anchor='start', weight='bold'),
        *legend(),
        '</svg>',
    ]
    return '\n'.join(parts) + '\n'


def main(argv: Optional[Sequence[str]] = None) -> int:
    parser = Parser(prog='draw_idea.py', **described(__doc__))
    parser.add_argument('--output', type=Path, default=FIGURE, metavar='FILE', help='the SVG to write')
    args = parser.parse_args(argv)
    args.output.write_text(draw(), encoding='utf-8')
    return 0


if __name__ == '__main__':
    run_main(main)
