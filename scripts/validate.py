"""Score saved parameters on a dataset: top-1, top-5 and loss, or a detector's six APs, every image exactly once.

python scripts/validate.py --params runs/photos
python scripts/validate.py --params runs/photos --dataset pets --precision int8 --calibration pets/train
python scripts/validate.py --params runs/detector --annotations instances_val2017.json --images val2017
"""

import _bootstrap  # noqa: F401
from environment import answer_flags, require_mxnet, run_main  # isort: split

import argparse
from functools import partial
from typing import Optional, Sequence

from _network_flags import Detector, Network, check_network_flags, network_from, refuse_others
from _precision_flags import FLAGS, Speed, check_precision_flags
from _scoring_flags import Annotated, Data, Scoring
from common.console import say
from common.files import write_json, write_text
from common.text import printable
from common.usage import described
from training.config.console import add_console_flags, heed_flags
from training.config.fields import add_flags, add_section, typed
from training.config.flags import output_file
from training.config.settings import Parser

# Flags that only apply to networks of one task.
ONLY = {
    'classification': ('dataset', 'size', 'resize', 'class_names', *FLAGS),
    'detection': ('annotations', 'images', 'results', 'short', 'max_size'),
}


def make_parser() -> Parser:
    parser = Parser(prog='validate.py', **described(__doc__))
    add_section(parser, Data)
    add_section(parser, Speed)
    add_section(parser, Network)
    add_flags(add_section(parser, Detector), Annotated)
    parser.add_argument('--json', type=output_file, metavar='FILE', help='write the figures to this file')
    parser.add_argument(
        '--csv',
        type=output_file,
        metavar='FILE',
        help='write those of each class there: precision, recall, F1 and images; of a detector its AP',
    )
    add_console_flags(parser)
    return parser


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    args = make_parser().parse_args(argv)
    heed_flags(vars(args))
    check_network_flags(typed(Network, vars(args)))
    check_precision_flags(typed(Speed, vars(args)), args.mode, args.gpus)
    return args


answer_flags(__name__, parse)
require_mxnet()

from _by_class import classes_csv
from _scoring import score


def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse(argv)
    values = vars(args)
    others = partial(refuse_others, make_parser(), values, ONLY)
    found = network_from(typed(Network, values), typed(Detector, values), others)
    scoring = Scoring(typed(Data, values), typed(Annotated, values), typed(Speed, values))
    scored = score(found.network, found, scoring)
    for line in scored.lines:
        say(printable(line))
    if args.json:
        write_json(args.json, scored.figures)
    if args.csv:
        write_text(args.csv, classes_csv(scored.by_class))
    return 0


if __name__ == '__main__':
    run_main(main)
