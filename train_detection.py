"""Train a detector, RetinaNet or Cascade R-CNN on a backbone with attention, on data in COCO's format.

    python train_detection.py --model retinanet_dca_se_resnet50_v1b --option adapter=bottleneck \\
        --backbone-params BACKBONE.params --data-dir coco --num-gpus 8 --lr 0.01
    python train_detection.py --model retinanet_dca_se_resnet18_v1b --data-dir cells --short 240 --frozen-stages 0 \\
        --train-norms --batch-size 8

Defaults are those of DCANet's experiments: images of 1333x800, batch norms and the first stage of the backbone as they
came, 24 epochs.
"""

import sys
from typing import List, Optional

import environment
from training.config.detection import add_data_flags, add_gradient_flags, add_network_flags, add_start_flags
from training.config.flags import add_machine_flags, add_optimizer_flags, add_run_flags, add_schedule_flags
from training.config.settings import Parser


def make_parser() -> Parser:
    parser = Parser(prog='train_detection.py', description=__doc__.splitlines()[0], epilog='Threads: OMP_NUM_THREADS.')
    add_network_flags(parser)
    add_data_flags(parser)
    add_schedule_flags(parser, epochs=24, by_steps=True)
    add_optimizer_flags(parser)
    add_gradient_flags(parser)
    add_start_flags(parser)
    add_machine_flags(parser, count_gpus=True, precisions=False)
    add_run_flags(parser, log_interval=50)
    parser.set_defaults(lr=0.01, lr_decay_epoch='16,22', optimizer='sgd', mode='hybrid')
    # What the other training scripts have flags for, and detectors go without.
    parser.set_defaults(dtype='float32', summary=False, mixup=False, ema=None)
    return parser


def main(argv: Optional[List[str]] = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    parser = make_parser()
    settings = parser.parse(argv)  # a fault in the flags is told before MXNet is loaded
    from detection.task import TASK
    from training.run import run

    return run(parser, settings, argv, TASK)


if __name__ == '__main__':
    environment.run_main(main)
