"""Learning rates of parts of a network: slower the further from the classifier, and one for the classifier."""

from typing import Any, Collection, Iterable, Optional

__all__ = ['set_rates']


def set_rates(
    net: Any, stages: Iterable[Any], head: Collection[str], decay: float = 1.0, head_share: Optional[float] = None
) -> None:
    """Say by `lr_mult` how much of the learning rate each parameter of `net` has.

    What comes before the stages is layer 0, each block of a stage one more, and all behind them the last, L: layer l
    has `decay^(L - l)`, as timm has it (Clark et al., ELECTRA, arXiv 2003.10555). Blocks that share a parameter have it
    in the layer of the first. What does not learn (`lr_mult` 0) stays so.

    Args:
        net: the network.
        stages: blocks of residual blocks, in order.
        head: structural names of the classifier's parameters.
        decay: factor from one layer to the one before it.
        head_share: what the head has in place of its layer's rate, if given.
    """
    layers, count = {}, 0
    for stage in stages:
        for block in stage:
            count += 1
            for parameter in block.collect_params().values():
                layers.setdefault(id(parameter), count)
    passed = False
    for name, parameter in net._collect_params_with_prefix().items():
        passed = passed or id(parameter) in layers
        layer = layers.get(id(parameter), count + 1 if passed else 0)
        if parameter.lr_mult:
            own = name in head and head_share is not None
            parameter.lr_mult = head_share if own else decay ** (count + 1 - layer)
