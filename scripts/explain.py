"""Show what trained networks look at: heat maps of images by stage, gates by depth and channel, connections.

python scripts/explain.py --params runs/photos photo.jpg album/
python scripts/explain.py --params runs/photos --class cat --stage 3 --stage 4 -o pictures photo.jpg
python scripts/explain.py --params runs/se --params runs/dca --gates --connection --html page.html photo.jpg
"""

import _bootstrap  # noqa: F401
from environment import UsageError, UserError, answer_flags, require_mxnet, run_main  # isort: split

import argparse
import dataclasses
import difflib
import os
import re
import sys
from typing import Any, Dict, List, Optional, Sequence, Tuple

from _network_flags import Networks, check_network_flags, networks_from
from common.console import say, timed
from common.files import check_writable, make_folder
from common.text import printable
from common.together import Together, written_together
from common.usage import described
from training.config.console import add_console_flags, heed_flags
from training.config.fields import Group, add_flags, add_section, flag, switch, typed
from training.config.flags import number
from training.config.settings import Parser


@dataclasses.dataclass(frozen=True)
class Question(Group):
    """What to show of the networks."""

    explained: Optional[str] = flag(
        '--class', metavar='CLASS', help="explain this class instead of the network's answer"
    )
    stage: Optional[List[str]] = flag(
        '--stage', action='append', metavar='STAGE', help='stage (1, 2, ...) or block (layer3.0); repeat for more'
    )
    top: int = flag('--top', type=number(int, 1), default=5, help='classes to name')
    gates: bool = switch('--gates', help='draw the gates of all attention units')
    connection: bool = switch('--connection', help='draw how much blocks rely on those before (dca_)')


def make_parser() -> Parser:
    parser = Parser(prog='explain.py', **described(__doc__))
    parser.add_argument('images', nargs='+', metavar='IMAGE', help='image files, folders, globs; -: paths on stdin')
    add_flags(parser, Question)
    parser.add_argument(
        '-o', '--output', metavar='FOLDER', help='pictures as PNG (default: explanations, unless --html or --json)'
    )
    parser.add_argument('--html', metavar='FILE', help='everything as one page that works offline')
    parser.add_argument('--json', metavar='FILE', help='write the figures to this file')
    add_section(parser, Networks)
    add_console_flags(parser)
    return parser


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    args = make_parser().parse_args(argv)
    heed_flags(vars(args))
    check_network_flags(typed(Networks, vars(args)))
    if args.output is None and args.html is None and args.json is None:
        args.output = 'explanations'
    return args


answer_flags(__name__, parse)
require_mxnet()

import numpy as np

from data.images import ImageError
from inference.explain.charts import GateGroup, draw_gates, draw_positions, draw_reliance, groups_of
from inference.explain.connection import Reliance, reliance
from inference.explain.deletion import centre_share
from inference.explain.drawing import draw_explanations, png
from inference.explain.explanation import Explanation, explain
from inference.explain.gates import Gate, GateReader
from inference.explain.gradcam import enlarged
from inference.explain.page import explanations_page
from inference.network import LoadedNetwork
from inference.sources import image_files

SHOWN = 3  # images whose gates are drawn by position
GATES = (
    'By depth, downwards, and channel: the mean over the images. Beside it the mean over the channels, with the spread '
    'between channels (band) and between images (dotted). Gates that depend on the position follow as maps.'
)
CONNECTIONS = (
    'How much each block relies on the attention of the block before it, 0 to 1. Weights: only the learned factors, as '
    'in DCANet. Signal: with how much the two attentions vary on these images.'
)


def titles_of(networks: Sequence[LoadedNetwork], files: Sequence[str]) -> List[str]:
    """Return the titles of the networks in pictures, including their files if names repeat."""
    names = [network.name for network in networks]
    return [name if names.count(name) == 1 else f'{name} ({file})' for name, file in zip(names, files)]


def readable(files: Sequence[str], network: LoadedNetwork) -> Tuple[List[str], List[str]]:
    """Return the files that are images, and a sentence for each of the others."""
    good, sentences = [], []
    for file in files:
        try:
            network.preprocessing.fit(file)
            good.append(file)
        except ImageError as error:
            sentences.append(str(error))
    return good, sentences


def class_number(wanted: str, network: LoadedNetwork) -> int:
    """Return the output that ``--class`` means, by its name or number."""
    names = network.class_names or ()
    if wanted in names:
        return names.index(wanted)
    count = len(names) or network.options.get('classes')
    if wanted.isdigit() and (count is None or int(wanted) < count):
        return int(wanted)
    near = difflib.get_close_matches(wanted, names, 3, 0.3) or names[:5]
    told = f'names such as {", ".join(near)}, or numbers' if near else 'numbers'
    raise UsageError(f'--class {wanted} is not a class of {network.name}; allowed are {told} from 0')


class Explained:
    """All findings: heat maps for each image and network, gates and connections for each network."""

    def __init__(
        self, question: Question, titles: Sequence[str], networks: Sequence[LoadedNetwork], files: Sequence[str]
    ) -> None:
        self.titles = titles
        self.files = files
        by_network, self.gates, self.connections = [], {}, {}
        self.pixels: Dict[str, List[np.ndarray]] = {}
        self.notes: List[str] = []
        for title, network in zip(self.titles, networks):
            pixels = [network.preprocessing.fit(file) for file in files]
            classes = None
            if question.explained is not None:
                classes = [class_number(question.explained, network)] * len(files)
            try:
                by_network.append(
                    explain(
                        network.net,
                        pixels,
                        network.preprocessing,
                        network.class_names,
                        classes,
                        question.stage,
                        names=files,
                        top=question.top,
                        probabilities=network.probabilities,
                    )  # fmt: skip
                )
            except ValueError as error:
                raise UsageError(f'--stage or --class: {error}') from error
            images = network.preprocessing.batch(np.stack(pixels))
            self.pixels[title] = pixels
            if question.gates:
                self._try(title, self.gates, lambda net=network.net, images=images: GateReader(net)(images))
            if question.connection:
                self._try(title, self.connections, lambda net=network.net, images=images: reliance(net, images))
        #: for each image, one of each network
        self.images: List[Tuple[Explanation, ...]] = list(zip(*by_network))
        for name, wanted, found in (
            ('gates', question.gates, self.gates),
            ('connection', question.connection, self.connections),
        ):
            if wanted and not found:
                raise UserError(f'--{name}: {self.notes[-1]}')

    def _try(self, title: str, table: Dict[str, Any], find: Any) -> None:
        try:
            table[title] = find()
        except ValueError as error:
            self.notes.append(f'{title}: {error}')

    def groups(self) -> List[Tuple[str, GateGroup]]:
        return [(title, group) for title, gates in self.gates.items() for group in groups_of(gates)]

    def gate_figures(self) -> List[Tuple[str, Any]]:
        """Return (what it shows, figure)."""
        figures = []
        for title, group in self.groups():
            first = group.gates[0]
            if first.values.shape[1] > 1:  # of a single map, the mean over space tells nothing
                figures.append((f'{title}, {group.title}', draw_gates(group, title)))
            if first.by_position is not None:
                drawn = draw_positions(group, title, self.pixels[title][:SHOWN])
                figures.append((f'{title}, {group.title}, by position', drawn))
        return figures


def file_name(text: str) -> str:
    """Return a file name for a picture's content."""
    return re.sub(r'[^\w.-]+', '-', text).strip('-.') or 'image'


def image_names(files: Sequence[str]) -> List[str]:
    """Return a name for each image's picture: the image's own, numbered where it repeats."""
    stems = [file_name(os.path.splitext(os.path.basename(file))[0]) for file in files]
    return [f'{stem}-{i + 1}' if stems.count(stem) > 1 else stem for i, stem in enumerate(stems)]


def write_pictures(new: Together, folder: str, found: Explained) -> List[str]:
    """Write PNG files to an existing folder; returns their paths."""
    figures = [
        (name, draw_explanations(row, found.titles)) for name, row in zip(image_names(found.files), found.images)
    ]
    figures += [(f'gates-{file_name(what)}', figure) for what, figure in found.gate_figures()]
    if found.connections:
        figures.append(('connection', draw_reliance(list(found.connections.items()))))
    paths = []
    for name, figure in figures:
        paths.append(os.path.join(folder, f'{name}.png'))
        content = png(figure)
        new.write(paths[-1], lambda file, content=content: file.write(content))
    return paths


def write_page(new: Together, path: str, found: Explained) -> None:
    charts = []
    if found.gates:
        charts.append(('Gates', GATES, found.gate_figures()))
    if found.connections:
        figure = draw_reliance(list(found.connections.items()))
        charts.append(('Connections', CONNECTIONS, [(', '.join(found.connections), figure)]))
    title = 'What the attention does: ' + ', '.join(found.titles)
    content = explanations_page(title, found.titles, found.images, charts)
    new.write(path, lambda file: file.write(content))


def image_figures(network: str, explanation: Explanation) -> Dict[str, Any]:
    size = explanation.pixels.shape[:2]
    name, probability = explanation.explained
    return {
        'image': explanation.image,
        'network': network,
        'explained': {'class': name, 'probability': probability},
        'classes': [{'class': name, 'probability': probability} for name, probability in explanation.answers],
        'stages': [
            {'stage': stage, 'size': list(heat.shape), 'centre_share': centre_share(enlarged(heat, size))}
            for stage, heat in explanation.maps.items()
        ],
    }


def gate_figures(network: str, gate: Gate) -> Dict[str, Any]:
    by_channel = gate.by_channel
    return {
        'network': network,
        'path': gate.path,
        'place': gate.place,
        'unit': gate.unit,
        'name': gate.name,
        'shape': list(gate.values.shape[1:]),
        'mean': float(gate.values.mean()),
        'min': float(gate.values.min()),
        'max': float(gate.values.max()),
        'spread_over_channels': float(by_channel.mean(axis=0).std()),
        'spread_over_images': float(by_channel.std(axis=0).mean()),
        'channels': [round(float(value), 6) for value in by_channel.mean(axis=0)],
    }


def figures_of(found: Explained) -> Dict[str, Any]:
    def row(network: str, one: Reliance) -> Dict[str, Any]:
        return {'network': network, **dataclasses.asdict(one)}

    return {
        'images': [image_figures(t, each) for image in found.images for t, each in zip(found.titles, image)],
        'gates': [gate_figures(title, gate) for title, gates in found.gates.items() for gate in gates],
        'connection': [row(title, one) for title, rows in found.connections.items() for one in rows],
    }


def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse(argv)
    params, networks = networks_from(typed(Networks, vars(args)))
    files = list(image_files(args.images))
    if not files:
        raise UserError(f'{" ".join(args.images)} contains no image; give image files, or folders that contain some')
    good, sentences = readable(files, networks[0])
    for sentence in sentences:
        print(f'error: {printable(sentence)}', file=sys.stderr)
    if not good:
        return 1
    if args.output:
        make_folder(args.output)
    for path in filter(None, (args.html, args.json)):  # which may be in that folder
        check_writable(path)
    with timed(f'explaining {len(good)} images'):
        found = Explained(typed(Question, vars(args)), titles_of(networks, params), networks, good)
    for note in found.notes:
        say(f'skipped: {printable(note)}')
    for row in found.images:
        for title, explanation in zip(found.titles, row):
            name, probability = explanation.answers[0]
            say(printable(f'{explanation.image}: {name}, {100 * probability:.1f} % ({title})'))
    with written_together() as new:
        pictures = write_pictures(new, args.output, found) if args.output else []
        if args.html:
            write_page(new, args.html, found)
        if args.json:
            new.write_json(args.json, figures_of(found))
    for path in pictures:
        say(f'picture: {path}')
    if args.html:
        say(f'page: {args.html}')
    return 1 if sentences else 0


if __name__ == '__main__':
    run_main(main)
