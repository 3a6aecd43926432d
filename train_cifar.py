"""Train a network on CIFAR-10, CIFAR-100, the embedded digits, or image files of your own.

    python train_cifar.py --dataset digits --model cifar_atac_resnet8_v2 --num-epochs 10 --batch-size 64
    python train_cifar.py --gpus 0 --num-epochs 400 --mode hybrid -j 32 --batch-size 128 --wd 0.0001 --lr 0.2 \\
        --lr-decay 0.1 --lr-decay-epoch 300,350 --dataset cifar100 --model atac --act-type ChaATAC --useReLU --r 2 \\
        --blocks 3

The flags are open-atac's, and more; they keep their names, defaults and meanings.
"""

import sys
from typing import List, Optional

import environment
from training.flags.open_atac import add_network_flags
from training.flags.options import (
    add_loss_flags,
    add_machine_flags,
    add_optimizer_flags,
    add_run_flags,
    add_schedule_flags,
    add_start_flags,
    add_teacher_flags,
    number,
    of_channels,
)
from training.flags.settings import Parser


def make_parser() -> Parser:
    parser = Parser(prog='train_cifar.py', description=__doc__.splitlines()[0], epilog='Threads: OMP_NUM_THREADS.')
    add_network_flags(parser)
    data = parser.add_argument_group('data')
    data.add_argument(
        '--dataset',
        default='cifar10',
        help='cifar10, cifar100 (100 classes), cifar100_coarse (its 20 superclasses, on which the '
        'original trained), '
        'digits, a folder of class folders, or a .rec file',
    )
    data.add_argument('--data-dir', default=None, help='where the archives of CIFAR are, or are downloaded to')
    data.add_argument(
        '--mean', type=of_channels(0), default=None, help="of R, G, B on the scale 0 to 1 (default: the data set's)"
    )
    data.add_argument(
        '--std',
        type=of_channels(0, open_low=True),
        default=None,
        help="that images are divided by after the mean is taken off (default: the data set's)",
    )
    data.add_argument('--batch-size', type=number(int, 1), default=32, help='images per device and step')
    data.add_argument(
        '-j',
        '--num-data-workers',
        type=number(int, 1),
        default=4,
        help='threads that decode image files at the start',
    )
    data.add_argument('--limit-train', type=number(int, 1), default=None, help='train on so many images, for a trial')
    data.add_argument('--limit-val', type=number(int, 1), default=None, help='validate on so many images, for a trial')
    add_schedule_flags(parser)
    add_optimizer_flags(parser)
    add_loss_flags(parser)
    add_teacher_flags(parser)
    add_start_flags(parser)
    add_machine_flags(parser)
    add_run_flags(parser)
    return parser


def main(argv: Optional[List[str]] = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    parser = make_parser()
    settings = parser.parse(argv)  # a fault in the flags is told before MXNet is loaded
    from training.run import run
    from training.tasks.cifar import TASK

    return run(parser, settings, argv, TASK)


if __name__ == '__main__':
    environment.run_main(main)
