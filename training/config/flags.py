"""The flags that training has in common, in groups. Defaults are open-atac's."""

from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any, Callable

from common.files import check_writable
from environment import UserError
from training.config.settings import Parser

__all__ = [
    'add_loss_flags',
    'add_machine_flags',
    'add_optimizer_flags',
    'add_run_flags',
    'add_schedule_flags',
    'add_start_flags',
    'add_teacher_flags',
    'number',
    'of_channels',
    'output_file',
    'params_file',
]


def number(
    kind: Callable[[str], Any],
    low: float,
    high: float = float('inf'),
    open_low: bool = False,
    open_high: bool = False,
) -> Callable[[str], Any]:
    """A type for argparse: an int or float within bounds. NaN and infinity are within none."""

    def convert(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        fits = value is not None and low <= value <= high and abs(value) != float('inf')
        if not fits or (open_low and value == low) or (open_high and value == high):
            noun = 'whole numbers' if kind is int else 'numbers'
            bounds = f'{"above" if open_low else "from"} {low}'
            if high != float('inf'):
                bounds += f' {"to below" if open_high else "to"} {high}'
            raise ArgumentTypeError(f'{text!r} is not allowed, {noun} {bounds} are')
        return value

    return convert


def workers(text: str) -> int:
    """A type for argparse: threads beside the main one. MXNet's loaders take 0, which is 1 here."""
    return max(1, number(int, 0)(text))


def epoch_list(text: str) -> str:
    """A type for argparse: whole numbers with commas, kept as the text."""
    parts = [part.strip() for part in text.split(',') if part.strip()]
    if not all(part.isdigit() for part in parts):
        raise ArgumentTypeError(f'{text!r} is not allowed, epoch numbers with commas such as 40,60 are')
    return ','.join(parts)


def of_channels(low: float, open_low: bool = False) -> Callable[[str], str]:
    """A type for argparse: a number for each of R, G, B with commas, kept as the text."""
    one = number(float, low, open_low=open_low)

    def convert(text: str) -> str:
        parts = [part.strip() for part in text.split(',')]
        if len(parts) != 3:
            raise ArgumentTypeError(f'{text!r} is not allowed, three numbers with commas such as 0.49,0.48,0.45 are')
        for part in parts:
            one(part)
        return ','.join(parts)

    return convert


def output_file(text: str) -> str:
    """A type for argparse: a file that is written when all is computed; `UserError` where it cannot be."""
    check_writable(text)
    return text


def params_file(text: str) -> str:
    """Convert a flag for argparse: a .params file, or the folder of a run, which stands for its best parameters.

    Raises:
        UserError: the folder holds no best parameters, and not exactly one other .params file.
    """
    folder = Path(text)
    if not folder.is_dir():
        return text
    best = list(folder.glob('*-best.params'))
    if best:
        return str(max(best, key=lambda path: path.stat().st_mtime))  # each is better than those before it
    others = sorted(folder.glob('*.params'))
    if len(others) == 1:
        return str(others[0])
    held = ', '.join(path.name for path in others[:3]) or 'no .params file'
    raise UserError(f'{text} is a folder without best parameters (it has {held}); give the path of a .params file')


def add_schedule_flags(parser: Parser, epochs: int = 1, by_steps: bool = False) -> None:
    """With `by_steps` the warm-up is one of so many steps, mmdetection's."""
    group = parser.add_argument_group('learning rate')
    group.add_argument('--num-epochs', type=number(int, 1), default=epochs, help='passes over the training images')
    group.add_argument(
        '--lr', type=number(float, 0, open_low=True), default=0.1, help='learning rate after the warm-up'
    )
    group.add_argument(
        '--lr-mode',
        choices=('step', 'cosine', 'poly'),
        default='step',
        help='fall by --lr-decay at some epochs, or to 0 along a cosine or a parabola',
    )
    group.add_argument('--lr-decay', type=number(float, 0), default=0.1, help='factor of a step')
    group.add_argument(
        '--lr-decay-epoch',
        type=epoch_list,
        default='40,60',
        help='epochs, counted from 0, at whose start a step is made',
    )
    group.add_argument(
        '--lr-decay-period',
        type=number(int, 0),
        default=0,
        help='if above 0, a step every so many epochs instead',
    )
    if by_steps:
        group.add_argument('--warmup-steps', type=number(int, 0), default=500, help='steps of linear warm-up')
        group.add_argument(
            '--warmup-ratio',
            type=number(float, 0, 1),
            default=1 / 3,
            help="share of the learning rate at the warm-up's start",
        )
    else:
        group.add_argument(
            '--warmup-epochs', type=number(int, 0), default=0, help='epochs of linear warm-up, part of all'
        )
        group.add_argument(
            '--warmup-lr', type=number(float, 0), default=0.0, help="learning rate at the warm-up's start"
        )
    group.add_argument(
        '--scale-lr',
        type=number(int, 1),
        nargs='?',
        const=256,
        default=None,
        metavar='IMAGES',
        help=f'take --lr{"" if by_steps else " and --warmup-lr"} as meant for steps of so many images (256 if given '
        'without a number): scale to the images per step of all devices and processes',
    )


def add_optimizer_flags(parser: Parser) -> None:
    group = parser.add_argument_group('optimizer')
    group.add_argument(
        '--optimizer',
        choices=('nag', 'sgd', 'muon'),
        default='nag',
        help="gradient descent with Nesterov's or plain momentum, or with the steps of convolutions made orthogonal",
    )
    group.add_argument(
        '--muon-scale',
        type=number(float, 0, open_low=True),
        default=0.2,
        help='of --lr, for the orthogonal steps of --optimizer muon: of convolutions without bias or groups, of 8 '
        'filters and 8 channels or more; a learning rate R of the original Muon is --lr R / SCALE',
    )
    group.add_argument('--momentum', type=number(float, 0, 1, open_high=True), default=0.9, help='momentum')
    group.add_argument(
        '--wd',
        type=number(float, 0),
        default=0.0001,
        help='weight decay; it goes through the momentum, with --optimizer muon too, so that a decay D of the original '
        'Muon is --wd D * SCALE * (1 - MOMENTUM), with --muon-scale SCALE',
    )
    group.add_argument(
        '--no-wd', action='store_true', help='no weight decay for biases and for gamma and beta of norms'
    )
    group.add_argument(
        '--no-wd-depthwise', action='store_true', help='no weight decay for convolutions with groups, depth-wise ones'
    )
    group.add_argument(
        '--wd-layer-norm', action='store_true', help='with --no-wd: nonetheless for gamma of layer norms'
    )


def add_loss_flags(parser: Parser) -> None:
    group = parser.add_argument_group('loss')
    group.add_argument(
        '--label-smoothing',
        type=number(float, 0, 1, open_high=True),
        nargs='?',
        const=0.1,
        default=0.0,
        metavar='ETA',
        help='share of the label that is spread over all classes; 0.1 if given without a number',
    )
    group.add_argument('--mixup', action='store_true', help='train on mixtures of two images')
    group.add_argument(
        '--mixup-alpha',
        type=number(float, 0, open_low=True),
        default=0.2,
        help='mixture shares ~ Beta(alpha, alpha)',
    )
    group.add_argument('--mixup-off-epoch', type=number(int, 0), default=0, help='the last epochs do without mixup')


def add_teacher_flags(parser: Parser) -> None:
    group = parser.add_argument_group('distillation and averaging')
    group.add_argument(
        '--teacher',
        default=None,
        help="network to learn from: a .params file with its manifest, or a name of GluonCV's zoo, which is downloaded",
    )
    group.add_argument(
        '--teacher-params',
        default=None,
        metavar='FILE',
        help="parameters of --teacher, which then is any name of ours or of GluonCV's",
    )
    group.add_argument(
        '--temperature',
        type=number(float, 0, open_low=True),
        default=20.0,
        help='of the softmax of teacher and student',
    )
    group.add_argument(
        '--hard-weight', type=number(float, 0), default=0.5, help='weight of the labels; 1 or more: no distillation'
    )
    group.add_argument(
        '--ema',
        type=number(float, 0, 1, open_low=True, open_high=True),
        default=None,
        metavar='DECAY',
        help='validate and save a moving average of the weights, such as 0.9999',
    )


def add_start_flags(parser: Parser) -> None:
    group = parser.add_argument_group('fine-tuning')
    group.add_argument(
        '--use-pretrained',
        action='store_true',
        help="start from the parameters that come with the project for this network, or from GluonCV's; the classifier "
        'starts afresh if it has another number of classes',
    )
    group.add_argument(
        '--init-params',
        type=params_file,
        default=None,
        metavar='FILE',
        help='likewise from this .params file or checkpoint, or from the best parameters of this run folder',
    )
    group.add_argument(
        '--freeze-stages',
        type=number(int, 0),
        default=0,
        metavar='N',
        help='keep the first N stages and what is before them as they are, with their running statistics',
    )


def add_machine_flags(parser: Parser, count_gpus: bool = False, precisions: bool = True) -> None:
    """Without `precisions` there is no --dtype."""
    group = parser.add_argument_group('machine')
    if count_gpus:
        group.add_argument('--num-gpus', type=number(int, 0), default=0, help='how many GPUs; 0 is the CPU')
    else:
        group.add_argument(
            '--gpus', default='0', help="numbers of the GPUs, with commas; the CPU if none is visible or for ''"
        )
    group.add_argument(
        '--horovod',
        action='store_true',
        help='one of several processes that train together, started by horovodrun; each takes --batch-size images of a '
        'step, and one GPU or the CPU',
    )
    if precisions:
        group.add_argument(
            '--dtype',
            choices=('float32', 'float16', 'bfloat16'),
            default='float32',
            help='number format of the network: float16 on GPUs, bfloat16 on CPUs that have it',
        )
    group.add_argument(
        '--mode',
        choices=('auto', 'imperative', 'hybrid', 'static'),
        default='auto',
        help='how the network runs: op by op, as a graph, as a graph with fixed memory, or what is fastest here',
    )
    group.add_argument(
        '--max-skipped',
        type=number(int, 0),
        default=5,
        help='steps in a row whose loss or gradient is not finite are skipped; more than so many stop the run',
    )
    group.add_argument(
        '--seed', type=number(int, 0, 2**31 - 1), default=0, help='determines every random number of a run'
    )


def add_run_flags(
    parser: Parser,
    save_flag: str = '--save-period',
    log_file: str = 'train.log',
    log_interval: int = 0,
    from_epoch: bool = False,
) -> None:
    group = parser.add_argument_group('run')
    group.add_argument(
        '--save-dir',
        default=None,
        help='folder of the run (default: a folder in params/ named by data set, model and what else is not a default)',
    )
    group.add_argument(
        save_flag,
        dest='save_period',
        type=number(int, 0),
        default=10,
        help='epochs between saved parameters; 0: only last',
    )
    group.add_argument(
        '--logging-file', default=log_file, help="text log, inside the run's folder unless absolute; appended to"
    )
    group.add_argument(
        '--log-interval', type=number(int, 0), default=log_interval, help='batches between lines of the log; 0: none'
    )
    group.add_argument(
        '--save-plot-dir',
        default='.',
        help="folder of the error curve, inside the run's folder unless absolute",
    )
    group.add_argument(
        '--checkpoint-interval',
        type=number(int, 0),
        default=200,
        help='batches between checkpoints; 0: after epochs only',
    )
    group.add_argument('--keep', type=number(int, 1), default=3, help='checkpoints to keep')
    group.add_argument(
        '--resume', action='store_true', help="go on from the newest intact checkpoint of the run's folder"
    )
    group.add_argument(
        '--resume-params' if from_epoch else '--resume-from',
        dest='resume_from',
        default=None,
        metavar='FILE',
        help='start from the parameters in this .params file or checkpoint'
        + (', at --resume-epoch' if from_epoch else ', at epoch 0'),
    )
    if from_epoch:
        group.add_argument(
            '--resume-states', default=None, metavar='FILE', help="and with the optimizer's state in this checkpoint"
        )
        group.add_argument('--resume-epoch', type=number(int, 0), default=0, help='the epoch to start at, from 0')
    group.add_argument('--tensorboard', action='store_true', help="write events for TensorBoard into the run's folder")
    group.add_argument('--no-report', action='store_true', help="leave no report.html in the run's folder")
    group.add_argument('--config', default=None, metavar='YAML', help='file of flags; the command line overrides it')
    group.add_argument('--json', default=None, metavar='FILE', help='write the final figures there')
