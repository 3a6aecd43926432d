r"""Train a detector, RetinaNet or Cascade R-CNN on a backbone with attention, on data in COCO's format.

    python train_detection.py --model retinanet_dca_se_resnet50_v1b --option adapter=bottleneck \
        --backbone-params BACKBONE.params --data-dir coco --num-gpus 8 --lr 0.01
    python train_detection.py --model retinanet_dca_se_resnet18_v1b --data-dir cells --short 240 --frozen-stages 0 \
        --train-norms --batch-size 8
    python train_detection.py --model cascade_rcnn_resnet50_v1b --data-dir coco --resume --save-dir runs/boxes

Defaults are those of DCANet's experiments: images of 1333x800, batch norms and the first stage of the backbone as they
came, 24 epochs. The number of threads is OMP_NUM_THREADS, by default the physical cores.
"""

import sys
from typing import List, Optional

import environment
from common.usage import described
from training.config.detection import DetectionSettings
from training.config.fields import SettingsParser


def make_parser() -> SettingsParser:
    return SettingsParser(DetectionSettings, prog='train_detection.py', **described(__doc__))


def main(argv: Optional[List[str]] = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    parser = make_parser()
    settings = parser.parse(argv)  # errors in the flags are reported before MXNet is loaded
    from detection.task import DetectionTask
    from training.run import run

    return run(parser, settings, argv, DetectionTask)


if __name__ == '__main__':
    environment.run_main(main)
