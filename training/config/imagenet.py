"""The flags of train_imagenet.py about network and data. Defaults are open-atac's."""

from training.config.flags import number, workers
from training.config.images import add_interpolation_flag
from training.config.model_options import add_option_flag
from training.config.settings import Parser

__all__ = ['add_data_flags', 'add_network_flags']


def add_network_flags(parser: Parser) -> None:
    group = parser.add_argument_group('network')
    group.add_argument(
        '--model',
        default=None,
        help="a name such as atac_resnet50_v1b, which the next flags change where they are given (default: open-atac's "
        'ResNet-50 v1b, which they describe)',
    )
    group.add_argument(
        '--act-type',
        default=None,
        help='relu, ChaATAC and other units (default: ChaATAC; for a name, its own)',
    )
    group.add_argument(
        '--r',
        type=number(int, 1),
        default=None,
        help='channel reduction in ATAC units (default: 4; for a name, its own)',
    )
    group.add_argument(
        '--act-layers',
        type=number(int, 0),
        default=None,
        help='stages with --act-type, from the end (default: 2; for a name, its own)',
    )
    group.add_argument(
        '--last-gamma',
        action='store_true',
        help='the last norm of every block starts at 0: it begins as identity',
    )
    group.add_argument(
        '--use-gn', action='store_true', help='group norm in place of batch norm, outside the activation units'
    )
    group.add_argument('--use_se', action='store_true', help='squeeze-and-excitation in every block (se_ in names)')
    group.add_argument(
        '--batch-norm', action='store_true', help='obsolete: it spoke of VGG; networks here have batch norm without it'
    )
    add_option_flag(group)
    group.add_argument('--summary', action='store_true', help='print the layers and end')


def add_data_flags(parser: Parser) -> None:
    group = parser.add_argument_group('data')
    group.add_argument(
        '--data-dir',
        default='~/.mxnet/datasets/imagenet',
        help='folder of train/ and val/ (or other usual names), each with a folder for each class, or its tar file; '
        'without parts every fifth image is held out',
    )
    for part in ('train', 'val'):
        group.add_argument(f'--rec-{part}', default=None, help=f'RecordIO file (default: rec/{part}.rec in --data-dir)')
        group.add_argument(f'--rec-{part}-idx', default=None, help=f'its index (default: rec/{part}.idx in --data-dir)')
    group.add_argument('--use-rec', action='store_true', help='read RecordIO files in place of folders')
    group.add_argument('--batch-size', type=number(int, 1), default=32, help='images per device and step')
    group.add_argument(
        '-j', '--num-data-workers', type=workers, default=4, help='threads that decode and change images'
    )
    group.add_argument(
        '--cache',
        choices=('off', 'auto', '256'),
        default='auto',
        help='decoded images kept in memory: none, all if they fit, or all brought to a short side of 256 pixels first',
    )
    group.add_argument(
        '--max-bad',
        type=number(int, 0),
        default=100,
        help='images that cannot be decoded and are left out; more end the run',
    )
    group.add_argument('--classes', type=number(int, 2), default=None, help='classes (default: as many as in the data)')
    group.add_argument('--limit-train', type=number(int, 1), default=None, help='train on so many images, for a trial')
    group.add_argument('--limit-val', type=number(int, 1), default=None, help='validate on so many images, for a trial')
    group.add_argument(
        '--benchmark',
        type=number(int, 1),
        nargs='?',
        const=100,
        default=None,
        metavar='STEPS',
        help='train on noise in place of the files that other flags name, with so many steps an epoch (100 if given '
        'without a number)',
    )
    group.add_argument(
        '--wrap-val',
        action='store_true',
        help='validate as the original: the last batch is filled up with the first images, the next validation begins '
        'after these, so that some count twice or not at all (default: every image once)',
    )
    group.add_argument('--data-only', action='store_true', help='say how fast the training data alone come, and end')
    group.add_argument(
        '--min-area',
        type=number(float, 0, 1, open_low=True),
        default=0.08,
        help='training cuts out this share of an image at least',
    )
    group.add_argument(
        '--max-aspect',
        type=number(float, 1, 100),
        default=4 / 3,
        help="the cut's longer side over its shorter one at most",
    )
    group.add_argument(
        '--jitter',
        type=number(float, 0, 1),
        default=0.4,
        help='brightness, contrast and saturation of a cut change by up to this share',
    )
    group.add_argument(
        '--lighting',
        type=number(float, 0, 10),
        default=0.1,
        help="standard deviation of the noise along the principal components of ImageNet's colours",
    )
    group.add_argument('--input-size', type=number(int, 1), default=224, help="side of the network's input in pixels")
    group.add_argument(
        '--crop-ratio',
        type=number(float, 0, 1, open_low=True),
        default=0.875,
        help='validation cuts this share out of the centre of the short side',
    )
    add_interpolation_flag(group, 'cuts')
