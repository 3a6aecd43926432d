"""GE-theta, gather-excite without parameters."""

from __future__ import annotations

from typing import Any

from model.attention.unit import ChannelUnit

__all__ = ['GE']


class GE(ChannelUnit):
    """``x * sigmoid(mean(x))``, ``(N, C, H, W)`` in and out, no parameters.

    Hu, Shen, Albanie, Sun, Vedaldi, "Gather-Excite", arXiv 1810.12348, the parameter-free form with global extent.
    """

    def __init__(self, channels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channels = channels

    def transform(self, F: Any, mean: Any) -> Any:
        return F.Activation(mean, act_type='sigmoid')
