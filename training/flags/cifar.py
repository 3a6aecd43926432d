"""The flags of train_cifar.py about its data. Defaults are open-atac's."""

from training.flags.options import number, of_channels
from training.flags.settings import Parser

__all__ = ['add_data_flags']


def add_data_flags(parser: Parser) -> None:
    group = parser.add_argument_group('data')
    group.add_argument(
        '--dataset',
        default='cifar10',
        help='cifar10, cifar100 (100 classes), cifar100_coarse (its 20 superclasses, on which the original trained), '
        'digits, a folder of class folders, or a .rec file',
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
    group.add_argument('--batch-size', type=number(int, 1), default=32, help='images per device and step')
    group.add_argument(
        '-j',
        '--num-data-workers',
        type=number(int, 1),
        default=4,
        help='threads that decode image files at the start',
    )
    group.add_argument('--limit-train', type=number(int, 1), default=None, help='train on so many images, for a trial')
    group.add_argument('--limit-val', type=number(int, 1), default=None, help='validate on so many images, for a trial')
