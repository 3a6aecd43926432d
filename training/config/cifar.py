"""The flags of train_cifar.py about network and data. Defaults are open-atac's."""

from data.choices import BORDERS, FLIPS
from training.config.flags import number, of_channels, workers
from training.config.images import add_interpolation_flag
from training.config.model_options import add_option_flag
from training.config.settings import Parser

__all__ = ['add_data_flags', 'add_network_flags']


def add_network_flags(parser: Parser) -> None:
    group = parser.add_argument_group('network')
    group.add_argument(
        '--model',
        default='xxx',
        help='a name such as cifar_atac_resnet20_v2, which the next flags change where they are given; '
        "or 'atac', the original's network, which they describe",
    )
    group.add_argument(
        '--blocks',
        type=number(int, 0),
        default=0,
        help='blocks per stage b of --model atac; the depth is 6 b + 2',
    )
    group.add_argument(
        '--act-type',
        default='xxx',
        help='relu, prelu, elu, selu, gelu, swish, xUnit, ChaATAC, SpaATAC, SeqATAC',
    )
    group.add_argument('--r', type=number(int, -1), default=-1, help='channel reduction in ATAC units')
    group.add_argument(
        '--act-layers',
        type=number(int, 0),
        default=None,
        help='places with --act-type, from the end: tail, stages 3, 2, 1 (default: all 4; for a name, its own)',
    )
    group.add_argument('--useGlobal', action='store_true', help='global in place of local context in ATAC units')
    group.add_argument('--useReLU', action='store_true', help='a ReLU inside ATAC units')
    group.add_argument(
        '--drop-rate',
        type=number(float, 0, 1, open_high=True),
        default=0.0,
        help='dropout before the classifier',
    )
    group.add_argument(
        '--block-drop',
        type=number(float, 0, 1, open_high=True),
        default=0.0,
        help='dropout in the blocks of wide ResNets',
    )
    add_option_flag(group)
    group.add_argument('--summary', action='store_true', help='print the layers, then train')


def add_data_flags(parser: Parser) -> None:
    group = parser.add_argument_group('data')
    group.add_argument(
        '--dataset',
        default='cifar10',
        help='cifar10, cifar100 (100 classes), cifar100_coarse (its 20 superclasses, on which the original trained), '
        'digits, a folder of class folders, directly or below train/ and val/ (or other usual names), a tar file of '
        'one (.tar, .tar.gz, ...), or a .rec file',
    )
    group.add_argument('--data-dir', default=None, help='where the archives of CIFAR are, or are downloaded to')
    group.add_argument(
        '--mean', type=of_channels(0), default=None, help="of R, G, B on the scale 0 to 1 (default: the data set's)"
    )
    group.add_argument(
        '--std',
        type=of_channels(0, open_low=True),
        default=None,
        help="that images are divided by after the mean is taken off (default: the data set's)",
    )
    group.add_argument(
        '--crop-pad',
        type=number(int, 0, 1024),
        default=None,
        help="pixels that training images are shifted by at most (default: the data set's; 4, and 2 for digits)",
    )
    group.add_argument(
        '--crop-border',
        choices=BORDERS,
        default=None,
        help="what moves in then: black, or the image mirrored at its edge (default: the data set's, black)",
    )
    group.add_argument(
        '--flip',
        choices=FLIPS,
        default=None,
        help='flip training images left and right: half of them at random, each in every second epoch, or none '
        "(default: the data set's; random, and off for digits)",
    )
    add_interpolation_flag(group, 'image files')
    group.add_argument('--batch-size', type=number(int, 1), default=32, help='images per device and step')
    group.add_argument(
        '-j',
        '--num-data-workers',
        type=workers,
        default=4,
        help='threads that decode image files at the start',
    )
    group.add_argument('--limit-train', type=number(int, 1), default=None, help='train on so many images, for a trial')
    group.add_argument('--limit-val', type=number(int, 1), default=None, help='validate on so many images, for a trial')
