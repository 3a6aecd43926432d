"""Choose how a network runs: operator by operator, as a graph, or as a graph with fixed memory."""

from __future__ import annotations

from typing import Any, Dict

__all__ = ['MODES', 'apply_mode']

#: What `hybridize` gets; None: not called.
MODES: Dict[str, Any] = {
    'imperative': None,
    'hybrid': {},
    'static': {'static_alloc': True, 'static_shape': True},
}


def apply_mode(net: Any, mode: str) -> None:
    """Hybridize ``net`` as the mode says. Raises ``ValueError`` for a mode that is not in ``MODES``."""
    if mode not in MODES:
        raise ValueError(f'mode is {mode!r}; allowed: {", ".join(MODES)}')
    if MODES[mode] is not None:
        net.hybridize(**MODES[mode])
