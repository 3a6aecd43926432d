"""Names that networks had before, which still load.

``cifar_resnet{N}_v1`` was a network of bottlenecks, as DIANet's, and is the one of basic blocks now that GluonCV and
pytorchcv call so. That with bottlenecks is ``cifar_resnet{N}bn_v1``.
"""

from __future__ import annotations

import re
from typing import Collection, Optional

__all__ = ['as_saved', 'former_network', 'renamed']

_FORMER = re.compile(r'(cifar_(?:[a-z][a-z0-9]*_)*resnet(\d+))(_v1)')
_OF_BOTTLENECKS = 164  # the one depth that both kinds of blocks give and that is only known of bottlenecks


def _bottlenecks(name: str) -> Optional[str]:
    """Return the name now of what ``name`` was, a network with bottlenecks; None if there was none of the name."""
    match = _FORMER.fullmatch(name)
    if match is None or (int(match[2]) - 2) % 9 or int(match[2]) < 11:
        return None
    return f'{match[1]}bn{match[3]}'


def renamed(name: str) -> Optional[str]:
    """Return the present name of a network by its former one; None if another network has that now, or none had it."""
    now = _bottlenecks(name)
    depth = int(_FORMER.fullmatch(name)[2]) if now else 0
    return now if now and ((depth - 2) % 6 or depth == _OF_BOTTLENECKS) else None


def as_saved(name: str, parameters: Collection[str]) -> str:
    """Return the present name of a network saved as ``name`` with ``parameters``, given by structural names."""
    return _bottlenecks(name) or name if any('.conv3.' in one for one in parameters) else name


def former_network(name: str, parameters: Collection[str]) -> Optional[str]:
    """Return a clause for parameters of the network that ``cifar_resnet{N}_v1`` was; None if they are not such.

    ``name`` is the class of the network that they do not fit.
    """
    if name != 'CifarBasicResNet' or not any('.conv3.' in one for one in parameters):
        return None
    return 'they are of bottlenecks, and cifar_resnet{N}_v1, which was a network of these, is cifar_resnet{N}bn_v1 now'
