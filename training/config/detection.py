"""The flags of train_detection.py about detector and data. Defaults are those of DCANet's detection experiments."""

from training.config.flags import number, params_file, workers
from training.config.images import add_interpolation_flag
from training.config.model_options import add_option_flag
from training.config.settings import Parser

__all__ = ['add_data_flags', 'add_gradient_flags', 'add_network_flags', 'add_start_flags']


def add_network_flags(parser: Parser) -> None:
    group = parser.add_argument_group('detector')
    group.add_argument(
        '--model',
        default='retinanet_dca_se_resnet50_v1b',
        help='retinanet_ or cascade_rcnn_, and the name of a ResNet-v1b, with any attention',
    )
    add_option_flag(group)
    group.add_argument(
        '--frozen-stages',
        type=number(int, 0, 4),
        default=1,
        metavar='N',
        help='keep the stem and the first N stages of the backbone as they are; 0: all learn',
    )
    group.add_argument(
        '--train-norms',
        action='store_true',
        help="batch norms of the backbone take their batch's statistics, as they must in training from nothing, and "
        'not those they came with',
    )


def add_data_flags(parser: Parser) -> None:
    group = parser.add_argument_group('data')
    group.add_argument(
        '--data-dir',
        default='~/.mxnet/datasets/coco',
        help='folder with annotations/instances_train2017.json and train2017/, instances_val2017.json and val2017/; or '
        'other usual names, or train/_annotations.coco.json and valid/_annotations.coco.json',
    )
    for part, word in (('train', 'to train on'), ('val', 'to validate on')):
        group.add_argument(
            f'--{part}-annotations', default=None, metavar='JSON', help=f'of the images {word}, in COCO format'
        )
        group.add_argument(f'--{part}-images', default=None, metavar='FOLDER', help=f'the images {word}')
    group.add_argument(
        '--categories',
        default=None,
        help='names, or ids, with commas, in the order of the labels (default: all of the file, by id)',
    )
    group.add_argument('--short', type=number(int, 32), default=800, help='shorter side of images, at most, in pixels')
    group.add_argument('--max-size', type=number(int, 32), default=1333, help='longer side, at most, in pixels')
    add_interpolation_flag(group, 'images')
    group.add_argument('--no-flip', action='store_true', help='mirror no image; otherwise every second one')
    group.add_argument('--batch-size', type=number(int, 1), default=2, help='images per device and step')
    group.add_argument('-j', '--num-data-workers', type=workers, default=2, help='threads that decode images')
    group.add_argument(
        '--max-bad', type=number(int, 0), default=100, help='damaged images that are put up with; more end the run'
    )
    group.add_argument('--limit-train', type=number(int, 1), default=None, help='train on so many images, for a trial')
    group.add_argument('--limit-val', type=number(int, 1), default=None, help='validate on so many images, for a trial')


def add_gradient_flags(parser: Parser) -> None:
    group = parser.add_argument_group('gradient')
    group.add_argument(
        '--clip-norm',
        type=number(float, 0),
        default=35.0,
        help='longest gradient (L2 norm over all parameters) of a step, which longer ones are cut to; 0: none is',
    )


def add_start_flags(parser: Parser) -> None:
    group = parser.add_argument_group('start')
    group.add_argument(
        '--backbone-params',
        type=params_file,
        default=None,
        metavar='FILE',
        help="parameters of the backbone as a classifier, to start from: a .params file of ours or of GluonCV's",
    )
    group.add_argument(
        '--use-pretrained',
        action='store_true',
        help="likewise those that come with the project for this backbone, or GluonCV's, which are downloaded",
    )
    group.add_argument(
        '--init-params',
        type=params_file,
        default=None,
        metavar='FILE',
        help='start from a whole detector: a .params file or checkpoint, with as many classes',
    )
