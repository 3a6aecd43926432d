"""The flags that say which parameters a network starts from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Union

from training.config.fields import Group, flag
from training.config.flags import number, source_or_off
from training.config.weights_dir import weights_dir_flag

__all__ = ['StartSettings']


@dataclass(frozen=True)
class StartSettings(Group):
    """The initial parameters of the network."""

    title = 'fine-tuning'

    use_pretrained: Union[bool, str] = flag(
        '--use-pretrained',
        type=source_or_off,
        nargs='?',
        const='best',
        default=False,
        metavar='SOURCE',
        help='start from public weights of torchvision, timm, pytorchcv, gluoncv or open-atac, which are downloaded '
        '(timm:TAG or timm:MODEL.TAG for certain ones), from those that come with the project (cifar10), or from the '
        'best there are for this network if no SOURCE is given (default: off, which is none); the classifier starts '
        'afresh if it has another number of classes, and attention units and connections where there are weights '
        'without them only',
    )
    weights_dir: Optional[str] = weights_dir_flag('public weights, also of a --teacher')
    init_params: Optional[str] = flag(
        '--init-params',
        metavar='FILE',
        help='also from this .params file or checkpoint, or from the best parameters of this run folder',
    )
    freeze_stages: int = flag(
        '--freeze-stages',
        type=number(int, 0),
        default=0,
        metavar='N',
        help='freeze the first N stages and everything before them, including running statistics',
    )
