"""Train a network on ImageNet, from RecordIO files or image folders.

    python train_imagenet.py --mode hybrid --lr 0.075 --lr-mode cosine --num-epochs 160 --batch-size 128 --num-gpus 2 \\
        -j 48 --warmup-epochs 5 --dtype float16 --use-rec --last-gamma --no-wd --label-smoothing \\
        --save-dir params_resnet50_v1b_ChaATAC_2 --logging-file resnet50_v1b_ChaATAC_2.log --r 2 --act-layers 2

The flags are open-atac's, and more; they keep their names, defaults and meanings.
"""

import sys
from typing import List, Optional

import environment
from training.config.flags import (
    add_loss_flags,
    add_machine_flags,
    add_optimizer_flags,
    add_run_flags,
    add_schedule_flags,
    add_start_flags,
    add_teacher_flags,
)
from training.config.imagenet import add_data_flags, add_network_flags
from training.config.settings import Parser


def make_parser() -> Parser:
    parser = Parser(prog='train_imagenet.py', description=__doc__.splitlines()[0], epilog='Threads: OMP_NUM_THREADS.')
    add_network_flags(parser)
    add_data_flags(parser)
    add_schedule_flags(parser, epochs=3)
    add_optimizer_flags(parser)
    add_loss_flags(parser)
    add_teacher_flags(parser)
    add_start_flags(parser)
    add_machine_flags(parser, count_gpus=True)
    add_run_flags(parser, '--save-frequency', 'train_imagenet.log', log_interval=50, from_epoch=True)
    return parser


def main(argv: Optional[List[str]] = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    parser = make_parser()
    settings = parser.parse(argv)  # a fault in the flags is told before MXNet is loaded
    from training.run import run
    from training.tasks.imagenet import TASK

    return run(parser, settings, argv, TASK)


if __name__ == '__main__':
    environment.run_main(main)
