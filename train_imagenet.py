r"""Train a network on ImageNet, from RecordIO files or image folders.

    python train_imagenet.py --data-dir photos --model se_resnet50_v1b --num-epochs 20 --lr 0.01
    python train_imagenet.py --model resnet18_v1b --data-only --data-dir photos
    python train_imagenet.py --mode hybrid --lr 0.075 --lr-mode cosine --num-epochs 160 --batch-size 128 --num-gpus 2 \
        -j 48 --warmup-epochs 5 --dtype float16 --use-rec --last-gamma --no-wd --label-smoothing \
        --save-dir params_resnet50_v1b_ChaATAC_2 --logging-file resnet50_v1b_ChaATAC_2.log --r 2 --act-layers 2

The flags are open-atac's, and more; they keep their names, defaults and meanings. The number of threads is
OMP_NUM_THREADS, by default that of the physical cores.
"""

import sys
from typing import List, Optional

import environment
from common.usage import described
from training.config.fields import SettingsParser
from training.config.imagenet import ImagenetSettings


def make_parser() -> SettingsParser:
    return SettingsParser(ImagenetSettings, prog='train_imagenet.py', **described(__doc__))


def main(argv: Optional[List[str]] = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    parser = make_parser()
    settings = parser.parse(argv)  # errors in the flags are reported before MXNet is loaded
    from inference.explain_saved import explain_saved
    from inference.network import load_network
    from training.run import run
    from training.task import TrainedNetworks
    from training.tasks.imagenet import ImagenetTask

    return run(parser, settings, argv, ImagenetTask, TrainedNetworks(load_network, explain_saved))


if __name__ == '__main__':
    environment.run_main(main)
