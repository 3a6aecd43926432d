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
from training.config.cifar import add_data_flags, add_network_flags
from training.config.flags import (
    add_loss_flags,
    add_machine_flags,
    add_optimizer_flags,
    add_run_flags,
    add_schedule_flags,
    add_start_flags,
    add_teacher_flags,
)
from training.config.settings import Parser


def make_parser() -> Parser:
    parser = Parser(prog='train_cifar.py', description=__doc__.splitlines()[0], epilog='Threads: OMP_NUM_THREADS.')
    add_network_flags(parser)
    add_data_flags(parser)
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
