r"""Train a network on CIFAR-10, CIFAR-100, the embedded digits, or image files of your own.

    python train_cifar.py --dataset digits --model cifar_atac_resnet8_v2 --num-epochs 10 --batch-size 64
    python train_cifar.py --gpus 0 --num-epochs 400 --mode hybrid -j 32 --batch-size 128 --wd 0.0001 --lr 0.2 \
        --lr-decay 0.1 --lr-decay-epoch 300,350 --dataset cifar100 --model atac --act-type ChaATAC --useReLU --r 2 \
        --blocks 3
    python train_cifar.py --dataset photos --model cifar_se_resnet20_v2 --init-params runs/start --save-dir runs/photos

The flags are open-atac's, and more; they keep their names, defaults and meanings. The number of threads is
OMP_NUM_THREADS, by default that of the physical cores.
"""

import sys
from typing import List, Optional

import environment
from common.usage import described
from training.config.cifar import CifarSettings
from training.config.fields import SettingsParser


def make_parser() -> SettingsParser:
    return SettingsParser(CifarSettings, prog='train_cifar.py', **described(__doc__))


def main(argv: Optional[List[str]] = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    parser = make_parser()
    settings = parser.parse(argv)  # errors in the flags are reported before MXNet is loaded
    from inference.explain_saved import explain_saved
    from inference.network import load_network
    from training.run import run
    from training.task import TrainedNetworks
    from training.tasks.cifar import CifarTask

    return run(parser, settings, argv, CifarTask, TrainedNetworks(load_network, explain_saved))


if __name__ == '__main__':
    environment.run_main(main)
